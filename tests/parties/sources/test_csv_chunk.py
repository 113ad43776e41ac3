"""What Arrow reads of a CSV is what the strict reader does, and what that refuses Arrow does not get."""

import csv
import io
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from parties.sources import csv_file
from parties.sources.csv_chunk import parsed
from parties.sources.csv_file import CsvFile
from parties.sources.source import read_columns

CELL = st.one_of(
    st.text('ab ,é"\n\r\t;\0', max_size=3),
    st.sampled_from(['"a,b"', '""', '"é"', '"a""b"', '"a\nb"', "NA", "null", " a "]),
)
LINE = st.tuples(CELL, CELL, st.sampled_from(["\n", "\r\n", "\n\n", "\r", ""]))


def strict(text: str, separator: str) -> list[list[str]] | None:
    try:
        rows = [
            row for row in csv.reader(io.StringIO(text, newline=""), strict=True, delimiter=separator) if row
        ]
    except csv.Error:
        return None
    return rows if all(len(row) == 2 for row in rows) else None


@settings(deadline=None, max_examples=300)
@given(st.lists(LINE, min_size=1, max_size=5), st.sampled_from([",", ";", "\t", "é"]))
@example([("a", '"b"', "\n"), ('"c,d"', "", "\r\n")], ",")
def test_arrow_reads_the_same_or_nothing(lines: list[tuple[str, str, str]], separator: str) -> None:
    text = "".join(f"{one}{separator}{two}{end}" for one, two, end in lines)
    table = parsed(text, separator, ["x", "y"], ["y", "x"])
    if table is not None:
        rows = strict(text, separator)
        assert rows is not None
        columns = [[row[place] or None for row in rows] for place in (1, 0)]
        assert [column.to_pylist() for column in table.columns] == columns


@pytest.mark.parametrize("plain", ["1,2\n3,\n", '"1","2"\r\n"3,4",""\r\n', "é, x \n"])
def test_plain_lines_are_read_by_arrow(plain: str) -> None:
    assert parsed(plain, ",", ["x", "y"], ["x"]) is not None


def test_a_cell_of_too_many_characters_is_not(tmp_path: Path) -> None:
    assert parsed(f"{'x' * 131_073},1\n", ",", ["x", "y"], ["x"]) is None


@pytest.mark.parametrize("at_once", [1, 7, 20, 1 << 20])
def test_what_is_not_plain_begins_anywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    monkeypatch.setattr(csv_file, "AT_ONCE", at_once)
    rows = [[f"u{n}", 'say "hi"\n' * (n == 5) + str(n)] for n in range(9)]
    with (tmp_path / "t.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["id", "x"], *rows])
    columns = read_columns(CsvFile(tmp_path / "t.csv"), ["id", "x"], False)
    assert [columns["id"].to_pylist(), columns["x"].to_pylist()] == [
        list(one) for one in zip(*rows, strict=True)
    ]
