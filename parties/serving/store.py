"""A party's own rows, ready to be scored: who is in which row, and what the model takes of it.

A row more than the table has stands for whoever is not in it: every column of it is missing.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import torch
from numpy.typing import NDArray

import psi
from parties.columns.cells import NO_NUMBER, read_booleans, read_dates
from parties.columns.dates import Date
from parties.config import Config
from parties.errors import DataError, StorageError
from parties.excluded import Excluded
from parties.features import Pipeline, of_cells
from parties.model import Model
from parties.own import OwnIds, leave_out, own_ids
from parties.people import people_of
from parties.scratch import empty
from parties.serving.schema import schema_digest
from parties.sources.source import BLOCK
from parties.table import Table, read_table
from splitnn.bags import Bag
from splitnn.features import Features
from splitnn.schedule import EVALUATION_ROWS
from splitnn.scoring import Columns

NOBODY: Final = np.empty((0, 16), np.uint8)


class DigestIndex:
    """The place of each digest [n, 16] among these. 16 bytes a digest, and no loop."""

    def __init__(self, digests: NDArray[np.uint8]) -> None:
        halves = np.ascontiguousarray(digests).view("<u8").reshape(-1, 2)
        self._order = np.lexsort((halves[:, 1], halves[:, 0]))
        self._first, self._second = halves[self._order, 0], halves[self._order, 1]

    def find(self, digests: NDArray[np.uint8]) -> NDArray[np.int64]:
        """[m] places, -1 for those that are not there."""
        wanted = np.ascontiguousarray(digests).view("<u8").reshape(-1, 2)
        found = np.full(len(wanted), -1)
        if not len(self._order):
            return found
        at = np.searchsorted(self._first, wanted[:, 0])
        while True:  # once, unless halves of two digests are equal
            here = np.minimum(at, len(self._order) - 1)
            alike = (self._first[here] == wanted[:, 0]) & (at == here)
            same = alike & (self._second[here] == wanted[:, 1])
            found[same] = self._order[here[same]]
            if not (alike & ~same & (found < 0)).any():
                return found
            at = at + (alike & (found < 0))


class Override(NamedTuple):
    """A column's value for all rows of a request: what stands in these places of the features."""

    numeric: Mapping[int, float]
    codes: Mapping[int, int]


@dataclass(frozen=True)
class Store:
    """features: of the table's rows, and the blank one after them. embeddings: what the model's bottom makes
    of these, float32 [rows, cut]; no request waits for it. rows: of each user of the alignment.
    index: of digests of all ids of the table; their rows are `of_id`. silent: who is not to be scored, as
    they are excluded; no row is theirs. everybody: `OwnIds.everybody`. schema, state: of the source; the
    latter from before it was read."""

    pipeline: Pipeline
    features: Features
    embeddings: NDArray[np.float32]
    rows: NDArray[np.int64]
    index: DigestIndex
    of_id: NDArray[np.int64]
    excluded: Excluded | None
    silent: DigestIndex
    everybody: dict[str, psi.Ids]
    schema: bytes
    state: object

    @classmethod
    def read(cls, config: Config, model: Model, users: NDArray[np.uint8]) -> "Store":
        """users: `users_of` the model. Raises DataError, IdError, StorageError."""
        state, data, pipeline = config.source.state(), config.party.data, model.pipeline
        kinds, bags = pipeline.kinds, pipeline.separators(data.bags)
        names = list(dict.fromkeys(name for of_kind in config.id_columns.values() for name in of_kind))
        schema = schema_digest(config.source, [*kinds])
        table = read_table(
            config.source, names, scratch=config.party.storage, bags=bags, types=kinds, others=False
        )
        starts = range(0, table.rows, BLOCK)
        own = own_ids(
            config,
            lambda names: ([table.ids[name].iloc[at : at + BLOCK] for name in names] for at in starts),
        )
        features = _features(pipeline, table)
        embeddings = _embeddings(model, features, table.scratch)
        people = _people(own, model, users, table.rows)
        return cls(pipeline, features, embeddings, **people, schema=schema, state=state)

    def excluding(self, config: Config, model: Model, users: NDArray[np.uint8]) -> "Store":
        """The same rows, less those of `data.exclude_ids` as it is now. Raises DataError, IdError."""
        assert self.excluded is not None
        own = leave_out(config, self.excluded.file, self.everybody)
        return replace(self, **_people(own, model, users, self.blank))

    @property
    def blank(self) -> int:
        return len(self.features) - 1

    def rows_of(self, digests: NDArray[np.uint8]) -> NDArray[np.int64]:
        """The row of each id; the blank one where the table does not have it."""
        place = self.index.find(digests)
        return np.where(place < 0, self.blank, np.append(self.of_id, self.blank)[place])

    def columns(self, rows: NDArray[np.int64], override: Override | None = None) -> Columns:
        """As a bottom model takes them."""
        numeric, codes, *bags = self.features.batch(torch.from_numpy(rows))
        if override is not None:
            for place, value in override.numeric.items():
                numeric[:, place] = value
            for place, code in override.codes.items():
                codes[:, place] = code
        return numeric, codes, *bags

    def override(self, context: Mapping[str, str]) -> Override | None:
        """context: text by the name of a column; empty: missing. Raises DataError for a column that the model
        does not take, or that holds lists, and for text that is no number."""
        numeric: dict[int, float] = {}
        codes: dict[int, int] = {}
        for name, text in context.items():
            if name not in self._places:
                raise DataError(f"context: {ascii(name)[:80]} is no column that the model takes")
            numbers, places, bags = self._places[name]
            if bags:
                raise DataError(f"context: {ascii(name)[:80]} holds lists, which no request can override")
            if numbers:
                column = next(one for one in self.pipeline.ordered if one.name == name)
                cell = np.array([_number(name, text, self.pipeline.kinds[name])])
                numeric |= dict(zip(numbers, of_cells(column, cell)[0].tolist(), strict=True))
                if isinstance(column, Date):
                    codes |= dict(zip(places, column.codes(cell)[0].tolist(), strict=True))
            else:
                level = next(one for one in self.pipeline.categorical if one.name == name)
                cells = pd.Series([text or None], dtype=object)
                codes |= dict(zip(places, level.codes(cells)[0].tolist(), strict=True))
        return Override(numeric, codes) if context else None

    @cached_property
    def _places(self) -> dict[str, Any]:
        return dict(self.pipeline.groups({}))


