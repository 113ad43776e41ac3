"""Reading a party's table: what is understood, and the one line for everything else."""

import csv
import gzip
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from parties.errors import DataError
from parties.labels import yes_or_no
from parties.sources.files import source_of
from parties.table import read_table
from psi.ids import IdError, normalise


def put(folder: Path, content: str | bytes, name: str = "t.csv") -> Path:
    file = folder / name
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return file


def said(fault: pytest.ExceptionInfo[DataError]) -> str:
    text = str(fault.value)
    assert "\n" not in text
    return text


def test_ids_are_text_exactly_as_written(tmp_path: Path) -> None:
    table = read_table(
        source_of(put(tmp_path, "id,a\n001,1\n1.0,2\n NA ,3\nNaN,4\n1e5,5\n,6\n  ,7\n")), ["id"], ["a"]
    )
    assert table.ids["id"][:5].tolist() == ["001", "1.0", " NA ", "NaN", "1e5"]
    assert table.ids["id"].isna().tolist() == [False] * 5 + [True, False]
    assert table.ids["id"][6] == "  "
    assert table.rows == 7


def test_parquet_ids_keep_their_type(tmp_path: Path) -> None:
    file = tmp_path / "t.parquet"
    large = 2**60 + 1
    pd.DataFrame({"id": pd.array([1, None, large], "Int64"), "a": [1.0, 2.0, None]}).to_parquet(file)
    table = read_table(source_of(file), ["id"])
    assert table.ids["id"].tolist() == [1, None, large]
    np.testing.assert_array_equal(table.numeric["a"], [1, 2, np.nan])


def test_kinds_are_inferred(tmp_path: Path) -> None:
    rows = [
        f"u{i},{i / 2},{'NA' if i % 3 else 5},{['NA', 'DE'][i % 2]},0{i % 3}7,{i % 2 < 1},at {i},,{i % 2},x,"
        f"2,s{i // 2}"
        for i in range(12)
    ]
    file = put(tmp_path, "id,amount,gaps,country,postcode,flag,comment,empty,y,skip,w,s\n" + "\n".join(rows))
    table = read_table(source_of(file), ["id"], labels=["y"], exclude=["skip"], weight="w", rank_within="s")
    assert list(table.numeric) == ["amount", "flag", "gaps"]
    assert list(table.categorical) == ["country", "postcode"]
    assert table.kinds["flag"] == "boolean"
    assert table.numeric["flag"].tolist() == [1.0, 0.0] * 6
    assert table.numeric["gaps"].isna().sum() == 8
    assert table.categorical["country"].isna().sum() == 0, "NA is Namibia"
    assert [warning.split("'")[1] for warning in table.warnings] == ["comment", "empty"]
    assert table.labels["y"].tolist() == ["0", "1"] * 6
    assert table.weight is not None
    assert table.weight.tolist() == ["2"] * 12
    assert table.rank_within is not None
    assert table.rank_within.tolist()[:3] == ["s0", "s0", "s1"]


def test_named_kinds_are_obeyed(tmp_path: Path) -> None:
    table = read_table(source_of(put(tmp_path, "id,a,b,c\nu,1,2,3\nv,,,\n")), ["id"], ["b"], ["a"])
    assert list(table.numeric) == ["b"]
    assert list(table.categorical) == ["a"]
    assert table.categorical["a"].isna().tolist() == [False, True]
    assert table.warnings == ()


def test_parquet_types(tmp_path: Path) -> None:
    file = tmp_path / "t.parquet"
    frame = pd.DataFrame(
        {
            "id": ["a", "b", "c", "d"],
            "flag": [True, False, None, True],
            "level": pd.Categorical(["u", "u", "u", None]),
            "when": pd.to_datetime(["2020-01-01"] * 4),
            "parts": [{"x": 1}] * 4,
        }
    )
    frame.to_parquet(file)
    table = read_table(source_of(file), ["id"])
    assert list(table.categorical) == ["level"]
    np.testing.assert_array_equal(table.numeric["flag"], [1, 0, np.nan, 1])
    assert (table.numeric["when"] == pd.Timestamp("2020-01-01").timestamp()).all()
    assert len(table.warnings) == 1
    np.testing.assert_array_equal(
        read_table(source_of(file), ["id"], ["flag"]).numeric["flag"], [1, 0, np.nan, 1]
    )
    for column in ("when", "parts", "level"):
        with pytest.raises(DataError, match=column):
            read_table(source_of(file), ["id"], [column])
    with pytest.raises(DataError, match="parts"):
        read_table(source_of(file), ["id"], [], ["parts"])


