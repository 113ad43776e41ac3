"""The finished buckets of an alignment that was interrupted: a Parquet file each, with rows and no key.

storage/<name>-<contract>-unfinished/<party>/bucket-0001.parquet, ...

A file holds the common rows of one bucket, and in its metadata the run id under which the bucket was aligned
and a keyed hash that tells of which ids (`psi.buckets.Finished`). It never leaves the party. When the parties
start the same alignment again, they go on after the last bucket that all of them still have.
"""

import itertools
import shutil
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from parties.config import Config
from parties.errors import StorageError
from parties.storage import writing
from protos.rounds import Resume, Round, Rounds, Save, mapped
from psi.buckets import Finished

T = TypeVar("T")


def unfinished(config: Config) -> Path:
    """The folder of this party, for alignments under this contract."""
    contract = config.contract
    return config.party.storage / f"{contract.name}-{contract.digest.hex()[:12]}-unfinished" / config.name


@contextmanager
def told(folder: Path, say: Callable[[str], None]) -> Iterator[None]:
    """Say at the start what is there to go on from, and where an attempt fails, what it leaves."""
    earlier = resume(folder)
    if earlier is not None:
        say(f"{earlier.step} finished bucket(s) of an earlier attempt, used if all parties still have them")
    try:
        yield
    except BaseException:
        if (kept := resume(folder)) is not None:
            say(f"{kept.step} finished bucket(s) kept: start the same command again at all parties to go on")
        raise


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
    table = pa.table({"row": finished.rows[-1]})
    named = table.replace_schema_metadata({"of": finished.of.hex(), "run": finished.runs[-1].hex()})
    with writing(folder / _name(step)) as file:
        pq.write_table(named, file)


def resume(folder: Path) -> Resume | None:
    """The leading buckets that are whole and of one alignment; None if there is none."""
    kept = Finished(b"")
    for step in itertools.count(1):
        try:
            table = pq.read_table(folder / _name(step))
            of, run = (bytes.fromhex(table.schema.metadata[key].decode()) for key in (b"of", b"run"))
            rows = table.column("row").to_numpy().astype(np.int64)
        except (OSError, KeyError, TypeError, ValueError):  # pyarrow's own errors are among them
            break
        if kept.of not in (b"", of):
            break
        kept = Finished(of, (*kept.runs, run), (*kept.rows, rows))
    return Resume(len(kept.runs), kept.to_bytes()) if kept.runs else None


def forget(folder: Path) -> None:
    """Remove them: the alignment is whole. Raises StorageError."""
    try:
        if folder.exists():
            shutil.rmtree(folder)
            with suppress(OSError):  # parties may share a storage
                folder.parent.rmdir()
    except OSError as error:
        raise StorageError(f"cannot remove {folder}: {error.strerror}; remove it yourself") from error


def _name(step: int) -> str:
    return f"bucket-{step:04}.parquet"