def users_of(config: Config, model: Model) -> NDArray[np.uint8]:
    """Digests [n, 16] of the model's common users, in their order. Raises StorageError."""
    return np.concatenate(people_of(config, model))


def _people(own: OwnIds, model: Model, users: NDArray[np.uint8], blank: int) -> dict[str, Any]:
    """What a `Store` has of them, by its names."""
    ids, excluded = own.by_kind[model.kind], own.excluded
    index = DigestIndex(ids.digests)
    place = index.find(users)
    silent = NOBODY if excluded is None else excluded.digests[model.kind]
    return {
        "rows": np.where(place < 0, blank, np.append(ids.rows, blank)[place]),
        "index": index,
        "of_id": ids.rows,
        "excluded": excluded,
        "silent": DigestIndex(silent),
        "everybody": own.everybody,
    }


def _features(pipeline: Pipeline, table: Table) -> Features:
    rows = table.rows
    numeric = empty(table.scratch, (rows + 1, pipeline.width), np.float32)
    codes = empty(table.scratch, (rows + 1, len(pipeline.levels)), np.int64)
    for at in range(0, rows, BLOCK):
        block = np.arange(at, min(at + BLOCK, rows))
        numeric[block], codes[block] = pipeline.transform(table, block)
    numeric[rows], codes[rows] = pipeline.missing()
    bags = []
    for (entries, offsets), levels in zip(
        pipeline.bagged(table, np.arange(rows)), pipeline.bag_levels, strict=True
    ):
        ends = torch.from_numpy(np.append(offsets, offsets[-1]))
        bags.append(Bag(torch.from_numpy(entries), ends, levels))
    return Features(torch.from_numpy(numeric), torch.from_numpy(codes), pipeline.levels, bags)


def _embeddings(model: Model, features: Features, scratch: Path | None) -> NDArray[np.float32]:
    bottom = model.bottom(model.run).eval()
    found = empty(scratch, (len(features), model.plan.cut), np.float32)
    with torch.inference_mode():
        for at in range(0, len(found), EVALUATION_ROWS):
            rows = torch.arange(at, min(at + EVALUATION_ROWS, len(found)))
            found[rows.numpy()] = bottom(*features.batch(rows)).numpy()
            if not np.isfinite(found[rows.numpy()]).all():
                raise StorageError(
                    f"{model.folder}: the model makes embeddings that are not finite; restore it from a copy"
                )
    return found


def _number(name: str, text: str, kind: str) -> float:
    """Of a cell of this kind: a number, a truth value or a date."""
    if not text.strip() or text in NO_NUMBER:
        return float("nan")
    if kind != "number":
        cell = pa.chunked_array([[text]])
        read = read_booleans if kind == "boolean" else read_dates
        try:
            return float(read(Path("context"), name, cell)[0])
        except DataError:
            raise DataError(f"context: the value of {ascii(name)[:80]} is no {kind}") from None
    try:
        value = float(text) if text.isascii() and "_" not in text else float("inf")
    except ValueError:
        value = float("inf")
    if not abs(value) < float("inf"):
        raise DataError(f"context: the value of {ascii(name)[:80]} is no number")
    return value
