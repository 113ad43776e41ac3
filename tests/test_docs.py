"""Tests that documents name: docs/reliability.md has every fault, and each test named there exists."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
FAULTS = 34
ROW = re.compile(r"^\| (\d+) \|.*\|(?P<tests>[^|]*)\|$", re.MULTILINE)
LINK = re.compile(r"\[(?P<test>\w+)\]\(\.\./(?P<file>tests/[\w/.]+)\)")


def rows() -> dict[int, list[tuple[str, str]]]:
    """The (file, test) pairs of each fault."""
    text = (ROOT / "docs" / "reliability.md").read_text()
    return {
        int(row[1]): [(link["file"], link["test"]) for link in LINK.finditer(row["tests"])]
        for row in ROW.finditer(text)
    }


def test_every_fault_has_a_test_that_exists() -> None:
    found = rows()
    assert [*found] == [*range(1, FAULTS + 1)]
    for number, tests in found.items():
        assert tests, f"row {number} names no test"
        for file, test in tests:
            assert f"def {test}(" in (ROOT / file).read_text(), f"row {number}: {file} has no {test}"


def test_every_link_of_the_table_is_understood() -> None:
    text = (ROOT / "docs" / "reliability.md").read_text()
    assert sum(map(len, rows().values())) == text.count("](../tests/")
