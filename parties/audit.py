"""`party audit verify`: reads an egress log (`parties.egress`), checks its chain and totals, and compares it
with a peer's: what one says that it sent, the other must say that it received."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from parties.chain import FIRST, following
from parties.egress import CHAIN, LONGEST, Totals, earlier
from parties.errors import AccountError, StorageError

DONE: Final = "done"
HANDSHAKE: Final = {"hello", "hellos", "agree", "agreed"}
"""Kinds of messages that leave before the log of a run is there."""


@dataclass
class Attempt:
    """sent: added up from the lines. received: as the end says. end: how it ended; None: it was killed."""

    sent: Totals = field(default_factory=dict)
    received: Totals | None = None
    end: str | None = None


@dataclass
class Log:
    """size: bytes that left. head: the last link, 32 bytes. torn: bytes of a last line that a kill left
    unfinished."""

    path: Path
    run: str = ""
    party: str = ""
    attempts: dict[str, Attempt] = field(default_factory=dict)
    messages: int = 0
    size: int = 0
    head: bytes = FIRST
    torn: int = 0

    def described(self) -> dict[str, Any]:
        """As JSON has it."""
        return {
            "log": str(self.path),
            "run": self.run,
            "party": self.party,
            "messages": self.messages,
            "bytes": self.size,
            "head": self.head.hex(),
            "unfinished_line_bytes": self.torn,
            "attempts": {
                name: {"end": one.end, "sent": one.sent, "received": one.received}
                for name, one in self.attempts.items()
            },
        }


def read(path: Path) -> Log:
    """The log, with the files before its last. Raises AccountError, with the line's number, for one that is
    not as it was written, and StorageError for a file that cannot be read."""
    log, current, files = Log(path), Attempt(), earlier(path)
    if path.exists() or not files:
        files.append(path)
    for one in files:
        current = _read(log, current, one, last=one == path)
    if not log.attempts:
        raise AccountError(f"{path} holds no attempt: it is no audit log")
    return log


def _read(log: Log, current: Attempt, path: Path, last: bool) -> Attempt:
    """Add what a file has; the attempt that is under way at its end."""
    try:
        with path.open("rb") as file:
            for number, line in enumerate(iter(lambda: file.readline(LONGEST), b""), 1):
                if last and not line.endswith(b"\n") and len(line) < LONGEST:
                    log.torn = len(line)  # only the last line can lack its end
                    break
                try:
                    entry, log.head = following(CHAIN, log.head, line[:-1])
                    current = _take(log, current, entry)
                except (ValueError, KeyError, TypeError) as error:
                    why = error if type(error) is ValueError else "is no entry of such a log"
                    raise AccountError(
                        f"{path}, line {number}: {why}; the log was changed from here on"
                    ) from error
    except OSError as error:
        raise StorageError(
            f"cannot read {path}: {error.strerror}; name an audit.jsonl, in a run's folder"
        ) from error
    return current


def _take(log: Log, current: Attempt, entry: dict[str, Any]) -> Attempt:
    """Add an entry; the attempt that the next one belongs to."""
    if "attempt" in entry:
        run, party, attempt = (_word(entry[key]) for key in ("run", "party", "attempt"))
        if log.attempts and (run, party) != (log.run, log.party):
            raise ValueError("is of another run or party")
        log.run, log.party = run, party
        return log.attempts.setdefault(attempt, Attempt())
    if not log.attempts or current.end is not None:
        raise ValueError("belongs to no attempt")
    if "end" in entry:
        if entry["sent"] != current.sent:
            raise ValueError("has other totals than its messages")
        current.received, current.end = _totals(entry["received"]), _word(entry["end"])
        return current
    size = _number(entry["bytes"])
    counted = current.sent.setdefault(_word(entry["to"]), {}).setdefault(_word(entry["kind"]), [0, 0])
    counted[0] += 1
    counted[1] += size
    log.messages += 1
    log.size += size
    return current


def _word(told: object) -> str:
    """It is shown to people: a peer's log may hold anything."""
    if not isinstance(told, str) or not told.isprintable():
        raise TypeError
    return told


def _number(told: object) -> int:
    if type(told) is not int or told < 0:  # True is an int, too
        raise TypeError
    return told


def _totals(told: Any) -> Totals:
    if not isinstance(told, dict) or not all(isinstance(kinds, dict) for kinds in told.values()):
        raise TypeError
    totals = {_word(peer): {_word(kind): [*pair] for kind, pair in of.items()} for peer, of in told.items()}
    for pair in (pair for of in totals.values() for pair in of.values()):
        if len([_number(number) for number in pair]) != 2:
            raise TypeError
    return totals


def compare(ours: Log, theirs: Log) -> list[str]:
    """What does not add up, a line each; nothing where all does. Raises AccountError for logs that cannot be
    compared.

    In an attempt that both finished, what one sent the other received. In any other, no more than that: a
    message may have been under way. An attempt that one of them lacks got no further than the handshake.
    """
    if ours.run != theirs.run or ours.party == theirs.party:
        raise AccountError(f"{ours.path} and {theirs.path} are not of one run and two parties")
    found = []
    for name in ours.attempts.keys() & theirs.attempts.keys():
        both = ours.attempts[name], theirs.attempts[name]
        finished = all(one.end == DONE for one in both)
        for sender, receiver, sent, received in (
            (ours.party, theirs.party, both[0].sent, both[1].received),
            (theirs.party, ours.party, both[1].sent, both[0].received),
        ):
            if received is None:
                continue
            left, came = sent.get(receiver, {}), received.get(sender, {})
            for kind in sorted({*left, *came}):
                out, there = left.get(kind, [0, 0]), came.get(kind, [0, 0])
                if out != there if finished else there[0] > out[0] or there[1] > out[1]:
                    found.append(
                        f"attempt {name[:12]}: {sender} logged {out[0]} {kind!r} of {out[1]} bytes for "
                        f"{receiver}, which received {there[0]} of {there[1]} bytes"
                    )
    for name in sorted(ours.attempts.keys() ^ theirs.attempts.keys()):
        has, lacks = (ours, theirs) if name in ours.attempts else (theirs, ours)
        one = has.attempts[name]
        beyond = (one.received or {}).get(lacks.party, {}).keys() - HANDSHAKE
        if one.end == DONE:
            found.append(f"attempt {name[:12]}: in one log only, though it ended")
        elif beyond:
            found.append(
                f"attempt {name[:12]}: {lacks.party} logged none, though {has.party} received "
                f"{', '.join(map(repr, sorted(beyond)))} of it"
            )
    return found
