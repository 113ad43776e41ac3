"""Columns of lists: read alike from CSV and Parquet, coded by what the training rows had."""

import csv
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from parties.bags import Bags
from parties.columns.levels import MISSING, OTHER, RARE
from parties.errors import DataError
from parties.features import Pipeline
from parties.phases import features_of
from parties.sources.files import source_of
from parties.table import Table, read_table

Rows = list[list[str] | None]


def parquet(folder: Path, column: Any) -> Path:
    file = folder / "t.parquet"
    rows = range(len(column))
    pq.write_table(pa.table({"id": [f"u{row}" for row in rows], "seen": column}), file)
    return file


def table(folder: Path, rows: Rows) -> Table:
    return read_table(source_of(parquet(folder, pa.array(rows, pa.list_(pa.string())))), ["id"])


def lists(bags: Bags) -> list[list[str]]:
    places, offsets = bags.entries(np.arange(len(bags.lists)))
    return [bags.names[places[a:b]].tolist() for a, b in pairwise(offsets)]


def everything(whole: Table) -> np.ndarray:
    return np.arange(whole.rows)


ENTRY = st.text(st.characters(codec="utf-8", exclude_characters=" \0"), min_size=1, max_size=3)


@settings(deadline=None, max_examples=60)
@given(
    rows=st.lists(
        st.none() | st.lists(st.sampled_from(["a", "b"]) | ENTRY, max_size=5), min_size=2, max_size=30
    ),
    block=st.integers(1, 8),
    blanks=st.integers(1, 2),
)
def test_csv_and_parquet_give_the_same(
    tmp_path_factory: pytest.TempPathFactory, rows: Rows, block: int, blanks: int
) -> None:
    folder = tmp_path_factory.mktemp("t")
    with (folder / "t.csv").open("w", encoding="utf-8", newline="") as out:
        written = [(f"u{row}", (" " * blanks).join(cell or [])) for row, cell in enumerate(rows)]
        csv.writer(out, quoting=csv.QUOTE_ALL).writerows([("id", "seen"), *written])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("parties.sources.source.BLOCK", block)
        one = read_table(source_of(folder / "t.csv"), ["id"], bags={"seen": " "})
        other = table(folder, rows)
    assert lists(one.bags["seen"]) == lists(other.bags["seen"]) == [row or [] for row in rows]
    try:
        pipelines = [Pipeline.fit(read, everything(read)) for read in (one, other)]
    except DataError as fault:
        assert "no column varies" in str(fault)  # noqa: PT017
        return
    assert pipelines[0].to_json() == pipelines[1].to_json()
    found = [pipelines[0].bagged(read, everything(read)) for read in (one, other)]
    np.testing.assert_equal(found[0], found[1])


LISTS = [["a", "b"], None, [], ["a", "a"]]
SEEN = [["a", "b"], [], [], ["a", "a"]]
KINDS = {
    "list": pa.array(LISTS, pa.list_(pa.string())),
    "large list": pa.array(LISTS, pa.large_list(pa.large_string())),
    "of equal length": pa.array([["a", "b"], None, ["", ""], ["a", "a"]], pa.list_(pa.string(), 2)),
    "of a dictionary": pa.array(LISTS, pa.list_(pa.dictionary(pa.int32(), pa.string()))),
    "with entries of no character": pa.array([["", "a", "b"], [""], None, ["a", "", "a"]]),
}


@pytest.mark.parametrize("column", KINDS.values(), ids=KINDS)
def test_lists_of_parquet_are_recognised(tmp_path: Path, column: Any) -> None:
    whole = read_table(source_of(parquet(tmp_path, column)), ["id"])
    assert lists(whole.bags["seen"]) == SEEN
    assert whole.warnings == ()


