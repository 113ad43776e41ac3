"""A party's own table: ids, numeric and categorical columns, label. `docs/data.md` has the rules.

Nothing is dropped, guessed or repaired in silence. Errors name the source, the column and the row (numbered
from 1, a header not counted), never what a cell holds.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from parties.bags import Bags, are_bags, read_bags
from parties.errors import DataError
from parties.scratch import empty
from parties.sources.source import Source, is_text, read_columns

LARGEST: Final = 1e30
"""Numbers beyond this are placeholders, not measurements, and would overflow float32 soon after."""
NO_NUMBER: Final = ["NA", "N/A", "n/a", "NaN", "nan", "NULL", "null", "None", "none"]
"""Spellings of a missing number. In a categorical column only the empty cell is missing: NA is Namibia."""
LEADING_ZERO: Final = r"^\s*[+-]?0[0-9]"
"""A code such as a postcode, whatever it looks like."""


@dataclass(frozen=True)
class Table:
    """One party's rows, in the source's order.

    ids: the id columns as written (CSV: text; others: their own type), null where empty. numeric: float64,
    NaN where missing. categorical: text, null where empty. labels, weight, rank_within: as `ids`, read by
    `parties.labels`. warnings: one line a column left out, or a bag cut short. scratch: the folder of
    `parties.scratch`, where large columns are. bags: the columns of lists. times: as `labels`, read by
    `parties.delay`.
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
) -> Table:
    """Raises DataError for whatever is wrong with the source, StorageError.

    bags: columns of lists, and what separates the entries of a cell that is text.
    Named columns take part as they are named. Where none is named numeric or categorical, all others but ids,
    labels, weight, rank_within, times and the excluded ones do as well: as bags if they hold lists, as
    numeric if every cell is a number, otherwise as categorical; free text, names and keys (distinct values in
    more than half of the rows) are left out with a warning.
    """
    kept = [*labels, *(name for name in (weight, rank_within) if name), *times]
    named = [*id_columns, *numeric, *categorical, *bags, *kept, *exclude]
    inferred = not numeric and not categorical
    columns = read_columns(source, named, inferred, scratch)
    rows = range(len(next(iter(columns.values()))))
    ids = pd.DataFrame({name: _cells(source, name, columns[name]) for name in id_columns}, index=rows)
    targets = {name: _cells(source, name, columns[name]) for name in kept}
    warnings: list[str] = []
    if inferred:
        numeric, categorical, bags = [], [], dict(bags)
        for name in sorted(set(columns) - {*id_columns, *bags, *kept, *exclude}):
            kind = _kind(columns[name])
            if kind == "numeric":
                numeric.append(name)
            elif kind == "categorical":
                categorical.append(name)
            elif kind == "bags":
                bags[name] = ""
            else:
                warnings.append(f"{source}: column {name!r} is left out: {kind}")
    if not numeric and not categorical and not bags:
        raise DataError(f"{source}: no column is left to take part beside the id and the label")
    numbers = empty(scratch, (len(numeric), len(ids)), np.float64)
    for place, name in enumerate(numeric):
        numbers[place] = _numbers(source, name, columns[name])
    texts = {name: _series(_texts(source, name, columns[name]), name) for name in categorical}
    lists = {name: read_bags(source, name, columns[name], parted, scratch) for name, parted in bags.items()}
    return Table(
        source,
        ids,
        pd.DataFrame(numbers.T, rows, [*numeric], copy=False),
        pd.DataFrame(texts, index=rows),
        pd.DataFrame({name: targets[name] for name in labels}, index=rows),
        targets[weight] if weight else None,
        (*warnings, *(warning for _, told in lists.values() for warning in told)),
        targets[rank_within] if rank_within else None,
        scratch,
        {name: read for name, (read, _) in lists.items()},
        pd.DataFrame({name: targets[name] for name in times}, index=rows),
    )


def _kind(column: Any) -> str:
    """ "numeric", "categorical", "bags", or why the column is none of these."""
    kind = column.type
    if are_bags(kind):
        return "bags"
    if _is_number(kind):
        return "numeric" if column.null_count < len(column) else "it is empty"
    if pa.types.is_boolean(kind):
        return "categorical"
    if not is_text(kind):
        return f"its type is {kind}; name it in data.categorical to use it"
    text = _series(column, "").dropna()
    number = text[~text.isin(NO_NUMBER)]
    if number.empty:
        return "it is empty"
    if pd.to_numeric(number, errors="coerce").notna().all() and not number.str.contains(LEADING_ZERO).any():
        return "numeric"
    distinct = text.nunique()
    if distinct > len(text) / 2:
        return f"{distinct} distinct values in {len(text)} rows; name it in data.categorical to use it"
    return "categorical"


def _numbers(source: Source, name: str, column: Any) -> NDArray[np.float64]:
    """float64 [rows], NaN where missing."""
    if is_text(column.type):
        text = _series(column, name)
        text = text.where(~text.isin(NO_NUMBER))
        parsed = pd.to_numeric(text, errors="coerce").to_numpy(dtype=np.float64)
        _refuse(
            source,
            name,
            np.isnan(parsed) & text.notna().to_numpy(),
            "no number; mend it, or name it categorical",
        )
    elif not (_is_number(column.type) or pa.types.is_boolean(column.type) or pa.types.is_null(column.type)):
        raise DataError(f"{source}: column {name!r} is of type {column.type}, which is no number")
    else:  # not safe: an integer beyond 2**53 is rounded, as its text in a CSV would be
        parsed = column.cast(pa.float64(), safe=False).to_numpy().astype(np.float64)
    _refuse(
        source,
        name,
        np.abs(parsed) > LARGEST,
        "an infinite or absurd number; empty the cell if it is unknown",
    )
    return parsed


def _refuse(source: Source, name: str, bad: NDArray[np.bool_], why: str) -> None:
    if bad.any():
        first = int(np.argmax(bad)) + 1
        raise DataError(
            f"{source}: column {name!r}: {int(bad.sum())} cell(s), the first in row {first}, hold {why}"
        )


def _texts(source: Source, name: str, column: Any) -> Any:
    try:
        if pa.types.is_nested(column.type) or pa.types.is_binary(column.type):
            raise pa.ArrowInvalid
        return column if is_text(column.type) else pc.cast(column, pa.large_string())
    except pa.ArrowException:
        raise DataError(
            f"{source}: column {name!r} is of type {column.type}, which cannot be a category"
        ) from None


def _cells(source: Source, name: str, column: Any) -> "pd.Series[Any]":
    """Of an id or label column."""
    try:
        if pa.types.is_nested(column.type):
            raise pa.ArrowInvalid
        return _series(column, name)
    except pa.ArrowException:  # pandas holds fewer times and zones than Arrow
        raise DataError(
            f"{source}: column {name!r} is of type {column.type}, which cannot be an id or a label"
        ) from None


def _is_number(kind: Any) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind))


def _series(column: Any, name: str) -> "pd.Series[Any]":
    """integer_object_nulls: an integer id beside a missing one must not become a float."""
    series: pd.Series[Any] = column.to_pandas(integer_object_nulls=True).rename(name)
    return series
