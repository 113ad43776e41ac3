"""Columns of ids: what is counted, refused and hashed; the short cut is the rule; no id in an error."""

import hashlib
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from psi import IdError, Ids, canonical, digest_of, normalise

KEY = b"contract and kind"
GOOD = {"integer": "1", "email": "a@b.c", "phone": "+491701234567", "string": "x"}


def one(cells: Any, id_type: str, nulls: str = "drop", duplicates: str = "drop", name: str = "id") -> Ids:
    """The ids of one column that comes whole."""
    return normalise([[cells]], [name], [id_type], KEY, nulls, duplicates)


def hashes(texts: Sequence[str]) -> list[bytes]:
    return [hashlib.blake2b(text.encode(), digest_size=16, key=KEY).digest() for text in texts]


def rows(digests: np.ndarray) -> list[bytes]:
    return [row.tobytes() for row in digests]


@pytest.mark.parametrize(
    ("id_type", "cell"),
    [
        ("integer", "1e3"), ("integer", "1,000"), ("integer", "1.5"), ("integer", 1.5), ("integer", True),
        ("integer", float("inf")), ("integer", 2.0**60), ("integer", "٣"), ("integer", "0x10"),
        ("integer", "1 2"),
        ("email", "nobody"), ("email", "@example.org"), ("email", "a@"), ("email", "a@b@c"),
        ("phone", "0170 1234567"), ("phone", "+12"), ("phone", "+49170CALLME"), ("phone", "+0491234567"),
        ("string", "\ud800"), ("string", 17), ("string", 1.0), ("email", 17), ("phone", 491701234567),
        ("string", True), ("email", b"a@b.c"), ("string", ["x"]),
    ],
)  # fmt: skip
def test_what_is_no_such_id_is_refused_by_row_and_never_quoted(id_type: str, cell: object) -> None:
    with pytest.raises(IdError) as caught:
        one(pd.Series([GOOD[id_type], None, cell], name="id", dtype=object), id_type)
    text = str(caught.value)
    assert "'id'" in text
    assert "1 row (3)" in text
    assert "\n" not in text
    assert str(cell) not in text.replace("row (3)", "")


@pytest.mark.parametrize(
    "cells",
    [
        pa.array([1.0, 1.5, 2.0**60]),
        pa.array([True, False, None]),
        pa.array([b"1", None], pa.binary()),
        pa.array([0, None], pa.timestamp("ns")),
        pa.array([["1"]]),
    ],
    ids=["float", "bool", "binary", "timestamp", "list"],
)
def test_a_column_of_another_type_holds_no_ids(cells: pa.Array) -> None:
    with pytest.raises(IdError, match="cannot be read as integers"):
        one(cells, "integer")
    with pytest.raises(IdError, match="hold no text; read it as text"):
        one(cells, "string")


@pytest.mark.parametrize("size", [1, 3, 8])
def test_counts_and_rows_over_all_batches(size: int) -> None:
    column = ["b@x.org", None, " ", "a@x.org", "B@X.org", "\u200b", None, "a@x.org"]

    def ids(nulls: str, duplicates: str, id_type: str = "email") -> Ids:
        batches = [[column[at : at + size]] for at in range(0, len(column), size)]
        return normalise(batches, ["mail"], [id_type], KEY, nulls, duplicates)

    made = ids("drop", "drop")
    assert rows(made.digests) == hashes(["b@x.org", "a@x.org"])
    assert made.rows.tolist() == [0, 3]
    assert (made.total, made.null, made.blank, made.duplicate) == (8, 2, 2, 2)
    with pytest.raises(IdError, match=r"'mail': no id in 4 rows \(2, 3, 6, 7\); mend"):
        ids("refuse", "drop")
    with pytest.raises(IdError, match=r"'mail': 2 rows \(5, 8\) repeat"):
        ids("drop", "refuse")
    with pytest.raises(IdError, match=r"4 rows \(1, 4, 5, 8\) cannot be read as integers"):
        ids("refuse", "refuse", "integer")
    with pytest.raises(IdError, match="choose from string, integer, email, phone"):
        ids("drop", "drop", "uuid")


