"""Where a party keeps its own: the secret of its private random streams, and a folder a run.

storage/secret                     32 random bytes, made once, readable by the owner only
storage/<party>.lock               held while `party run` or `party align` runs
storage/<party>.columns.json       which columns pins of run.toml stand for (`parties.own_schema`)
storage/<party>.status.json        what that process is doing, for `party status`
storage/<party>.privacy.sqlite     all runs, with whom, and what they spent (`parties.ledger`)
storage/<name>-<run id>/<party>/   one run: alignment, model, summary.json, report.txt, ...
storage/<name>-<contract>-unfinished/<party>/   what an interrupted run leaves (`parties.unfinished`)

Files appear whole or not at all: written beside their place, synced, renamed.
"""

import fcntl
import hmac
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import takewhile
from pathlib import Path
from typing import BinaryIO, Final

from parties.errors import StorageError

DRAFT: Final = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW
"""How a file is opened that will be renamed: a link that lies in its place leads nowhere."""


def write(path: Path, content: bytes, mode: int = 0o600) -> None:
    """Write a file whole or not at all, its owner's only. Raises StorageError."""
    with writing(path, mode) as file:
        file.write(content)


@contextmanager
def writing(path: Path, mode: int = 0o600) -> Iterator[BinaryIO]:
    """The same, piece by piece: the file appears where the block ends without an error."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        make(path.parent)
        with open(os.open(partial, DRAFT, mode), "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
        _sync(path.parent)  # the name, too, is to outlast a power cut
    except BaseException as error:  # an interrupt, too, leaves nothing half-written
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        if not isinstance(error, OSError):
            raise
        raise StorageError(
            f"cannot write {path}: {error.strerror}; free space or choose another storage"
        ) from error


def make(folder: Path, mode: int = 0o777) -> None:
    """The folder and those it is in, if they are not there: they, too, are to outlast a power cut. Raises
    OSError."""
    missing = [*takewhile(lambda each: not each.exists(), (folder, *folder.parents))]
    folder.mkdir(mode, parents=True, exist_ok=True)
    for each in reversed(missing):
        _sync(each.parent)


def made(folder: Path, mode: int = 0o700) -> Path:
    """The folder, made where it is not there, by default its owner's only. Raises StorageError."""
    try:
        make(folder, mode)
    except OSError as error:
        raise StorageError(f"cannot make {folder}: {error.strerror}") from error
    return folder


@contextmanager
def removing(path: Path) -> Iterator[None]:
    """An OSError in the block is a StorageError that names this file or folder."""
    try:
        yield
    except OSError as error:
        raise StorageError(f"cannot remove {path}: {error.strerror}; remove it yourself") from error


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def check_writable(path: Path) -> None:
    """Could this file be written? Asked before much work is done for it. Raises StorageError."""
    made(path.parent, 0o777)
    if path.is_dir() or not os.access(path.parent, os.W_OK):
        raise StorageError(f"cannot write {path}; name a file in a folder that is yours")


@contextmanager
def locked(storage: Path, party: str) -> Iterator[None]:
    """Hold this party's lock on its storage, cleared of what a killed process left half-written.

    Raises StorageError if another process holds it.
    """
    path = storage / f"{party}.lock"
    try:
        make(storage)
        file = path.open("a")
    except OSError as error:
        raise StorageError(f"cannot use storage {storage}: {error.strerror}") from error
    with file:
        for patience in (0.1, 0.2, 0.4, None):  # `is_locked` holds it for a moment
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError as error:
                if patience is None:
                    raise StorageError(
                        f"another `party run` of {party} holds {path}; wait for it or give this run another "
                        "storage"
                    ) from error
                time.sleep(patience)
        places = (f"*/{party}/.*.partial", f"*/{party}/*/.*.partial", f".{party}.*.partial")
        for left in [path for place in places for path in storage.glob(place)]:
            with removing(left):
                left.unlink(missing_ok=True)  # by a process that was killed as it wrote
        yield


def is_locked(storage: Path, party: str) -> bool:
    """Does a process hold this party's lock?"""
    try:
        with (storage / f"{party}.lock").open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False  # there is no lock, or nobody could hold it
    return False


def own_secret(storage: Path) -> bytes:
    """The 32 bytes from which this party's private random streams are derived; made at the first call."""
    path = storage / "secret"
    try:
        if not path.exists():
            write(path, secrets.token_bytes(32))
        secret = path.read_bytes()
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error.strerror}; it must be this user's own") from error
    if len(secret) != 32:
        raise StorageError(f"{path} is damaged: it must hold 32 bytes; remove it to make a new one")
    return secret


def private_seed(secret: bytes, run: bytes, purpose: str) -> bytes:
    """A private stream's seed, 32 bytes: HMAC-SHA-256 of run and purpose under the party's own secret.

    Another run gets another stream, a restart of the same run the same one.
    """
    return hmac.digest(secret, b"vertical private stream v1\0" + run + purpose.encode(), "sha256")


def run_folder(storage: Path, name: str, run: bytes, party: str) -> Path:
    """Make the folder of one run of one party, its owner's only. name, party: validated by the contract."""
    return made(storage / f"{name}-{run.hex()[:12]}" / party)
