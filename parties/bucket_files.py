"""The finished buckets of an alignment that was interrupted: a Parquet file each, with rows and no key.

A file holds the common rows of one bucket, and in its metadata which one it is, the attempt in which it was
aligned, and a keyed hash that tells of which ids (`psi.buckets.Finished`). It never leaves the party. When
the parties start the same alignment again, they go on after the last bucket that all of them still have.
"""

import itertools
from collections.abc import Generator
from pathlib import Path
from typing import Any, TypeVar

from parties import row_files
from protos.rounds import Resume, Round, Rounds, Save, mapped
from psi.buckets import Finished

T = TypeVar("T")


def keeping(rounds: Rounds[T], folder: Path) -> Rounds[tuple[T, int]]:
    """The same rounds of `psi.buckets.align`, each `Save` written to the folder: (result, how many)."""
    saved = 0

    def each(word: Round) -> Generator[Round, Any, Any]:
        nonlocal saved
        if not isinstance(word, Save):
            return (yield word)
        keep(folder, word.step, word.state())
        saved += 1

    result = yield from mapped(rounds, each)
    return result, saved


def keep(folder: Path, step: int, state: bytes) -> None:
    """Write the bucket that a `Save` of `psi.buckets.align` adds. Raises StorageError."""
    finished = Finished.from_bytes(state)
    named = {"of": finished.of.hex(), "run": finished.runs[-1].hex(), "bucket": str(step)}
    row_files.write(_path(folder, step), finished.rows[-1], named)


def resume(folder: Path) -> Resume | None:
    """The leading buckets that are whole and of one alignment; None if there is none."""
    kept = Finished(b"")
    for step in itertools.count(1):
        found = row_files.read(_path(folder, step))
        if found is None or found[1].get("bucket") != str(step):
            break
        rows, named = found
        of, run = bytes.fromhex(named["of"]), bytes.fromhex(named["run"])
        if kept.of not in (b"", of):
            break
        kept = Finished(of, (*kept.runs, run), (*kept.rows, rows))
    return Resume(len(kept.runs), kept.to_bytes()) if kept.runs else None


def forget(folder: Path) -> None:
    """Remove the buckets. Raises OSError."""
    for path in folder.glob("bucket-*.parquet"):
        path.unlink()


def _path(folder: Path, step: int) -> Path:
    return folder / f"bucket-{step:04}.parquet"
