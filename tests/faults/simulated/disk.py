"""A disk that fails, and processes that die as they write. What a simulated party does with the file system
goes through the functions of `os`, which are replaced while it runs.

A process that dies does nothing any more: no clearing up, no removal of what was half-written. Where the
power goes as well, what was not synced is lost: content that was not (a file is cut short), and names that
were not (a rename is undone, as if it had never been; a new folder is gone with all that is in it).
"""

import errno
import os
import random
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from protos.rounds import Send
from protos.simulator import Killed


class Disk:
    """Of all parties, below `root`; what is written elsewhere is no concern of theirs.

    faults: by party, what happens at which of its operations, counted from its first: "die", "no space" (at
    all further ones, until it is `started` again) or "fails" (once). power: does a death take with it what
    was not synced?
    """

    CALLS = ("open", "fsync", "replace", "rename", "unlink", "rmdir", "mkdir")

    def __init__(self, root: Path, draw: random.Random) -> None:
        self._root, self._draw = str(root), draw
        self.faults: dict[str, dict[int, str]] = {}
        self.power = False
        self.operations: dict[str, int] = {}
        self.happened: list[str] = []
        self._full: set[str] = set()
        self._lost = 0
        self._party: str | None = None
        self._void = False
        self._written: dict[str, dict[str, int]] = {}  # by party: files not synced, and how much of each is
        self._renamed: dict[str, list[tuple[str, bytes | None]]] = {}  # names not synced, and what was there
        self._pids: dict[str, int] = {}
        self._opened: dict[int, str] = {}  # by handle
        self._real = {call: getattr(os, call) for call in self.CALLS}

    @contextmanager
    def replacing_os(self) -> Iterator[None]:
        for call in self.CALLS:
            setattr(os, call, getattr(self, f"_{call}"))
        getpid, os.getpid = os.getpid, self._getpid
        try:
            yield
        finally:
            os.getpid = getpid
            for call, real in self._real.items():
                setattr(os, call, real)

    @contextmanager
    def of(self, party: str | None, void: bool = False) -> Iterator[None]:
        """What runs now is this party's. void: it is dead already, and is only unwound."""
        before = self._party, self._void
        self._party, self._void = party, void
        try:
            yield
        finally:
            self._party, self._void = before

    def started(self, party: str) -> None:
        """Another process of this party, with space on its disk again."""
        self._full.discard(party)
        self._pids[party] = self._pids.get(party, 0) + 1

    def died(self, party: str) -> None:
        """Its process is gone, and perhaps the power with it."""
        written, renamed = self._written.pop(party, {}), self._renamed.pop(party, [])
        if not self.power:
            return
        for path, synced in sorted(written.items()):
            if os.path.exists(path) and (size := os.path.getsize(path)) > synced:
                os.truncate(path, self._draw.randrange(synced, size + 1))
        undone = self._draw.randrange(len(renamed) + 1)
        for path, before in reversed(renamed[len(renamed) - undone :]):
            if before is not None:
                Path(path).write_bytes(before)
            elif os.path.isdir(path):
                self._lost += 1
                self._real["rename"](path, os.path.join(self._root, f".lost-{self._lost}"))
            elif os.path.exists(path):
                self._real["unlink"](path)

    def _concerns(self, path: Any) -> bool:
        """A relative path is one within a folder that was opened, as it is removed."""
        return self._party is not None and (not os.path.isabs(path) or os.fspath(path).startswith(self._root))

    def _operates(self, call: str, path: Any) -> bool:
        """Count one; shall it happen? Raises what goes wrong."""
        party = self._party
        if party is None or not self._concerns(path):
            return True
        if self._void:
            return False
        count = self.operations[party] = self.operations.get(party, 0) + 1
        fault = self.faults.get(party, {}).pop(count, None)
        if fault:
            self.happened.append(f"{party}: {fault} at {call}")
        if fault == "die":
            if call == "fsync" and path.endswith(".partial"):  # killed as it wrote
                os.truncate(path, os.path.getsize(path) // 2)
            self._void = True
            self.died(party)
            raise Killed
        if fault == "no space":
            self._full.add(party)
        if fault == "fails":
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        if party in self._full and call in ("open", "fsync", "mkdir"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return True

    def _getpid(self) -> int:
        return self._pids.get(self._party or "", 0)

    # ---- the functions of os ---------------------------------------------------------------------------

    def _open(self, path: Any, flags: int, *args: Any, **named: Any) -> int:
        writes = flags & (os.O_WRONLY | os.O_RDWR)
        if writes and self._party is not None and self._concerns(path):
            if not self._operates("open", path):
                raise Killed
            kept = os.path.exists(path) and not flags & os.O_TRUNC
            synced = os.path.getsize(path) if kept else 0
            self._written.setdefault(self._party, {}).setdefault(os.path.abspath(path), synced)
        handle: int = self._real["open"](path, flags, *args, **named)
        self._opened[handle] = os.path.abspath(path)
        return handle

    def _fsync(self, handle: int) -> None:
        path = self._opened[handle]
        if self._operates("fsync", path) and self._party is not None:
            self._written.get(self._party, {}).pop(path, None)
            renamed = self._renamed.get(self._party, [])
            renamed[:] = [kept for kept in renamed if os.path.dirname(kept[0]) != path]

    def _replace(self, source: Any, target: Any, **named: Any) -> None:
        if self._operates("replace", source):
            if self._party is not None and self._concerns(source):
                source, target = os.path.abspath(source), os.path.abspath(target)
                before = Path(target).read_bytes() if os.path.exists(target) else None
                self._renamed.setdefault(self._party, []).append((target, before))
                written = self._written.get(self._party, {})
                if source in written:
                    written[target] = written.pop(source)
            self._real["replace"](source, target, **named)

    _rename = _replace

    def _unlink(self, path: Any, **named: Any) -> None:
        if self._operates("unlink", path):
            self._real["unlink"](path, **named)

    def _rmdir(self, path: Any, **named: Any) -> None:
        if self._operates("rmdir", path):
            self._real["rmdir"](path, **named)

    def _mkdir(self, path: Any, *args: Any, **named: Any) -> None:
        if not os.path.isdir(path) and self._operates("mkdir", path):
            self._real["mkdir"](path, *args, **named)
            if self._party is not None and self._concerns(path):
                self._renamed.setdefault(self._party, []).append((os.path.abspath(path), None))
        elif os.path.isdir(path):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))


class OnDisk:
    """A generator of a party: what it does between two words, it does with that party's disk.

    said: called with each message that it sends.
    """

    def __init__(
        self,
        disk: Disk,
        party: str,
        generator: Generator[Any, Any, Any],
        said: Callable[[Send], None] = lambda word: None,
    ) -> None:
        self._disk, self._party, self._generator, self._said = disk, party, generator, said

    def send(self, value: Any) -> Any:
        with self._disk.of(self._party):
            word = self._generator.send(value)
        if isinstance(word, Send) and isinstance(word.payload, bytes):
            self._said(word)
        return word

    def throw(self, error: BaseException) -> Any:
        with self._disk.of(self._party):
            return self._generator.throw(error)

    def close(self) -> None:
        """It is dead, unless it has ended already."""
        with self._disk.of(self._party, void=True):
            if self._generator.gi_frame is not None:
                self._disk.died(self._party)
            self._generator.close()
