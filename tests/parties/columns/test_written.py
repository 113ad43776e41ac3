"""Numbers and dates of spreadsheets elsewhere: known as what they are, and told without a cell."""

from datetime import date, timedelta
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from parties.columns.cells import read_dates, read_numbers
from parties.columns.kinds import kind_of
from parties.columns.written import elsewhere
from parties.errors import DataError
from parties.sources.csv_file import CsvFile
from parties.table import read_table

DAYS = [date(2004, 1, 1) + timedelta(row) for row in range(365)]


def texts(*cells: str | None) -> pa.ChunkedArray:
    return pa.chunked_array([pa.array(cells, pa.large_string())])


@pytest.mark.parametrize(
    ("form", "told"),
    [
        ("%d.%m.%Y", "DD.MM.YYYY"),
        ("%d.%m.%Y 08:30", "DD.MM.YYYY"),
        ("%d/%m/%Y", "DD/MM/YYYY"),
        ("%m/%d/%Y", "MM/DD/YYYY"),
        ("%m-%d-%Y", "MM-DD-YYYY"),
    ],
)
def test_dates(form: str, told: str) -> None:
    cells = [day.strftime(form) for day in DAYS]
    told = f"dates written {told}; write 2004-09-23 (ISO 8601)"
    assert elsewhere(texts(*cells, None)) == told
    assert kind_of(texts(*cells)) == ("unread", f"its cells look like {told}")
    assert kind_of(texts(*cells * 8)) == ("category", f"its cells look like {told}")
    with pytest.raises(DataError, match=r"365 cell\(s\), the first in row 2, hold " + told[:20]):
        read_dates("t", "c", texts("2004-09-23", *cells))


def test_days_that_could_be_months() -> None:
    assert "written DD/MM/YYYY or MM/DD/YYYY;" in elsewhere(texts("01/02/2004", "3/4/2004"))
    assert "written DD.MM.YYYY;" in elsewhere(texts("01.02.2004"))
    assert "some written DD/MM/YYYY and some MM/DD/YYYY;" in elsewhere(texts("23/09/2004", "09/23/2004"))


@given(st.lists(st.floats(-1e9, 1e9), min_size=1))
def test_decimal_commas(values: list[float]) -> None:
    american = [f"{value:,.2f}" for value in values]
    german = [one.translate({44: ".", 46: ","}) for one in american]
    for cells in (german, [one.replace(".", "") for one in german]):
        assert elsewhere(texts(*cells)) == "numbers with a decimal comma; write 1234.56 for 1.234,56"
        with pytest.raises(DataError, match="hold numbers with a decimal comma; write"):
            read_numbers("t", "c", texts(*cells))
    if any("," in one for one in american):
        assert "a comma between thousands" in elsewhere(texts(*american))


def test_years_first() -> None:
    cells = [day.strftime("%Y/%m/%d") for day in DAYS]
    assert elsewhere(texts(*cells)) == "dates written YYYY/MM/DD; write 2004-09-23 (ISO 8601)"


def test_commas_that_may_be_either() -> None:
    assert "a comma, of decimals or of thousands;" in elsewhere(texts("1,234", "950"))
    assert "decimal comma" in elsewhere(texts("1,234", "15,7", "16"))


@pytest.mark.parametrize(
    "cells",
    [
        ("15.72", "1.5", "1,5"),
        ("2004-09-23", "2004-09-24"),
        ("45.13.2004", "30.02"),
        ("192.168.0.1", "10.0.0.1"),
        ("+49 30 1234567", "0049-30-123"),
        ("Rome, Italy", "1,2,3"),
        (None,),
        (),
    ],
)
def test_what_is_neither(cells: tuple[str | None, ...]) -> None:
    assert elsewhere(texts(*cells)) == ""


def test_one_comma_among_points_is_told_by_its_row() -> None:
    cells = [f"{row % 9}.5" for row in range(100)]
    cells[7] = "1,5"
    assert kind_of(texts(*cells)).told == (
        "its cells are numbers but for 1, the first in row 8, which look like numbers with a decimal comma; "
        "write 1234.56 for 1.234,56"
    )


def test_why_no_column_is_left(tmp_path: Path) -> None:
    file = tmp_path / "t.csv"
    file.write_text("id;spent\n" + "".join(f"u{row};{row},72\n" for row in range(9)))
    with pytest.raises(
        DataError, match=r"left out: 'spent' \(its cells look like numbers with a decimal comma;"
    ):
        read_table(CsvFile(file, separator=";"), ["id"])


def test_a_spreadsheet_of_germany(tmp_path: Path) -> None:
    file = tmp_path / "t.csv"
    rows = [f"u{row};{DAYS[row % 365]:%d.%m.%Y};{row},72;Köln" for row in range(900)]
    file.write_text("id;Datum;Umsatz;Ort\n" + "\n".join(rows), encoding="latin-1")
    table = read_table(CsvFile(file, "latin-1", ";"), ["id"])
    assert dict(table.kinds) == {"Datum": "category", "Ort": "category"}
    assert table.left_out["Umsatz"].kind == "unread"
    assert [line.split(": ", 1)[1] for line in table.warnings] == [
        "column 'Datum' is taken as a category: its cells look like dates written DD.MM.YYYY; write "
        "2004-09-23 (ISO 8601)",
        "column 'Umsatz' is left out: its cells look like numbers with a decimal comma; write 1234.56 for "
        "1.234,56",
    ]
