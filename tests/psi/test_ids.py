"""One person, one canonical id, however each company spells it; and no id in an error."""

import time
import unicodedata

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from psi.ids import IdError, Ids, digests, normalise


def canonical(cells: list[object], id_type: str) -> list[str]:
    return normalise(pd.Series(cells, name="id", dtype=object), id_type, "drop", "drop").canonical


@pytest.mark.parametrize(
    ("id_type", "spellings", "expected"),
    [
        ("integer", [1, "1", 1.0, "001", "1.0", "+1", " 1 ", "\ufeff1", np.int64(1), "1."], "1"),
        ("integer", [0, "0", "-0", "000", 0.0, -0.0, "-0.00"], "0"),
        ("integer", [-17, "-17", "-017.0"], "-17"),
        ("integer", ["123456789012345678901234567890", "0123456789012345678901234567890"], "1234567890" * 3),
        ("string", ["Zoë", "Zoe\u0308", " Zoë\t", "\ufeffZo\u200bë", "Zo\u00adë"], "Zoë"),
        ("string", ["001", " 001"], "001"),
        ("email", ["Ann@B.org", " ann@b.ORG ", "ann @b.org", "\ufeffANN@B.ORG"], "ann@b.org"),
        ("email", ["jose\u0301@x.es", "JOSÉ@X.ES"], "josé@x.es"),
        ("phone", ["+49 (0)170 12-34.567", "0049 170/1234567", "+491701234567"], "+491701234567"),
        ("phone", ["+49\u2011170\u20131234567", "\u202a+49 170 1234567\u202c"], "+491701234567"),
    ],
)  # fmt: skip
def test_spellings_of_one_id_have_one_form(id_type: str, spellings: list[object], expected: str) -> None:
    assert [canonical([cell], id_type) for cell in spellings] == [[expected]] * len(spellings)
    assert canonical(spellings, id_type) == [expected]


@pytest.mark.parametrize(
    ("id_type", "one", "other"),
    [
        ("string", "1", "001"),
        ("string", "a", "A"),
        ("string", "a b", "ab"),
        ("integer", "1", "-1"),
        ("integer", 2**53, 2**53 + 1),
        ("email", "ann@example.org", "ann+shop@example.org"),
        ("phone", "+4917012345", "+4317012345"),
    ],
)
def test_different_ids_stay_different(id_type: str, one: object, other: object) -> None:
    assert len(canonical([one, other], id_type)) == 2


@pytest.mark.parametrize(
    ("id_type", "cell"),
    [
        ("integer", "1e3"), ("integer", "1,000"), ("integer", "1.5"), ("integer", 1.5), ("integer", True),
        ("integer", float("inf")), ("integer", 2.0**60), ("integer", "٣"), ("integer", "0x10"),
        ("integer", "1 2"),
        ("email", "nobody"), ("email", "@example.org"), ("email", "a@"), ("email", "a@b@c"),
        ("phone", "0170 1234567"), ("phone", "+12"), ("phone", "+49170CALLME"), ("phone", "+0491234567"),
        ("string", "\ud800"), ("string", 17), ("string", 1.0), ("email", 17), ("phone", 491701234567),
    ],
)  # fmt: skip
def test_what_is_no_such_id_is_refused_by_row_and_never_quoted(id_type: str, cell: object) -> None:
    good = {"integer": "1", "email": "a@b.c", "phone": "+491701234567", "string": "x"}[id_type]
    with pytest.raises(IdError) as caught:
        canonical([good, None, cell], id_type)
    text = str(caught.value)
    assert "'id'" in text
    assert "1 row (3)" in text
    assert "\n" not in text
    assert str(cell) not in text.replace("row (3)", "")


def test_counts_and_rows() -> None:
    column = pd.Series(
        ["b@x.org", None, " ", "a@x.org", "B@X.org", "\u200b", float("nan"), "a@x.org"], name="mail"
    )
    ids = normalise(column, "email", "drop", "drop")
    assert ids.canonical == ["b@x.org", "a@x.org"]
    assert ids.rows.tolist() == [0, 3]
    assert (ids.total, ids.null, ids.blank, ids.duplicate) == (8, 2, 2, 2)
    with pytest.raises(IdError, match=r"no id in 4 rows \(2, 3, 6, 7\)"):
        normalise(column, "email", "refuse", "drop")
    with pytest.raises(IdError, match=r"2 rows \(5, 8\) repeat"):
        normalise(column, "email", "drop", "refuse")
    with pytest.raises(IdError, match="choose from string, integer, email, phone"):
        normalise(column, "uuid", "drop", "drop")


