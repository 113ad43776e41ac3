"""`party audit verify`: reads an egress log (`parties.egress`), checks its chain and totals, and compares it
with a peer's: what one says that it sent, the other must say that it received."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from parties.chain import FIRST, link
from parties.egress import CHAIN, LONGEST, Totals, split
from parties.errors import AccountError

DONE: Final = "done"


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
    """Raises AccountError, with the line's number, for a log that is not as it was written."""
    log, current = Log(path), Attempt()
    try:
        with path.open("rb") as file:
            for number, line in enumerate(iter(lambda: file.readline(LONGEST), b""), 1):
                if not line.endswith(b"\n") and len(line) < LONGEST:
                    log.torn = len(line)  # only the last line can lack its end
                    break
                try:
                    body, head = split(line[:-1])
                    if head != link(CHAIN, log.head, body):
                        raise ValueError("does not follow from the one before")
                    log.head = head
                    current = _take(log, current, json.loads(body))
                except (ValueError, KeyError, TypeError) as error:
                    why = error if type(error) is ValueError else "is no entry of such a log"
                    raise AccountError(
                        f"{path}, line {number}: {why}; the log was changed from here on"
                    ) from error
    except OSError as error:
        raise AccountError(f"cannot read {path}: {error.strerror}") from error
    if not log.attempts:
        raise AccountError(f"{path} holds no attempt: it is no audit log")
    return log


def _take(log: Log, current: Attempt, entry: dict[str, Any]) -> Attempt:
    """Add an entry; the attempt that the next one belongs to."""
    if "attempt" in entry:
        if log.attempts and (entry["run"], entry["party"]) != (log.run, log.party):
            raise ValueError("is of another run or party")
        log.run, log.party = entry["run"], entry["party"]
        return log.attempts.setdefault(entry["attempt"], Attempt())
    if not log.attempts or current.end is not None:
        raise ValueError("belongs to no attempt")
    if "end" in entry:
        if entry["sent"] != current.sent:
            raise ValueError("has other totals than its messages")
        current.received, current.end = entry["received"], entry["end"]
        return current
    counted = current.sent.setdefault(entry["to"], {}).setdefault(entry["kind"], [0, 0])
    counted[0] += 1
    counted[1] += entry["bytes"]
    log.messages += 1
    log.size += entry["bytes"]
    return current


def compare(ours: Log, theirs: Log) -> list[str]:
    """What does not add up, a line each; nothing where all does. Raises AccountError for logs that cannot be
    compared.

    In an attempt that both finished, what one sent the other received. In any other, no more than that: a
    message may have been under way.
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
    missing = ours.attempts.keys() ^ theirs.attempts.keys()
    found += [
        f"attempt {name[:12]}: in one log only, though it ended"
        for name in sorted(missing)
        for log in (ours, theirs)
        if name in log.attempts and log.attempts[name].end == DONE
    ]
    return found