def test_whole_numbers_are_their_text_and_a_column_may_be_empty(tmp_path: Path) -> None:
    whole = read_table(source_of(parquet(tmp_path, pa.array([[1, 2**62], None, [-3, 1]]))), ["id"])
    assert lists(whole.bags["seen"]) == [["1", str(2**62)], [], ["-3", "1"]]
    whole = read_table(source_of(parquet(tmp_path, pa.array([[], None, []]))), ["id"])
    assert lists(whole.bags["seen"]) == [[], [], []]
    with pytest.raises(DataError, match="no column varies"):
        Pipeline.fit(whole, everything(whole))


def test_a_bag_that_is_named_leaves_the_other_columns_to_be_seen(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("id,seen,age\nu,a|b c,1\nv,,2\nw,|,3\n")
    whole = read_table(source_of(tmp_path / "t.csv"), ["id"], bags={"seen": "|"})
    assert lists(whole.bags["seen"]) == [["a", "b c"], [], []]
    assert list(whole.numeric) == ["age"]
    assert list(whole.categorical) == []
    whole = read_table(source_of(tmp_path / "t.csv"), ["id"], categorical=["age"], bags={"seen": "|"})
    assert list(whole.numeric) == []


def test_of_a_long_list_the_last_entries_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("parties.bags.ENTRIES", 2)
    monkeypatch.setattr("parties.sources.source.BLOCK", 2)
    rows: Rows = [["x"], None, ["a", "b"], ["a", "b", "", "c"], ["p", "q", "r", "s"], ["y", "z"]]
    whole = table(tmp_path, rows)
    assert lists(whole.bags["seen"]) == [["x"], [], ["a", "b"], ["b", "c"], ["r", "s"], ["y", "z"]]
    (warning,) = whole.warnings
    assert "2 row(s), the first row 4, have more than 2 entries" in warning
    monkeypatch.setattr("parties.bags.IN_ALL", 6)
    with pytest.raises(DataError, match="more than 6 entries in rows 1 to 6"):
        table(tmp_path, rows)


@pytest.mark.parametrize(
    ("column", "says"),
    [
        (
            pa.array([["a"], None, ["secret", None], [None, None]]),
            "3 null.s. inside lists, the first in row 3",
        ),
        (pa.array([[None], [None]]), "2 null.s. inside lists, the first in row 1"),
        (pa.array([[["secret"]]]), "of type list<.*list<.*; a bag needs lists of text or of whole numbers"),
        (pa.array([[1.5]]), "of type list<.*double>; a bag needs lists of text or of whole numbers"),
        (pa.array([{"secret": 1}]), "of type struct<.*; a bag needs lists"),
        (pa.array([1]), "of type int64; a bag needs lists"),
        (pa.array(["secret"]), 'a bag needs lists, or what separates .*data.bags = { seen = " " }'),
    ],
)
def test_what_is_no_bag_is_named_and_not_quoted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, column: Any, says: str
) -> None:
    monkeypatch.setattr("parties.sources.source.BLOCK", 2)
    file = parquet(tmp_path, column)
    with pytest.raises(DataError, match=f"column 'seen'.*{says}") as fault:
        read_table(source_of(file), ["id"], bags={"seen": ""})
    assert "\n" not in str(fault.value)
    assert "secret" not in str(fault.value) or "struct" in str(fault.value)


