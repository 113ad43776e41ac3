"""The egress log: a line for each message that leaves this party, written before it leaves.

audit.jsonl, in the run's folder: JSON lines, hash-chained (`parties.chain`); `parties.audit` reads them.

    {"attempt":"<hex>","cut":0,"party":"logistics","run":"<hex>","time":...,"chain":"<hex>"}
    {"bytes":131096,"kind":"activation","phase":"training","sha256":"<hex>","step":17,"time":...,"to":"platform","chain":...}
    {"end":"done","received":{"platform":{"gradient":[1200,157315200]}},"sent":{...},"time":...,"chain":...}

Each attempt at the run begins with a line of its own; `cut` is what a process that was killed had written of
a line that it did not finish, in bytes: the message of that line never left. `step` counts what was done of
the phase before. `end` says how the attempt ended, with its totals, [messages, bytes] by peer and kind; there
is none where the process was killed. A message is what the link gets: between feature holders sealed. Of a
message that is made piece by piece the line is written before its last piece leaves, so one that was under
way when the process was killed has none.

A log that grows without end (`Egress.turn`) is in several files: audit-0001.jsonl, audit-0002.jsonl, ..., and
audit.jsonl the last of them; the chain goes on from one to the next.
"""

import hashlib
import json
import os
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import suppress
from functools import lru_cache
from itertools import count, takewhile
from pathlib import Path
from typing import Any, Final, TypeVar

from parties.chain import FIRST, canonical, line, split
from parties.errors import AccountError, StorageError
from protos.rounds import ANY, Progress, Receive, Round, Rounds, Send, mapped

T = TypeVar("T")

NAME: Final = "audit.jsonl"
CHAIN: Final = "egress"
MESSAGE: Final = b'{"bytes":%d,"kind":%b,"phase":%b,"sha256":"%b","step":%d,"time":%b,"to":%b}'
"""`canonical` of a message's entry, which took half the time of its line: there is one a step and peer."""

LONGEST: Final = 1 << 20
"""Bytes of a line."""

Totals = dict[str, dict[str, list[int]]]
"""By peer and kind: messages, bytes."""


class Egress:
    """The log of one attempt. What leaves before `open`, in the handshake, is held and written there.

    clock: seconds since 1970.
    """

    def __init__(self, party: str, clock: Callable[[], float] | None = None) -> None:
        self.party, self._clock = party, clock or time.time
        self.sent: Totals = {}
        self.received: Totals = {}
        self._phase, self._step, self._ended = "", 0, False
        self._held: list[bytes] | None = []
        self._path, self._file, self.head, self.size = Path(NAME), -1, FIRST, 0

    def open(self, path: Path, run: bytes, attempt: bytes) -> None:
        """From here on lines go to the file, after those of earlier attempts. run, attempt: 32 bytes each.

        Raises StorageError where it cannot be written, AccountError where its end is none of ours.
        """
        self._path = path
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
            end, self.head = _whole(path, self._file)
            if not end and (before := earlier(path)):
                self.head = _last_link(before[-1])
            cut = os.lseek(self._file, 0, os.SEEK_END) - end
            os.ftruncate(self._file, end)
            os.lseek(self._file, end, os.SEEK_SET)
            self.size = end
        except OSError as error:
            raise self._unwritable(error) from error
        first = {"attempt": attempt.hex(), "cut": cut, "party": self.party, "run": run.hex()}
        body = canonical(first | {"time": self._now()})
        held, self._held = self._held or [], None
        self._write(body, *held)  # at once: who is killed here has all of them, or none

    def at(self, phase: str, step: int) -> None:
        """step: units of the phase that are done."""
        if phase != self._phase:
            self._sync()
        self._phase, self._step = phase, step

    def leaves(self, to: str, kind: str, size: int, digest: str) -> None:
        _count(self.sent, to, kind, size)
        time = repr(self._now()).encode()
        texts = _text(kind), _text(self._phase), digest.encode()
        self._write(MESSAGE % (size, *texts, self._step, time, _text(to)))

    def came(self, sender: str, kind: str, size: int) -> None:
        _count(self.received, sender, kind, size)

    def end(self, how: str) -> None:
        """Write the totals, once. Raises StorageError."""
        if self._held is None and not self._ended:
            self._ended = True
            totals = {"end": how, "sent": self.sent, "received": self.received}
            self._write(canonical(totals | {"time": self._now()}))
            self._sync()

    def turn(self) -> None:
        """Go on in a new file; the one before, if it has a line, is kept under the next number. Raises
        StorageError."""
        self._sync()
        if not self.size:
            return
        try:
            self._path.rename(numbered(self._path, len(earlier(self._path)) + 1))
            file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise self._unwritable(error) from error
        os.close(self._file)
        self._file, self.size = file, 0

    def close(self) -> None:
        if self._held is None:
            os.close(self._file)
            self._held, self._file = [], -1

    def _now(self) -> float:
        return round(float(self._clock()), 3)

    def _write(self, *bodies: bytes) -> None:
        """bodies: entries, as `canonical` writes them."""
        if self._held is not None:
            self._held += bodies
            return
        head, lines = self.head, b""
        for body in bodies:
            one, head = line(CHAIN, head, body)
            lines += one
        left = memoryview(lines)
        try:
            while left:
                left = left[os.write(self._file, left) :]
        except OSError as error:
            with suppress(OSError):  # the piece of a line that is there: a later one is not to be part of it
                os.ftruncate(self._file, os.lseek(self._file, len(left) - len(lines), os.SEEK_CUR))
            raise self._unwritable(error) from error
        self.head = head
        self.size += len(lines)

    def _sync(self) -> None:
        if self._held is None:
            try:
                os.fsync(self._file)
            except OSError as error:
                raise self._unwritable(error) from error

    def _unwritable(self, error: OSError) -> StorageError:
        return StorageError(f"cannot write {self._path}: {error.strerror}; nothing leaves without its line")


