"""Of files: what they hold, in a digest; have they been written to; and why one cannot be read."""

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from parties.errors import DataError

State = tuple[int, int, int]
"""Time of the last change in nanoseconds, bytes, inode."""


def state_of(file: Path) -> State | None:
    """None where it is not there."""
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def shown(path: Path) -> str:
    """For messages: bytes of a name that are not UTF-8, such as of an old archive, as \\x and two digits."""
    return os.fsencode(path).decode(errors="backslashreplace")


def digest_of(file: Path) -> str:
    """SHA-256, in hex. Raises DataError."""
    with readable(file), file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


@contextmanager
def readable(file: Path) -> Iterator[None]:
    """An OSError in the block is a DataError that names the file."""
    try:
        yield
    except FileNotFoundError:
        raise DataError(f"{shown(file)}: no such file; put it back, or name another") from None
    except OSError as fault:
        why = fault.strerror or "it is damaged, or encrypted; write it anew, without encryption"
        raise DataError(f"{shown(file)}: cannot be read: {why}") from None
