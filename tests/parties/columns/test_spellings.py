"""Levels that may be one and the same are counted, a line a column, and not shown."""

from pathlib import Path

from parties.columns.spellings import spellings
from parties.sources.csv_file import CsvFile
from parties.table import read_table


def told(tmp_path: Path, *cells: str) -> list[str]:
    file = tmp_path / "t.csv"
    file.write_text("id,city\n" + "".join(f'u{row},"{cell}"\n' for row, cell in enumerate(cells * 9)))
    lines = [*spellings(read_table(CsvFile(file), ["id"], categorical=["city"]))]
    assert not any(cell.strip() in line for line in lines for cell in cells if cell.strip())
    return [line.split(": ", 2)[2] for line in lines]


def test_blanks_and_case(tmp_path: Path) -> None:
    assert told(tmp_path, "Oslo", "Rome", "", "R ome") == []
    assert told(tmp_path, "Oslo", "oslo ", " OSLO", "Rome", "New  York", "New York") == [
        "3 of 6 levels differ from another only in blanks or case, and are learned apart; write each in one "
        "way"
    ]


def test_words_for_missing(tmp_path: Path) -> None:
    assert told(tmp_path, "NA") == []
    assert told(tmp_path, "NA", "null", "DE", "") == [
        "18 cells are a word for a missing value, which in a category is a level like any; empty them, "
        "unless it is meant"
    ]


def test_both_are_one_line(tmp_path: Path) -> None:
    (line,) = told(tmp_path, "NA", "na", "DE")
    assert line.startswith("1 of 3 levels differ")
    assert "; 9 cells are a word" in line
