"""What the label holder keeps and writes of a prediction: blocks of scored users, then scores.parquet.

Memory holds some numbers a row of the file; what is large is mapped from disk (`parties.scratch`).
"""

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from torch import Tensor

from parties import checkpoints
from parties.checkpoints import Stamp
from parties.errors import DataError, StorageError
from parties.id_kinds import written_as
from parties.scratch import empty
from parties.sources.source import Source, read_batches
from parties.storage import removing, writing
from parties.target import Target
from protos.rounds import Progress, Round, Rounds, Save, mapped
from psi import Ids
from splitnn.schedule import EVALUATION_ROWS
from splitnn.scoring import BLOCK, Columns, Rows, blocks, logits_of

T = TypeVar("T")


@dataclass(frozen=True)
class Placed:
    """The label holder's rows of the common users. rows: of its table, user by user in the common order;
    user i has rows[starts[i] : starts[i + 1]]."""

    rows: NDArray[np.int64]
    starts: NDArray[np.int64]

    @classmethod
    def of(cls, ids: Ids, alignment: NDArray[np.int64]) -> "Placed":
        """alignment: the first row of each common user."""
        count = len(alignment)
        if not len(ids.repeats):
            return cls(alignment, np.arange(count + 1))
        user = np.full(len(ids.rows), -1)
        user[np.searchsorted(ids.rows, alignment)] = np.arange(count)
        later = user[ids.repeated]
        rows = np.concatenate((alignment, ids.repeats[later >= 0]))
        of = np.concatenate((np.arange(count), later[later >= 0]))
        starts = np.concatenate(([0], np.bincount(of, minlength=count).cumsum()))
        return cls(rows[np.argsort(of, kind="stable")], starts)

    def chunk(self, users: range, columns: Callable[[NDArray[np.int64]], Columns]) -> Iterator[Rows]:
        """As `splitnn.scoring.score` asks for them."""
        starts = self.starts[users.start : users.stop + 1]
        of = torch.from_numpy(np.repeat(np.arange(len(users)), np.diff(starts)))
        for at in range(0, len(of), EVALUATION_ROWS):
            some = of[at : at + EVALUATION_ROWS]
            first = int(starts[0]) + at
            yield Rows(columns(self.rows[first : first + len(some)]), some)

    def block(self, number: int) -> NDArray[np.int64]:
        """Rows of the table in a block of users, from 1."""
        first, last = (min(at * BLOCK, len(self.starts) - 1) for at in (number - 1, number))
        return self.rows[self.starts[first] : self.starts[last]]


# ---- blocks ----------------------------------------------------------------------------------------------


def keeping(rounds: Rounds[T], folder: Path, stamp: Stamp) -> Rounds[T]:
    """The same rounds of `splitnn.scoring.score`, each block written to the folder. Raises StorageError."""

    def each(word: Round) -> Generator[Round, Any, Any]:
        if not isinstance(word, Save):
            return (yield word)
        checkpoints.put(_path(folder, word.step), stamp, word.step, word.state())

    return mapped(rounds, each)


def kept(folder: Path, stamp: Stamp, users: int) -> int:
    """How many blocks are there and whole, from the first on."""
    found = 0
    while found < blocks(users) and _read(folder, stamp, found + 1) is not None:
        found += 1
    return found


def forget(folder: Path) -> None:
    """Raises StorageError."""
    with removing(folder):
        for path in folder.glob("scores-*.safetensors"):
            path.unlink(missing_ok=True)


def _read(folder: Path, stamp: Stamp, number: int) -> Tensor | None:
    state = checkpoints.get(_path(folder, number), stamp, number)
    return None if state is None else logits_of(state)


def _path(folder: Path, number: int) -> Path:
    return folder / f"scores-{number:06}.safetensors"


# ---- scores ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Scored:
    """logits: [rows of the file, outputs], NaN where there are none. together: [rows], scored with all.
    excluded: rows that are not to be scored."""

    logits: NDArray[np.float32]
    together: NDArray[np.bool_]
    excluded: NDArray[np.int64]

    @property
    def alone(self) -> NDArray[np.int64]:
        return np.setdiff1d(np.flatnonzero(~self.together), self.excluded)


def gathered(folder: Path, stamp: Stamp, placed: Placed, rows: int, outputs: int, scratch: Path) -> Scored:
    """All blocks. rows: of the file. scratch: the folder of `parties.scratch`. Raises StorageError."""
    logits = empty(scratch, (rows, outputs), np.float32)
    logits.fill(np.nan)
    together = np.zeros(rows, np.bool_)
    for number in range(1, blocks(len(placed.starts) - 1) + 1):
        block = _read(folder, stamp, number)
        if block is None:
            raise StorageError(f"{_path(folder, number)}: is gone or was changed; start again")
        places = placed.block(number)
        logits[places], together[places] = block.numpy(), True
    return Scored(logits, together, np.empty(0, np.int64))


def write(
    place: Path,
    source: Source,
    columns: Sequence[str],
    scored: Scored,
    target: Target,
    parties: Sequence[str],
) -> Rounds[None]:
    """scores.parquet: each row of the source, in its order. columns: the ids'. parties: who scored together,
    the label holder first. Raises DataError, StorageError, TrainingError."""
    done, total, writer = 0, len(scored.together), None
    yield Progress("writing", 0, total)
    names = pa.array([",".join(parties), parties[0]])
    with writing(place) as out, ExitStack() as stack:
        for ids in read_batches(source, columns):
            part = slice(done, done + len(ids[columns[0]]))
            logits = torch.from_numpy(scored.logits[part])
            if len(logits) != part.stop - done:
                raise DataError(f"{source}: has more rows than before; do not change it while it is used")
            none = logits.isnan().any(1).numpy()
            scores = target.scores(logits.nan_to_num(0.0))
            if target.calibration is not None:  # a row scored alone has a calibration of its own
                alone = torch.from_numpy(~scored.together[part])
                scores[alone] = target.scores(logits[alone].nan_to_num(0.0), "").to(scores.dtype)
            numbers = target.columns("score", scores) | target.columns("logit", logits)
            took_part = pa.array(np.where(scored.together[part], 0, 1), mask=none)
            cells = {
                "row": pa.array(np.arange(part.start, part.stop)),
                **{name: ids[own] for name, own in zip(written_as(columns), columns, strict=True)},
                **{name: pa.array(column, mask=none) for name, column in numbers.items()},
                "parties": pa.DictionaryArray.from_arrays(took_part, names).cast(pa.string()),
            }
            batch = pa.table(cells)
            if writer is None:
                writer = stack.enter_context(pq.ParquetWriter(out, batch.schema))
            writer.write_table(batch)
            done = part.stop
            yield Progress("writing", done, total)
        if done != total:
            raise DataError(f"{source}: has fewer rows than before; do not change it while it is used")
