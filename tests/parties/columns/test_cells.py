"""Cells as numbers, truth values, dates: what is read, and what is refused without being shown."""

from datetime import UTC, date, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from parties.columns.cells import EARLIEST, LATEST, read_booleans, read_dates, read_numbers
from parties.columns.kinds import kind_of
from parties.errors import DataError

READERS = {"number": read_numbers, "boolean": read_booleans, "date": read_dates}


def column(*cells: Any, kind: Any = None) -> pa.ChunkedArray:
    return pa.chunked_array([pa.array(cells, kind)])


def seconds(*moment: int) -> float:
    return datetime(*moment, tzinfo=UTC).timestamp()  # type: ignore[misc, arg-type]


def test_truth_values() -> None:
    cells = column("true", "F", " Yes ", "n", "1", "0", None, "NA")
    np.testing.assert_array_equal(read_booleans("t", "c", cells), [1, 0, 1, 0, 1, 0, np.nan, np.nan])
    for kind in (pa.bool_(), pa.int8(), pa.float64()):
        cells = column(1, 0, None, kind=pa.int8()).cast(kind)
        np.testing.assert_array_equal(read_booleans("t", "c", cells), [1, 0, np.nan])


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("2026-11-20", (2026, 11, 20)),
        ("2026-11-20T08:30:00Z", (2026, 11, 20, 8, 30)),
        ("2026-11-20 08:30", (2026, 11, 20, 8, 30)),
        ("2026-11-20T08:30:00+01:00", (2026, 11, 20, 7, 30)),
        ("2026-11-20T08:30:00.500000001", (2026, 11, 20, 8, 30, 0, 500_000)),
        ("0001-01-01", (1, 1, 1)),
        ("9999-12-31", (9999, 12, 31)),
    ],
)
def test_dates_of_text(text: str, wanted: tuple[int, ...]) -> None:
    for others in ((), ("2020-01-01",), ("2020-01-01T00:00:00Z", None, "NA")):
        read = read_dates("t", "c", column(text, *others))
        assert read[0] == seconds(*wanted)
        assert np.isnan(read[2:]).all()


def test_dates_of_every_arrow_type() -> None:
    moment = seconds(2026, 11, 20, 8, 30)
    for unit, ticks in (("s", 1), ("ms", 10**3), ("us", 10**6), ("ns", 10**9)):
        for zone in (None, "UTC", "Nowhere/Land"):
            cells = pa.array([int(moment) * ticks, None], pa.int64()).cast(pa.timestamp(unit, zone))
            np.testing.assert_array_equal(read_dates("t", "c", pa.chunked_array([cells])), [moment, np.nan])
    for kind in (pa.date32(), pa.date64()):
        read = read_dates("t", "c", column(date(1969, 12, 31), None, kind=kind))
        np.testing.assert_array_equal(read, [-86_400, np.nan])


@pytest.mark.parametrize(
    ("kind", "cells", "wanted"),
    [
        ("date", column("2026-01-01", "2026-02-30", "secret"), "2 cell(s), the first in row 2, hold no date"),
        (
            "date",
            column("2026-01-01T00:00:00Z", None, "secret"),
            "1 cell(s), the first in row 3, hold no date",
        ),
        ("date", column(20261120), "is of type int64, which is no date"),
        ("date", column(2**62, kind=pa.timestamp("s")), "row 1, hold a time that is not of the years 1 to"),
        ("boolean", column("yes", "secret"), "1 cell(s), the first in row 2, hold neither true nor false"),
        ("boolean", column(0, 2), "1 cell(s), the first in row 2, hold neither true nor false"),
        ("boolean", column(date(2026, 1, 1)), "is of type date32[day], which is no number"),
        ("number", column("1", "secret"), "1 cell(s), the first in row 2, hold no number"),
        ("number", column(date(2026, 1, 1)), "is of type date32[day], which is no number"),
    ],
)
def test_what_is_not_of_the_kind_is_refused(kind: str, cells: Any, wanted: str) -> None:
    with pytest.raises(DataError) as fault:
        READERS[kind]("t.csv", "since", cells)
    assert str(fault.value).startswith("t.csv: column 'since'")
    assert wanted in str(fault.value)
    assert "secret" not in str(fault.value)


@pytest.mark.parametrize("word", ["now", "today", "Now", "TODAY", " now"])
def test_the_clock_is_no_date(word: str) -> None:
    for cells in (column("2026-01-01", word), column("2026-01-01T00:00:00Z", word, None, "NA")):
        with pytest.raises(DataError, match=r"1 cell\(s\), the first in row 2, hold no date"):
            read_dates("t", "c", cells)
    assert kind_of(column(*["2026-01-01"] * 99, word)).kind != "date"


@given(cells=st.lists(st.none() | st.text() | st.floats().map(str) | st.datetimes().map(str), min_size=1))
def test_any_text_is_read_or_refused(cells: list[str | None]) -> None:
    for kind, read in READERS.items():
        try:
            values = read("t", "c", column(*cells, kind=pa.large_string()))
        except DataError as fault:
            assert "cell(s), the first in row" in str(fault)  # noqa: PT017
        else:
            assert values.shape == (len(cells),)
            assert not np.isinf(values).any()
            there = values[~np.isnan(values)]
            assert kind != "date" or ((there >= EARLIEST) & (there <= LATEST)).all()