def test_missing_cells_of_every_kind_are_null() -> None:
    cells = pd.Series(["1", None, float("nan"), pd.NA, pd.NaT, 2], dtype=object)
    assert one(cells, "integer").null == 4
    assert one(pa.array([1.0, None, float("nan")]), "integer").null == 2
    assert one(pa.array([None, None]), "email").null == 2
    assert one(pa.chunked_array([["x"], [None]]), "string").null == 1


@pytest.mark.parametrize(
    "dtype", ["int64", "Int64", "float64", "string", "string[pyarrow]", "int64[pyarrow]", "object"]
)
def test_an_integer_column_is_the_same_in_every_pandas_type(dtype: str) -> None:
    made = one(pd.Series([3, 1, 2], name="id").astype(dtype), "integer", "refuse", "refuse")
    assert rows(made.digests) == hashes(["3", "1", "2"])


@pytest.mark.parametrize("batches", [[], [[[]]], [[pa.array([], pa.string())]]])
def test_no_rows(batches: list[Any]) -> None:
    ids = normalise(batches, ["id"], ["string"], KEY, "refuse", "refuse")
    assert (ids.digests.shape, len(ids.rows), ids.total) == ((0, 16), 0, 0)


# Clean, nearly clean and wild: a short cut that is wrong anywhere meets a cell that tells.
CELLS = st.one_of(
    st.none(),
    st.text(max_size=4),
    st.text("01289+-. \t\x1c", max_size=6),
    st.text("aB@. \n\v\x1f\x7fé\u200b", max_size=6),
    st.from_regex(r"[ \t\x1c]?[A-Za-c.]{1,2} ?@[A-Z]\.de[ \n\x85\u00a0]?", fullmatch=True),
    st.from_regex(r" ?\+[0-9 ()]{4,9}[0-9]{0,9}\n?", fullmatch=True),
    st.integers(-20, 20).map(str),
)


@settings(deadline=None, max_examples=300)
@given(st.lists(CELLS, max_size=5))
@pytest.mark.parametrize("id_type", ["string", "integer", "email", "phone"])
def test_the_short_cut_is_the_rule(id_type: str, cells: list[str | None]) -> None:
    expected = [None if cell is None else canonical(cell, id_type) for cell in cells]
    malformed = [row for row, text in enumerate(expected, 1) if text is None and cells[row - 1] is not None]
    if malformed:
        with pytest.raises(IdError) as caught:
            one(cells, id_type)
        assert f"({', '.join(map(str, malformed))})" in str(caught.value)
    else:
        made = one(cells, id_type)
        assert rows(made.digests) == hashes(list(dict.fromkeys(text for text in expected if text)))
        assert (made.null, made.blank) == (cells.count(None), expected.count(""))


@settings(deadline=None, max_examples=100)
@given(st.lists(st.one_of(st.none(), st.floats(), st.integers(-(2**60), 2**60)), max_size=4))
def test_the_short_cut_for_floats_is_the_rule(cells: list[float | int | None]) -> None:
    numbers = [None if cell is None else float(cell) for cell in cells]
    expected = [canonical(cell, "integer") for cell in numbers if cell is not None and cell == cell]
    if None in expected:
        with pytest.raises(IdError):
            one(pa.array(numbers, pa.float64()), "integer")
    else:
        digests = one(pa.array(numbers, pa.float64()), "integer").digests
        assert rows(digests) == hashes(list(dict.fromkeys(expected)))


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.text("ab", max_size=3), st.integers(0, 3)), max_size=12), st.integers(1, 4))
def test_composite_ids_are_equal_exactly_when_all_parts_are(pairs: list[tuple[str, int]], size: int) -> None:
    batches = [
        [[text for text, _ in pairs[at : at + size]], [number for _, number in pairs[at : at + size]]]
        for at in range(0, len(pairs), size)
    ]
    ids = normalise(batches, ["a", "b"], ["string", "integer"], KEY)
    distinct = dict.fromkeys(pair for pair in pairs if pair[0])
    assert len(ids.digests) == len(distinct)
    assert [pairs[row] for row in ids.rows] == list(distinct)
    assert ids.blank == sum(not text for text, _ in pairs)


