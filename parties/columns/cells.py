"""Cells of a column as numbers, truth values, times or text. `docs/data.md` has the rules.

Errors name the source, the column and the row (numbered from 1, a header not counted), never what a cell
holds.
"""

from contextlib import suppress
from itertools import product
from typing import Any, Final

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from parties.columns.written import elsewhere
from parties.errors import DataError
from parties.sources.source import is_text

LARGEST: Final = 1e30
"""Numbers beyond this are placeholders, not measurements, and would overflow float32 soon after."""
NO_NUMBER: Final = ["NA", "N/A", "n/a", "NaN", "nan", "NULL", "null", "None", "none"]
"""Spellings of a missing number, date or truth value. In a category only the empty cell is missing: NA is
Namibia."""
CLOCK: Final = ["now", "today"]
"""What pandas takes for a date: the moment of reading."""
TRUTH: Final = {
    **dict.fromkeys(("true", "t", "yes", "y", "1"), 1.0),
    **dict.fromkeys(("false", "f", "no", "n", "0"), 0.0),
}
"""Spellings of a truth value, in any case."""
EARLIEST: Final = -62_135_596_800.0
"""Seconds of 0001-01-01: the calendar of ISO 8601, and of what is read here, begins."""
LATEST: Final = 253_402_300_800.0
"""Seconds of the end of the year 9999."""
NO_DATE: Final = "no date, such as 2026-11-20 or 2026-11-20T08:30:00Z"
MEND: Final = "mend them, or give the column another kind in data.types"


def read_numbers(source: object, name: str, column: Any) -> NDArray[np.float64]:
    """float64 [rows], NaN where missing."""
    if is_text(column.type):
        parsed, bad = parsed_numbers(column)
        _refuse(source, name, bad, _unread(column, bad) or f"no number; {MEND}")
    elif not (is_number(column.type) or pa.types.is_boolean(column.type) or pa.types.is_null(column.type)):
        raise DataError(f"{source}: column {name!r} is of type {column.type}, which is no number")
    else:  # not safe: an integer beyond 2**53 is rounded, as its text in a CSV would be
        parsed = _floats(column)
    _refuse(
        source,
        name,
        np.abs(parsed) > LARGEST,
        "an infinite or absurd number; empty the cell if unknown",
    )
    return parsed


def read_booleans(source: object, name: str, column: Any) -> NDArray[np.float64]:
    """1 for true, 0 for false, NaN where missing: float64 [rows]."""
    if is_text(column.type):
        texts = series(column, name)
        places, distinct = pd.factorize(texts.where(~texts.isin(NO_NUMBER)))
        meant = [TRUTH.get(str(one).strip().casefold(), np.inf) for one in distinct]
        parsed: NDArray[np.float64] = np.array([*meant, np.nan])[places]
    else:
        parsed = read_numbers(source, name, column)
    bad = ~(np.isnan(parsed) | (parsed == 0) | (parsed == 1))
    _refuse(source, name, bad, f"neither true nor false; {MEND}")
    return parsed


def read_dates(source: object, name: str, column: Any) -> NDArray[np.float64]:
    """Seconds since 1970-01-01 UTC, NaN where missing: float64 [rows]. A time without a zone is UTC."""
    if is_text(column.type):
        parsed, bad = parsed_dates(column)
        _refuse(source, name, bad, _unread(column, bad) or f"{NO_DATE}; {MEND}")
    elif pa.types.is_date32(column.type):
        parsed = 86_400.0 * _floats(column.cast(pa.int32()))
    elif pa.types.is_date64(column.type) or pa.types.is_timestamp(column.type):
        unit = getattr(column.type, "unit", "ms")
        parsed = _floats(column.cast(pa.int64())) / {"s": 1.0, "ms": 1e3, "us": 1e6, "ns": 1e9}[unit]
    elif pa.types.is_null(column.type):
        return np.full(len(column), np.nan)
    else:
        raise DataError(f"{source}: column {name!r} is of type {column.type}, which is no date")
    absurd = (parsed < EARLIEST) | (parsed > LATEST)
    _refuse(source, name, absurd, "a time that is not of the years 1 to 9999; empty the cell if unknown")
    return parsed


def read_texts(source: object, name: str, column: Any) -> "pd.Series[Any]":
    """As written, null where empty; other types as Arrow writes them."""
    try:
        if pa.types.is_nested(column.type) or pa.types.is_binary(column.type):
            raise pa.ArrowInvalid
        return series(column if is_text(column.type) else pc.cast(column, pa.large_string()), name)
    except pa.ArrowException:
        raise DataError(
            f"{source}: column {name!r} is of type {column.type}, which cannot be a category"
        ) from None


def parsed_numbers(texts: Any) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Of text cells: the numbers, NaN where there is none; and which cells are neither that nor missing."""
    for worded in (True, False):  # words for missing are rare, and to look for them takes longest
        cells = texts if worded else present(texts)
        with suppress(pa.ArrowException):
            parsed = _floats(cells)
            if not (bad := np.isnan(parsed) & _is_there(cells)).any():
                return parsed, bad
    # What follows takes a plus sign or blanks before the digits as well, and is slow.
    parsed = pd.to_numeric(cells.to_pandas(), errors="coerce").to_numpy(dtype=np.float64, copy=True)
    return parsed, np.isnan(parsed) & _is_there(cells)


def parsed_dates(texts: Any) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Of text cells: ISO 8601 as seconds since 1970-01-01 UTC, NaN where there is none; and which cells are
    neither that nor missing."""
    for worded, kind in product((True, False), (pa.timestamp("us"), pa.timestamp("us", "UTC"))):
        cells = texts if worded else present(texts)
        with suppress(pa.ArrowException):  # zones in some cells, or more digits of a second
            parsed = _floats(cells.cast(kind).cast(pa.int64())) / 1e6
            return parsed, np.zeros(len(parsed), dtype=bool)
    written = cells.to_pandas()
    read = pd.to_datetime(written.mask(written.isin(CLOCK)), errors="coerce", utc=True, format="ISO8601")
    moments = read.dt.tz_localize(None).to_numpy(dtype="datetime64[us]")
    parsed = np.where(np.isnat(moments), np.nan, moments.astype(np.int64) / 1e6)
    return parsed, np.isnan(parsed) & _is_there(cells)


def present(texts: Any) -> Any:
    """Null where a cell says in words that it is missing."""
    missing = pc.is_in(texts, pa.array(NO_NUMBER, texts.type))
    return pc.if_else(missing, pa.scalar(None, texts.type), texts)


def is_number(kind: Any) -> bool:
    """Of an Arrow type."""
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind))


def series(column: Any, name: str) -> "pd.Series[Any]":
    """integer_object_nulls: an integer id beside a missing one must not become a float."""
    found: pd.Series[Any] = column.to_pandas(integer_object_nulls=True).rename(name)
    return found


def _floats(column: Any) -> NDArray[np.float64]:
    found: NDArray[np.float64] = column.cast(pa.float64(), safe=False).to_numpy().astype(np.float64)
    return found


def _is_there(texts: Any) -> NDArray[np.bool_]:
    there: NDArray[np.bool_] = pc.is_valid(texts).to_numpy()
    return there


def _unread(column: Any, bad: NDArray[np.bool_]) -> str:
    return elsewhere(column.filter(pa.array(bad))) if bad.any() else ""


def _refuse(source: object, name: str, bad: NDArray[np.bool_], why: str) -> None:
    if bad.any():
        first = int(np.argmax(bad)) + 1
        raise DataError(
            f"{source}: column {name!r}: {int(bad.sum())} cell(s), the first in row {first}, hold {why}"
        )