def numbered(path: Path, number: int) -> Path:
    """The file of a log that went on in others, from 1."""
    return path.with_name(f"{path.stem}-{number:04}{path.suffix}")


def earlier(path: Path) -> list[Path]:
    """The files of a log before its last one, in order."""
    return [*takewhile(Path.exists, (numbered(path, number) for number in count(1)))]


def leaving(rounds: Rounds[T], egress: Egress) -> Rounds[T]:
    """The same protocol, with a line for every message before it leaves. Raises StorageError."""

    def each(word: Round) -> Generator[Round, Any, Any]:
        match word:
            case Send(to, kind, bytes() as payload):
                egress.leaves(to, kind, len(payload), hashlib.sha256(payload).hexdigest())
                return (yield word)
            case Send(to, kind, pieces):
                assert not isinstance(pieces, bytes)
                return (yield Send(to, kind, _noted(egress, to, kind, pieces)))
            case Receive(sender, kind):
                answer = yield word
                sender, payload = answer if sender == ANY else (sender, answer)
                egress.came(sender, kind, len(payload))
                return answer
            case Progress(phase, done):
                egress.at(phase, done)
                return (yield word)
            case _:
                return (yield word)

    try:
        result = yield from mapped(rounds, each)
        egress.end("done")
        return result
    except Exception as error:
        with suppress(StorageError):  # the reason of the end is not to be hidden by it
            egress.end(type(error).__name__)
        raise
    finally:
        egress.close()


def _noted(egress: Egress, to: str, kind: str, pieces: Iterable[bytes]) -> Iterator[bytes]:
    """The pieces, the last of them not before the line is written."""
    size, digest, held = 0, hashlib.sha256(), None
    for piece in pieces:
        if held is not None:
            yield held
        held = piece
        size += len(piece)
        digest.update(piece)
    egress.leaves(to, kind, size, digest.hexdigest())
    if held is not None:
        yield held


def _whole(path: Path, file: int) -> tuple[int, bytes]:
    """Where the last line ends that was finished, and its link."""
    size = os.lseek(file, 0, os.SEEK_END)
    start = max(0, size - 2 * LONGEST)
    tail = os.pread(file, size - start, start)
    tail = tail[: tail.rfind(b"\n") + 1]
    if not tail:
        if start:
            raise AccountError(f"{path}: its end is no line of an audit log; move the file away")
        return 0, FIRST
    try:
        _, head = split(tail[:-1].rpartition(b"\n")[2])
    except ValueError as error:
        raise AccountError(f"{path}: the last line {error}, so it was changed; move the file away") from error
    return start + len(tail), head


def _last_link(path: Path) -> bytes:
    file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        return _whole(path, file)[1]
    finally:
        os.close(file)


@lru_cache(1024)
def _text(told: str) -> bytes:
    return json.dumps(told).encode()


def _count(totals: Totals, peer: str, kind: str, size: int) -> None:
    counted = totals.setdefault(peer, {}).setdefault(kind, [0, 0])
    counted[0] += 1
    counted[1] += size