def test_a_kind_that_the_owner_names_needs_no_other_column_named(tmp_path: Path) -> None:
    rows = [f"u{i},{i % 3},{i},2026-01-{1 + i % 28:02},note {i},{i % 2},{i}" for i in range(60)]
    file = put(tmp_path, "id,shop,age,since,note,vip,skip\n" + "\n".join(rows))
    types = {"shop": "category", "note": "text", "vip": "boolean"}
    table = read_table(source_of(file), ["id"], exclude=["skip"], types=types, scale={"age": "log"})
    assert table.kinds == {"shop": "category", "vip": "boolean", "age": "number", "since": "date"}
    assert table.scale == {"age": "log"}
    assert table.left_out["note"] == ("text", "data.types says so", 0.0, 60)
    assert table.warnings == ()
    seen = read_table(source_of(file), ["id"], exclude=["skip"])
    assert seen.kinds == {"age": "number", "shop": "number", "since": "date", "vip": "number"}
    assert [warning.split(": ", 1)[1] for warning in seen.warnings] == [
        "column 'note' is left out: 60 distinct values in 60 rows; to use it all the same, say in data.types "
        'what it is, such as note = "category"'
    ]
    only = read_table(source_of(file), ["id"], types={"since": "date"}, others=False)
    assert only.kinds == {"since": "date"}


@pytest.mark.parametrize(
    ("columns", "wanted"),
    [
        ({"types": {"sinse": "date"}}, "no column 'sinse' (did you mean 'since'?)"),
        ({"types": {"since": "number"}}, "column 'since': 2 cell(s), the first in row 1, hold no number"),
        ({"types": {"a": "date"}}, "column 'a': 1 cell(s), the first in row 1, hold no date, such as"),
        ({"types": {"a": "boolean"}}, "column 'a': 1 cell(s), the first in row 1, hold neither true nor"),
        ({"types": {"a": "bag"}}, "column 'a' is of type large_string; a bag needs lists"),
        ({"types": {"a": "text", "since": "key"}}, "no column is left to take part"),
        ({"scale": {"b": "log"}}, "no column 'b'"),
        ({"scale": {"since": "log"}}, "column 'since' is a date, and data.scale is for numbers"),
        ({"scale": {"a": "log"}, "categorical": ["since"]}, "column 'a' takes no part, and data.scale is"),
    ],
)
def test_kinds_that_the_cells_contradict(tmp_path: Path, columns: dict[str, object], wanted: str) -> None:
    file = put(tmp_path, "id,a,since\nu,17,2026-01-01\nv,,2026-01-02\n")
    with pytest.raises(DataError) as fault:
        read_table(source_of(file), ["id"], **columns)  # type: ignore[arg-type]
    assert wanted in said(fault)
    assert "17" not in said(fault).replace(str(file), "")


def _parquet(folder: Path, column: pa.Array) -> Path:
    file = folder / "t.parquet"
    pq.write_table(pa.table({"id": list("abcd"), "c": column, "x": [1, 2, 3, 4]}), file)
    return file


@pytest.mark.parametrize("kind", [pa.int64(), pa.uint64()])
def test_integers_that_no_float_holds_exactly_are_rounded(tmp_path: Path, kind: pa.DataType) -> None:
    file = _parquet(tmp_path, pa.array([2**53 + 1, 2**62, 5, None], kind))
    for numeric in ([], ["c"]):
        cells = read_table(source_of(file), ["id"], numeric).numeric["c"]
        np.testing.assert_array_equal(cells, [2.0**53, 2.0**62, 5, np.nan])


STRANGE = {
    "text that is not UTF-8": pa.StringArray.from_buffers(
        4, pa.py_buffer(np.arange(5, dtype="<i4").tobytes()), pa.py_buffer(b"\xff\xfe\xfda")
    ),
    "time in no zone": pa.array([0, 1, 2, 3], pa.timestamp("us", "Nowhere/Land")),
    "lists": pa.array([[1], [2], [3], [4]]),
    "bytes": pa.array([b"ab", b"cd", b"ef", b"gh"], pa.binary(2)),
    "an extension": pa.ExtensionArray.from_storage(pa.uuid(), pa.array([bytes(16)] * 4, pa.binary(16))),
    "another text": pa.array(list("uuuv"), pa.string_view()),
}


@pytest.mark.parametrize("column", STRANGE.values(), ids=STRANGE)
def test_a_strange_parquet_column_is_used_or_named(tmp_path: Path, column: pa.Array) -> None:
    file = _parquet(tmp_path, column)
    with pytest.raises(DataError, match="'c'"):
        read_table(source_of(file), ["id"], ["c"])
    for attempt in (
        lambda: read_table(source_of(file), ["id"], [], ["c"]),
        lambda: read_table(source_of(file), ["id"]),
        lambda: yes_or_no(read_table(source_of(file), ["id"], ["x"], labels=["c"]).labels["c"]),
        lambda: normalise([[read_table(source_of(file), ["c"], ["x"]).ids["c"]]], ["c"], ["string"], b""),
    ):
        try:
            attempt()
        except (DataError, IdError) as fault:
            assert "'c'" in str(fault)  # noqa: PT017 - some are allowed


