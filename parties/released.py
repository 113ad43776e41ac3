"""What a run has released with noise, over all attempts at it: whoever does an epoch again, and by other
gradients than before, releases its rows once more, and is to know.

released.jsonl, in the folder of the unfinished run (`parties.unfinished`): chained JSON lines.

    {"lost":0,"of":"<hex>","chain":"<hex>"}
    {"kind":"activation","noise":"<hex>","place":17,"turn":3,"chain":"<hex>"}

A line is there, and synced, before its message leaves: no death of a process or a machine takes it. A last
line without its end is of a message that did not leave. `of`: the run, and whose
rows are at each place. `lost`: releases of a row that were charged before, and of which nothing is noted any
more: the file was gone, not as it was written, or of other rows, as after another alignment.
"""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final, Self

from parties.chain import FIRST, canonical, following, line
from parties.errors import StorageError
from parties.storage import write
from splitnn.releases import KINDS, Release

NAME: Final = "released.jsonl"
CHAIN: Final = "released"


class Noted:
    """before: what earlier attempts released. lost: as above."""

    def __init__(self, path: Path, before: Iterable[Release], lost: int, head: bytes) -> None:
        self.path, self.before, self.lost, self._head = path, before, lost, head

    @classmethod
    def of(cls, folder: Path, what: bytes, charged: int) -> Self:
        """what: 32 bytes. charged: releases of a row of this run that are in the ledger: lost, if nothing is
        noted of them. Raises StorageError."""
        path = folder / NAME
        found = _read(path, what)
        if found is None:
            first, head = line(CHAIN, FIRST, canonical({"lost": charged, "of": what.hex()}))
            write(path, first)
            return cls(path, (), charged, head)
        before, lost, head, end = found
        try:
            if end < path.stat().st_size:
                write(path, path.read_bytes()[:end])
        except OSError as error:
            raise _unwritable(path, error) from error
        return cls(path, before, lost, head)

    def keep(self, release: Release) -> None:
        """Raises StorageError."""
        body = canonical(release._asdict() | {"noise": release.noise.hex()})
        whole, self._head = line(CHAIN, self._head, body)
        left = memoryview(whole)
        try:
            file = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW)
            try:
                while left:
                    left = left[os.write(file, left) :]
                os.fsync(file)
            finally:
                os.close(file)
        except OSError as error:
            raise _unwritable(self.path, error) from error


def _read(path: Path, what: bytes) -> tuple[list[Release], int, bytes, int] | None:
    """What is noted, what was lost, the last link and where it ends; None where nothing whole of that is.
    Raises StorageError where the file is there and cannot be read."""
    before: list[Release] = []
    try:
        with path.open("rb") as file:
            first, head = following(CHAIN, FIRST, file.readline()[:-1])
            if first["of"] != what.hex() or type(first["lost"]) is not int:
                return None
            end = file.tell()
            for one in file:
                if not one.endswith(b"\n"):
                    break
                entry, head = following(CHAIN, head, one[:-1])
                before.append(_release(**entry))
                end += len(one)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error.strerror}; it must be this user's own") from error
    except (ValueError, TypeError, KeyError):
        return None
    return before, first["lost"], head, end


def _release(kind: str, turn: int, place: int, noise: str) -> Release:
    if kind not in KINDS or type(turn) is not int or type(place) is not int or min(turn, place) < 0:
        raise ValueError("is no release")
    return Release(kind, turn, place, bytes.fromhex(noise))


def _unwritable(path: Path, error: OSError) -> StorageError:
    return StorageError(f"cannot write {path}: {error.strerror}; nothing leaves without its line")