def test_the_parts_of_a_composite_id_are_told_apart() -> None:
    ids = normalise(
        [[["ab", "a", None, "x", ""], ["c", "bc", "y", "", None]]], ["p", "q"], ["string"] * 2, KEY
    )
    assert (len(ids.digests), ids.null, ids.blank) == (2, 2, 1)
    with pytest.raises(IdError, match=r"columns 'p', 'q': no id in 1 row \(1\)"):
        normalise([[["a"], [None]]], ["p", "q"], ["string"] * 2, KEY, nulls="refuse")
    with pytest.raises(IdError, match=r"column 'q': 1 row \(2\) cannot be read as e-mail"):
        normalise([[["a", "b"], ["a@b", "b"]]], ["p", "q"], ["string", "email"], KEY)


def test_digests_depend_on_key_and_id_alone() -> None:
    batch = [[["x", "y"]]]
    ids = normalise(batch, ["id"], ["string"], b"one contract").digests
    assert (ids.shape, ids.dtype) == ((2, 16), np.uint8)
    assert (ids == normalise(batch, ["other"], ["string"], b"one contract").digests).all()
    assert (ids != normalise(batch, ["id"], ["string"], b"another one").digests).any(axis=1).all()
    assert (ids[0] != ids[1]).any()


@settings(deadline=None, max_examples=50)
@given(st.lists(st.integers(0, 9), max_size=40))
def test_of_duplicates_the_first_row_stays(cells: list[int]) -> None:
    ids = one(cells, "integer")
    assert [cells[row] for row in ids.rows] == list(dict.fromkeys(cells))
    assert ids.duplicate == len(cells) - len(set(cells))


@settings(deadline=None, max_examples=100)
@given(st.lists(st.one_of(st.none(), st.integers(0, 9)), max_size=40), st.integers(1, 9))
def test_later_rows_are_known_with_the_place_of_their_id(cells: list[int | None], size: int) -> None:
    batches = [[cells[at : at + size]] for at in range(0, len(cells), size)] or [[cells]]
    ids = normalise(batches, ["id"], ["integer"], KEY)
    assert len(ids.repeats) == len(ids.repeated) == ids.duplicate
    assert [cells[row] for row in ids.repeats] == [cells[ids.rows[place]] for place in ids.repeated]
    every = sorted([*ids.rows.tolist(), *ids.repeats.tolist()])
    assert every == [row for row, cell in enumerate(cells) if cell is not None]
    assert (np.diff(ids.repeats) > 0).all()


@given(
    st.lists(st.tuples(st.none() | st.integers(0, 5), st.booleans()), min_size=1, max_size=40),
    st.integers(1, 9),
)
def test_rows_that_take_no_part_are_as_if_they_had_no_id(
    cells: list[tuple[int | None, bool]], size: int
) -> None:
    taking = np.array([part for _, part in cells])
    batches = [[[cell for cell, _ in cells[at : at + size]]] for at in range(0, len(cells), size)]
    without = [
        [[cell if part else None for cell, part in cells[at : at + size]]]
        for at in range(0, len(cells), size)
    ]
    found = normalise(batches, ["id"], ["integer"], KEY, takes_part=taking)
    wanted = normalise(without, ["id"], ["integer"], KEY)
    for name in ("digests", "rows", "repeats", "repeated"):
        assert np.array_equal(getattr(found, name), getattr(wanted, name))
    assert found.null == sum(cell is None for cell, _ in cells)


def test_a_hundred_thousand_ids_take_well_under_a_second() -> None:
    column = [f" User{i}@Example.org" for i in range(100_000)]
    start = time.perf_counter()
    assert len(one(column, "email").digests) == 100_000
    assert time.perf_counter() - start < 3  # some 0.1 s; the rest is for a busy machine


@settings(deadline=None)
@given(st.lists(st.sampled_from([*GOOD]), min_size=1, max_size=3), st.data())
def test_a_single_id_has_the_digest_that_it_has_in_a_table(types: list[Any], data: st.DataObject) -> None:
    cells = [data.draw(st.sampled_from([GOOD[one], f" {GOOD[one]}", "", "?", None])) for one in types]
    names = [str(place) for place in range(len(types))]
    try:
        table = rows(normalise([[[cell] for cell in cells]], names, types, KEY).digests)
    except IdError:
        table = []
    assert [one for one in [digest_of(cells, types, KEY)] if one] == table