@pytest.mark.parametrize(
    "dtype", ["int64", "Int64", "float64", "string", "string[pyarrow]", "int64[pyarrow]"]
)
def test_an_integer_column_is_the_same_in_every_pandas_type(dtype: str) -> None:
    column = pd.Series([3, 1, 2], name="id").astype(dtype)
    assert normalise(column, "integer", "refuse", "refuse").canonical == ["3", "1", "2"]


def test_an_empty_column() -> None:
    ids = normalise(pd.Series([], name="id", dtype=object), "string", "refuse", "refuse")
    assert (ids.canonical, len(ids.rows), ids.total) == ([], 0, 0)
    assert digests(ids, b"k").shape == (0, 16)


def dirty(text: str, draw: st.DrawFn) -> str:
    """What happens to an id on its way through other people's systems."""
    text = unicodedata.normalize(draw(st.sampled_from(["NFC", "NFD"])), text)
    for invisible in draw(st.lists(st.sampled_from("\ufeff\u200b\u2060\u00ad"), max_size=3)):
        at = draw(st.integers(0, len(text)))
        text = text[:at] + invisible + text[at:]
    return draw(st.sampled_from(["", " ", "\t ", "\u00a0"])) + text + draw(st.sampled_from(["", " ", "\r\n"]))


@settings(deadline=None, max_examples=60)
@given(st.lists(st.text("aBéñß한Ωi", min_size=1, max_size=6), min_size=1, max_size=8, unique=True), st.data())
@pytest.mark.parametrize("id_type", ["string", "email"])
def test_two_parties_agree_whatever_the_dirt(id_type: str, names: list[str], data: st.DataObject) -> None:
    clean = [f"{name}@x.org" if id_type == "email" else name for name in names]
    spoilt = [dirty(text, data.draw) for text in clean]
    if id_type == "email":
        spoilt = [text.upper() if "ß" not in text and data.draw(st.booleans()) else text for text in spoilt]
    ours, theirs = canonical(list(clean), id_type), canonical(list(spoilt), id_type)
    assert ours == theirs
    assert canonical(list(ours), id_type) == ours  # canonical forms are fixed points
    if id_type == "string":
        assert len(ours) == len({unicodedata.normalize("NFC", name) for name in names})


@settings(deadline=None, max_examples=100)
@given(st.integers(-(10**20), 10**20), st.integers(0, 3), st.booleans())
def test_integers_in_text_agree_with_integers(number: int, zeros: int, point: bool) -> None:
    sign, magnitude = ("-" if number < 0 else ""), str(abs(number))
    text = f"{sign}{'0' * zeros}{magnitude}{'.0' if point else ''}"
    assert canonical([text], "integer") == canonical([number], "integer") == [str(number)]


def test_digests_depend_on_key_and_id_alone() -> None:
    ids = normalise(pd.Series(["x", "y"], name="id"), "string", "drop", "drop")
    one = digests(ids, b"run one")
    assert one.shape == (2, 16)
    assert one.dtype == np.uint8
    assert (one == digests(ids, b"run one")).all()
    assert (one != digests(ids, b"run two")).any(axis=1).all()
    assert (one[0] != one[1]).any()


def test_a_long_malformed_cell_takes_no_time() -> None:
    start = time.perf_counter()
    with pytest.raises(IdError):
        normalise(pd.Series(["0" * 100_000 + "x"], name="id"), "integer", "drop", "drop")
    assert time.perf_counter() - start < 2  # minutes, where the time is quadratic


def test_a_hundred_thousand_ids_take_well_under_a_second() -> None:
    column = pd.Series([f" User{i}@Example.org" for i in range(100_000)], name="id")
    start = time.perf_counter()
    ids: Ids = normalise(column, "email", "drop", "drop")
    digests(ids, b"key")
    assert len(ids.canonical) == 100_000
    assert time.perf_counter() - start < 3  # some 0.2 s; the rest is for a busy machine