def test_a_cell_that_no_reader_takes_is_named_by_its_line(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("id,seen\nu,a\nv," + "secret " * 20_000 + "\n")
    with pytest.raises(
        DataError, match=r"line 3: a cell of more than 131,072 characters, or a quote"
    ) as fault:
        read_table(source_of(tmp_path / "t.csv"), ["id"], bags={"seen": " "})
    assert "secret" not in str(fault.value)


def test_frequent_entries_have_codes_of_their_own(tmp_path: Path) -> None:
    rows: Rows = [["b"] * RARE, ["a"] * 3, ["a"] * RARE, ["c"] * (RARE - 1), None]
    fitted = table(tmp_path, rows)
    pipeline = Pipeline.fit(fitted, everything(fitted))
    assert pipeline.bag_levels == (4,)
    assert pipeline.bags[0].names == ("a", "b")
    again = Pipeline.from_json(pipeline.to_json())
    assert again.bags == pipeline.bags
    later = table(tmp_path, [["b", "new", "c"], [], ["a", "a"]])
    ((codes, offsets),) = again.bagged(later, np.array([2, 1, 0, 2]))
    assert codes.dtype == offsets.dtype == np.int64
    assert codes.tolist() == [2, 2, 3, OTHER, OTHER, 2, 2]
    assert offsets.tolist() == [0, 2, 2, 5, 7]
    features = features_of(again, later, np.array([2, 1]))
    assert features.bag_levels == (4,)
    assert features.batch(torch.tensor([0, 1]))[2][0].tolist() == [2, 2]


def test_large_columns_are_mapped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("parties.scratch.LARGE", 16)
    rows: Rows = [["a"] * RARE, None, ["b", "a", "c"] * RARE]
    whole = read_table(
        source_of(parquet(tmp_path, pa.array(rows, pa.list_(pa.string())))), ["id"], scratch=tmp_path / "runs"
    )
    assert lists(whole.bags["seen"]) == [row or [] for row in rows]
    pipeline = Pipeline.fit(whole, everything(whole))
    ((codes, _),) = pipeline.bagged(whole, everything(whole))
    assert codes.tolist() == [2] * RARE + [3, 2, 4] * RARE
    assert isinstance(codes.base, np.ndarray), "a view of the file's memory"
    assert [*(tmp_path / "runs").iterdir()] == []


def test_only_the_rows_of_the_fit_count(tmp_path: Path) -> None:
    rows: Rows = [["a"] * RARE, None, ["b"] * RARE]
    one, other = table(tmp_path, rows), table(tmp_path, [*rows[:2], ["c"]])
    train = np.array([0, 1])
    assert Pipeline.fit(one, train) == Pipeline.fit(other, train)
    with pytest.raises(DataError, match="no column varies in the 1 training rows"):
        Pipeline.fit(one, train[:1])


@pytest.mark.parametrize("rows", [[None, [], None], [["a"], ["a", "a"], ["a"]]], ids=["empty", "one code"])
def test_constant_bags_are_left_out(tmp_path: Path, rows: Rows) -> None:
    file = tmp_path / "t.parquet"
    pq.write_table(pa.table({"id": list("uvw"), "n": [1, 2, 3], "seen": rows}), file)
    whole = read_table(source_of(file), ["id"])
    pipeline = Pipeline.fit(whole, everything(whole))
    assert pipeline.bags == ()
    assert ["'seen' is left out: constant" in warning for warning in pipeline.warnings] == [True]


def test_a_table_without_the_bag_of_the_fit(tmp_path: Path) -> None:
    fitted = table(tmp_path, [["a"], None])
    pipeline = Pipeline.fit(fitted, everything(fitted))
    later = read_table(source_of(parquet(tmp_path, pa.array([1, 2]))), ["id"])
    with pytest.raises(DataError, match="no column 'seen'"):
        pipeline.bagged(later, everything(later))


def test_too_many_entries_are_hashed_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("parties.columns.levels.LEVELS_AT_MOST", 50)
    names = [f"item {row}" for row in range(60)]
    fitted = table(tmp_path, [names] * RARE)
    pipeline = Pipeline.fit(fitted, everything(fitted))
    assert pipeline.bag_levels == (51, 51)
    assert "item" not in pipeline.to_json()
    later = table(tmp_path, [[*names, "never seen"], [], ["item 0"]])
    again = Pipeline.from_json(pipeline.to_json())
    (one, offsets), (other, same) = again.bagged(later, everything(later))
    assert offsets.tolist() == same.tolist() == [0, 61, 61, 62]
    assert len({*zip(one.tolist(), other.tolist(), strict=True)}) >= 58, "hardly two entries share both codes"
    assert min(one.min(), other.min()) > MISSING
    assert (one[0], other[0]) == (one[-1], other[-1]) == (29, 31)