@pytest.mark.parametrize(
    ("content", "wanted"),
    [
        ("", "the file is empty"),
        ("id,a\n", "a header, but no rows"),
        ("\n\n", "the file is empty"),
        ("id,a\n1,2\n\n3\n", "line 4: 1 cells where the header has 2"),
        ("id,a\n1,2,3\n", "line 2: 3 cells where the header has 2"),
        ('id,a\n1,"x\ny"\n3\n', "line 4: 1 cells"),
        ('id,a\n1,2\n3,"4\n5,6\n', "line 3: a quote"),
        ('id,a\n1,"2"x\n', "line 2: a quote"),
        ('id,a\n1,2\n3,"' + "x" * 200_000, "line 3: a cell of more than 131,072 characters"),
        ("id,a\n1,2\n3,ä\n".encode("latin-1"), "line 3: not UTF-8"),
        ("id,a\n1,2\n".encode("utf-16"), "line 1: not UTF-8"),
        ("id,a,a\n1,2,3\n", "column 'a' stands in the header twice"),
        ("id;a\n1;2\n", 'one column only; say what separates the cells: data.separator = ";"'),
        ("ID ,a\n1,2\n", "no column 'id' (did you mean 'ID '?); it has ID , a"),
        ('"a\nb",c\n1,2\n', r"no column 'id'; it has 'a\nb', c"),
        ("id\n1\n", "no column is left to take part"),
    ],
)
def test_a_broken_file_is_named_with_its_line(tmp_path: Path, content: str | bytes, wanted: str) -> None:
    file = put(tmp_path, content)
    with pytest.raises(DataError) as fault:
        read_table(source_of(file), ["id"])
    assert said(fault).startswith(f"{file}: ")
    assert wanted in said(fault)


@pytest.mark.parametrize(
    ("columns", "wanted"),
    [
        ({"numeric": ["amonut"]}, "no column 'amonut' (did you mean 'amount'?)"),
        ({"categorical": ["zzz"]}, "no column 'zzz'; it has id, amount, b"),
        ({"labels": ["y"]}, "no column 'y'"),
        ({"exclude": ["Amount"]}, "no column 'Amount' (did you mean 'amount'?)"),
        ({"numeric": ["b", "c"], "labels": ["y"]}, "no column 'c', 'y'"),
        ({"numeric": ["b"]}, "column 'b': 1 cell(s), the first in row 2, hold no number"),
        ({"numeric": ["amount"]}, "column 'amount': 1 cell(s), the first in row 3, hold an infinite"),
    ],
)
def test_columns_named_in_the_config(tmp_path: Path, columns: dict[str, object], wanted: str) -> None:
    file = put(tmp_path, "id,amount,b\nu,1,1\nv,2,secret\nw,-inf,\n")
    with pytest.raises(DataError) as fault:
        read_table(source_of(file), ["id"], **columns)  # type: ignore[arg-type]
    assert wanted in said(fault)
    assert "secret" not in said(fault)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("t.csv.gz", b"id,a\n1,2\n"),
        ("t.csv.gz", gzip.compress(b"id,a\n1,2\n" * 999, mtime=0)[:-12]),
        ("t.parquet", b"PAR1 or so"),
        ("t.parquet", b""),
    ],
)
def test_a_file_that_is_not_what_its_name_says(tmp_path: Path, name: str, content: bytes) -> None:
    with pytest.raises(DataError, match=r"not a whole|not UTF-8|cells where"):
        read_table(source_of(put(tmp_path, content, name)), ["id"])


def test_a_missing_file_and_a_folder(tmp_path: Path) -> None:
    for name in ("absent.csv", "absent.parquet"):
        with pytest.raises(DataError, match="no such file"):
            read_table(source_of(tmp_path / name), ["id"])
    with pytest.raises(DataError, match="a folder without a Parquet file"):
        read_table(source_of(tmp_path), ["id"])


CELLS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8)


@settings(deadline=None, max_examples=60)
@given(
    rows=st.lists(st.tuples(CELLS, CELLS.filter(bool)), min_size=1, max_size=8),
    mark=st.booleans(),
    packed=st.booleans(),
)
def test_what_was_written_is_read(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str]], mark: bool, packed: bool
) -> None:
    """Any text in any cell: quotes, commas, line breaks, letters of any script; BOM or not; gz or not."""
    folder = tmp_path_factory.mktemp("t")
    plain = folder / "t.csv"
    with plain.open("w", encoding="utf-8-sig" if mark else "utf-8", newline="") as out:
        csv.writer(out, quoting=csv.QUOTE_ALL).writerows([("id", "a"), *rows])
    file = put(folder, gzip.compress(plain.read_bytes()), "t.csv.gz") if packed else plain
    table = read_table(source_of(file), ["id"], [], ["a"])
    assert [cell if isinstance(cell, str) else "" for cell in table.ids["id"]] == [row[0] for row in rows]
    assert table.categorical["a"].tolist() == [row[1] for row in rows]


@settings(deadline=None, max_examples=100)
@given(content=st.binary(max_size=60), name=st.sampled_from(["t.csv", "t.csv.gz", "t.parquet"]))
def test_garbage_is_read_or_a_data_error(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, name: str
) -> None:
    prefix = b"" if name != "t.csv" else b"id,a\n"
    try:
        table = read_table(
            source_of(put(tmp_path_factory.mktemp("t"), prefix + content, name)), ["id"], [], ["a"]
        )
    except DataError as fault:
        assert "\n" not in str(fault)  # noqa: PT017
    else:
        assert table.rows
