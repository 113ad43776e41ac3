"""A party's own table: ids, numeric and categorical columns, label. `docs/data.md` has the rules.

Nothing is dropped, guessed or repaired in silence. Errors name the source, the column and the row (numbered
from 1, a header not counted), never what a cell holds.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from parties.bags import Bags, read_bags
from parties.columns.cells import read_booleans, read_dates, read_numbers, read_texts, series
from parties.columns.kinds import LEFT_OUT, kind_of
from parties.errors import DataError
from parties.scratch import empty, let_go
from parties.sources.source import Source, read_columns

AS_NUMBERS: Final = {"number": read_numbers, "boolean": read_booleans, "date": read_dates}
"""Kinds that are held as numbers, and how each is read."""


class LeftOut(NamedTuple):
    """A column that takes no part. kind: as `parties.columns.kinds.Seen`. missing: the share of such cells.
    distinct: how many distinct cells; None where they are not counted."""

    kind: str
    why: str
    missing: float
    distinct: int | None


@dataclass(frozen=True)
class Table:
    """One party's rows, in the source's order.

    ids: the id columns as written (CSV: text; others: their own type), null where empty. numeric: float64,
    NaN where missing; truth values as 0 and 1, dates as seconds since 1970-01-01 UTC. categorical: text, null
    where empty. labels, weight, rank_within: as `ids`, read by `parties.labels`. warnings: one line a column
    left out, or a bag cut short. scratch: the folder of `parties.scratch`, where large columns are. bags: the
    columns of lists. times: as `labels`, read by `parties.delay`. kinds: of each column that takes part, a
    `parties.columns.Kind`. scale: of numbers, where their owner says so, a `parties.columns.Scale`. left_out:
    what takes no part though it was not excluded.
    """

    source: Source
    ids: pd.DataFrame
    numeric: pd.DataFrame
    categorical: pd.DataFrame
    labels: pd.DataFrame
    weight: "pd.Series[Any] | None"
    warnings: tuple[str, ...] = ()
    rank_within: "pd.Series[Any] | None" = None
    scratch: Path | None = None
    bags: Mapping[str, Bags] = field(default_factory=dict)
    times: pd.DataFrame = field(default_factory=pd.DataFrame)
    kinds: Mapping[str, str] = field(default_factory=dict)
    scale: Mapping[str, str] = field(default_factory=dict)
    left_out: Mapping[str, LeftOut] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        return len(self.ids)


def read_table(
    source: Source,
    id_columns: Sequence[str],
    numeric: Sequence[str] = (),
    categorical: Sequence[str] = (),
    labels: Sequence[str] = (),
    exclude: Sequence[str] = (),
    weight: str | None = None,
    rank_within: str | None = None,
    scratch: Path | None = None,
    bags: Mapping[str, str] = MappingProxyType({}),
    times: Sequence[str] = (),
    types: Mapping[str, str] = MappingProxyType({}),
    scale: Mapping[str, str] = MappingProxyType({}),
    others: bool | None = None,
) -> Table:
    """Raises DataError for whatever is wrong with the source, StorageError.

    bags: columns of lists, and what separates the entries of a cell that is text. types: kinds of further
    columns. scale: as `Table` has it.
    Named columns take part as they are named. others: do all others but ids, labels, weight, rank_within,
    times and the excluded ones, each as `parties.columns.kinds.kind_of` sees it? None: where none is
    named numeric or categorical.
    """
    kept = [*labels, *(name for name in (weight, rank_within) if name), *times]
    kinds = {**dict.fromkeys(numeric, "number"), **dict.fromkeys(categorical, "category"), **types}
    kinds |= dict.fromkeys(bags, "bag")
    others = not numeric and not categorical if others is None else others
    columns = read_columns(source, [*id_columns, *kinds, *kept, *exclude, *scale], others, scratch)
    rows = range(len(next(iter(columns.values()))))
    ids = pd.DataFrame({name: _cells(source, name, columns[name]) for name in id_columns}, index=rows)
    targets = {name: _cells(source, name, columns[name]) for name in kept}
    left_out: dict[str, LeftOut] = {}
    warnings: list[str] = []
    for name in [name for name, kind in kinds.items() if kind in LEFT_OUT]:
        left_out[name] = _left_out(columns[name], kinds.pop(name), "data.types says so")
    for name in sorted(set(columns) - {*id_columns, *kinds, *left_out, *kept, *exclude}) if others else []:
        let_go()
        kind, told = kind_of(columns[name])
        if kind in AS_NUMBERS or kind in ("category", "bag"):
            kinds[name] = kind
            warnings += [f"{source}: column {name!r} is taken as a {kind}: {told}"] if told else []
        else:
            left_out[name] = _left_out(columns[name], kind, told)
            warnings.append(f"{source}: column {name!r} is left out: {told}{_advice(kind, name)}")
    if not kinds:
        out = "; ".join(f"{name!r} ({one.why})" for name, one in left_out.items())
        without = f"; left out: {out}" if out else ""
        raise DataError(f"{source}: no column is left to take part beside the id and the label{without}")
    for name in scale:
        if kinds.get(name) != "number":
            what = f"is a {kinds[name]}" if name in kinds else "takes no part"
            raise DataError(
                f"{source}: column {name!r} {what}, and data.scale is for numbers; remove it there"
            )
    held = [name for name, kind in kinds.items() if kind in AS_NUMBERS]
    numbers = empty(scratch, (len(held), len(ids)), np.float64)
    for place, name in enumerate(held):
        let_go()
        numbers[place] = AS_NUMBERS[kinds[name]](source, name, columns[name])
    texts = {name: read_texts(source, name, columns[name]) for name in kinds if kinds[name] == "category"}
    lists = {
        name: read_bags(source, name, columns[name], bags.get(name, ""), scratch)
        for name, kind in kinds.items()
        if kind == "bag"
    }
    return Table(
        source,
        ids,
        pd.DataFrame(numbers.T, rows, held, copy=False),
        pd.DataFrame(texts, index=rows),
        pd.DataFrame({name: targets[name] for name in labels}, index=rows),
        targets[weight] if weight else None,
        (*warnings, *(warning for _, told in lists.values() for warning in told)),
        targets[rank_within] if rank_within else None,
        scratch,
        {name: read for name, (read, _) in lists.items()},
        pd.DataFrame({name: targets[name] for name in times}, index=rows),
        kinds,
        scale,
        left_out,
    )


def _left_out(column: Any, kind: str, why: str) -> LeftOut:
    try:
        distinct = pc.count_distinct(column).as_py()
    except pa.ArrowException:  # of lists and structures
        distinct = None
    return LeftOut(kind, why, column.null_count / len(column), distinct)


def _advice(kind: str, name: str) -> str:
    if kind in LEFT_OUT:
        return f'; to use it all the same, say in data.types what it is, such as {name} = "category"'
    return "; name it in data.types to use it" if kind == "other" else ""


def _cells(source: Source, name: str, column: Any) -> "pd.Series[Any]":
    """Of an id or label column."""
    try:
        if pa.types.is_nested(column.type):
            raise pa.ArrowInvalid
        return series(column, name)
    except pa.ArrowException:  # pandas holds fewer times and zones than Arrow
        raise DataError(
            f"{source}: column {name!r} is of type {column.type}, which cannot be an id or a label"
        ) from None
