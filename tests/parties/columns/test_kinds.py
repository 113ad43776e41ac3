"""What a column is, seen from its cells."""

from datetime import date, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from parties.columns.kinds import ENOUGH, kind_of, never_recurs

MANY = 3 * ENOUGH
WORDS = [f"word{row % 7}" for row in range(100)]


def column(*cells: Any, kind: Any = None) -> pa.ChunkedArray:
    return pa.chunked_array([pa.array(cells, kind)])


@pytest.mark.parametrize(
    ("cells", "kind"),
    [
        (["1", "2.5", "-3e4", None], "number"),
        (["1", "NA", "nan"], "number"),
        (["007", "1", "2", "1", "2", "007"], "category"),
        (["0", "1", "0"], "number"),
        (["true", "FALSE", None, "NA"], "boolean"),
        (["yes", "no", "No"], "boolean"),
        ([True, None], "boolean"),
        (["2026-11-20", "2026-01-31", None, "null"], "date"),
        (["2026-11-20T08:30:00Z", "2026-11-20 09:00:00+01:00"], "date"),
        (["20261120", "20261121"], "number"),
        (["2026-11", "2026-12", "2026-11", "2026-12"], "category"),
        (["2026-11-20", "2026-13-20"] * 3, "category"),
        ([date(2026, 11, 20), None], "date"),
        ([datetime(2026, 11, 20, 8)], "date"),
        (WORDS, "category"),
        ([f"{row} is free text" for row in range(50)], "text"),
        ([f"k-{row}" for row in range(50)], "key"),
        ([f"0049 30 {row:06}" for row in range(50)], "key"),
        ([f"u{row % 5}@x.org" for row in range(50)], "key"),
        ([f"{1 + row % 28:02}.{1 + row % 12:02}.2004" for row in range(80)] * 3, "category"),
        ([f"{1 + row % 28:02}.{1 + row % 12:02}.{1990 + row}" for row in range(30)], "unread"),
        ([f"{row}.234,5{row % 10}" for row in range(1, 50)], "unread"),
        ([f"1f0c{row % 9:04}-0000-4000-8000-000000000000" for row in range(50)], "category"),
        ([["a"], []], "bag"),
        (["NA", "null"], "empty"),
        ([{"x": 1}], "other"),
        ([b"ab"], "other"),
    ],
)
def test_kinds(cells: list[Any], kind: str) -> None:
    assert kind_of(column(*cells)).kind == kind


def test_empty_columns_of_any_type() -> None:
    for of in (pa.null(), pa.string(), pa.int64(), pa.float64(), pa.bool_(), pa.timestamp("us"), pa.date32()):
        assert kind_of(column(None, None, kind=of)).kind == "empty"


@pytest.mark.parametrize("nearly", ["2026-02-30", "soon"])
def test_one_bad_cell_among_dates_is_told_by_its_row(nearly: str) -> None:
    cells = [f"2026-01-{1 + row % 28:02}" for row in range(100)]
    cells[41] = nearly
    kind, told = kind_of(column(*cells))
    assert kind == "category"
    assert told == "its cells are dates but for 1, the first in row 42: mend them"
    assert kind_of(column(*cells[:41], "20.11.2026", *cells[42:])).told == (
        "its cells are dates but for 1, the first in row 42, which look like dates written DD.MM.YYYY; "
        "write 2004-09-23 (ISO 8601)"
    )
    cells = [str(row % 9) for row in range(100)]
    cells[7] = nearly
    assert kind_of(column(*cells)) == ("category", told.replace("dates", "numbers").replace("42", "8"))


def test_numbers_that_are_keys() -> None:
    random = np.random.default_rng(1)
    counted = random.permutation(MANY).astype(float) + 7_000_000
    assert never_recurs(counted)
    assert never_recurs(np.append(counted, counted[: MANY // 100])), "one row in a hundred stands there twice"
    assert never_recurs(np.append(counted, np.nan))
    assert kind_of(column(*counted.astype(int).tolist())).kind == "key"
    assert kind_of(column(*(str(int(one)) for one in counted))).kind == "key"
    assert not never_recurs(counted[: ENOUGH - 1]), "few rows may differ by chance"
    assert not never_recurs(counted + 0.5)
    assert not never_recurs(np.zeros(MANY))
    assert not never_recurs(np.full(MANY, np.nan))


@pytest.mark.parametrize("seed", range(5))
def test_measurements_are_no_keys(seed: int) -> None:
    """Whole numbers of any spread: counts, cents, seconds of a year, bytes."""
    random = np.random.default_rng(seed)
    for scale in (10, 1e3, 1e5, 3e7, 1e12):
        for values in (random.uniform(0, scale, MANY), random.exponential(scale, MANY)):
            assert not never_recurs(np.floor(values))
