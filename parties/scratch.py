"""Columns of a table that is large: in files of the party's storage, mapped into memory.

The files have no name: nobody else can open them, and their space is free again as soon as nothing in the
process uses them, however it ends. The kernel writes pages out and reads them again as memory is wanted.
"""

import mmap
import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import chain
from math import prod
from pathlib import Path
from typing import IO, Any, Final
from weakref import WeakSet

import numpy as np
import pyarrow as pa
from numpy.typing import DTypeLike, NDArray

from parties.errors import StorageError

LARGE: Final = 1 << 27
"""Bytes that are held in memory before a file is worth its writing: a million rows of 16 numbers."""

RESIDENT: Final = 1 << 29
"""Bytes of mapped files that may stay in memory, about."""
STATM: Final = Path("/proc/self/statm")
_mapped: "WeakSet[mmap.mmap]" = WeakSet()


def empty(folder: Path | None, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
    """An array to be filled, mapped where it is large. folder: where its file goes; None: all in memory.

    Raises StorageError where there is no room.
    """
    size = prod(shape) * np.dtype(dtype).itemsize
    if folder is None or size <= LARGE:
        return np.empty(shape, dtype)
    with unnamed(folder) as file:
        os.posix_fallocate(file.fileno(), 0, size)  # a page for which the disk has no room would be a SIGBUS
        memory = mmap.mmap(file.fileno(), size)
    _mapped.add(memory)
    return np.frombuffer(memory, dtype).reshape(shape)


def let_go() -> None:
    """Call it between columns: gives back the memory of all that is mapped, where that has grown to RESIDENT.

    What is used again is mapped again, as a rule from the kernel's cache. Without it a process that goes over
    a large table seems to need, and under a memory limit does need, all of it at once.
    """
    try:
        mapped = int(STATM.read_text().split()[2]) * mmap.PAGESIZE
    except OSError:
        return  # not on Linux
    if mapped > RESIDENT:
        for memory in list(_mapped):
            memory.madvise(mmap.MADV_DONTNEED)  # of a shared mapping nothing is lost by it


def as_table(folder: Path | None, batches: Iterable[pa.RecordBatch]) -> pa.Table:
    """Of these batches, at least one; mapped Arrow IPC where they are large. Otherwise as `empty`."""
    waiting = iter(batches)
    held: list[pa.RecordBatch] = []
    size = 0
    for batch in waiting:
        held.append(batch)
        size += batch.nbytes
        if folder is not None and size > LARGE:
            return _on_disk(folder, chain(held, waiting))
    return pa.Table.from_batches(held)


def _on_disk(folder: Path, batches: Iterator[pa.RecordBatch]) -> pa.Table:
    first = next(batches)
    with unnamed(folder) as file:
        with pa.ipc.new_file(file, first.schema) as writer:
            for batch in chain([first], batches):
                writer.write_batch(batch)
        file.flush()
        memory = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    _mapped.add(memory)
    return pa.ipc.open_file(pa.py_buffer(memory)).read_all()


@contextmanager
def unnamed(folder: Path) -> Iterator[IO[bytes]]:
    """A new file that is readable by its owner only, and that no folder lists. Raises StorageError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            yield file
    except OSError as error:
        raise StorageError(
            f"no room for a large table in {folder}: {error.strerror}; free space or choose another storage"
        ) from error
