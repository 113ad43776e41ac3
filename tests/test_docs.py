"""Tests that documents name exist: docs/reliability.md has every fault, docs/threat-model.md a proof for each
claim, and a line for each kind of message."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

ROOT = Path(__file__).parents[1]
FAULTS = 45
ROW = re.compile(r"^\| (\d+) \|.*\|(?P<tests>[^|]*)\|$", re.MULTILINE)
LINK = re.compile(r"\[(?P<test>\w+)\]\(\.\./(?P<file>tests/[\w/.]+)\)")


def rows() -> dict[int, list[tuple[str, str]]]:
    """The (file, test) pairs of each fault."""
    text = (ROOT / "docs" / "reliability.md").read_text()
    return {int(row[1]): linked(row["tests"]) for row in ROW.finditer(text)}


def linked(text: str) -> list[tuple[str, str]]:
    """(file, test)."""
    return [(link["file"], link["test"]) for link in LINK.finditer(text)]


def assert_exists(file: str, test: str, where: str) -> None:
    assert f"def {test}(" in (ROOT / file).read_text(), f"{where}: {file} has no {test}"


def test_every_fault_has_a_test_that_exists() -> None:
    found = rows()
    assert [*found] == [*range(1, FAULTS + 1)]
    for number, tests in found.items():
        assert tests, f"row {number} names no test"
        for file, test in tests:
            assert_exists(file, test, f"row {number}")


def test_every_link_of_the_table_is_understood() -> None:
    text = (ROOT / "docs" / "reliability.md").read_text()
    assert sum(map(len, rows().values())) == text.count("](../tests/")


THREATS = (ROOT / "docs" / "threat-model.md").read_text()
CITED = re.compile(r"\([A-Z][^()]* (19|20)\d\d[^()]*\)")


def test_every_claim_about_what_is_told_has_a_test_that_exists_or_a_citation() -> None:
    claims = [line for line in THREATS.splitlines() if line.startswith("| ") and "| shown by |" not in line]
    assert len(claims) > 40
    for claim in claims:
        shown = claim.rstrip("| ").rpartition("|")[2]
        assert linked(shown) or CITED.search(shown), claim
        assert shown.count("](../tests/") == len(linked(shown)), claim
        for file, test in linked(shown):
            assert_exists(file, test, claim)
    assert sum(len(linked(claim)) for claim in claims) == THREATS.count("](../tests/")


def kinds() -> Iterator[str]:
    """Of all messages that the program names where it sends them, or where it says what to send."""
    for room in ("psi", "splitnn", "parties"):
        for path in (ROOT / room).glob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                    place = {"Send": 1, "send_chunks": 2, "be_scored": 2}.get(node.func.id)
                    word = node.args[place] if place is not None and len(node.args) > place else None
                    if isinstance(word, ast.Constant):
                        yield str(word.value)


def test_every_kind_of_message_is_told_of() -> None:
    found = {*kinds()}
    assert {"hello", "hint", "activation", "gradient", "validation", "test", "importance", "kept"} <= found
    assert sorted(kind for kind in found if f"`{kind}`" not in THREATS) == []


TO_A_FILE = re.compile(r"\]\((?![a-z]+:)(?P<file>[^)#\s]*)(?:#(?P<anchor>[^)\s]+))?\)")
OUTSIDE = [*ROOT.glob("README*.md"), *ROOT.glob("examples/**/README.md")]


def anchors(page: Path) -> set[str]:
    """Of its headings, as a forge makes them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", OUTSIDE, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_of_pages_that_the_site_does_not_hold(page: Path) -> None:
    """`make docs` checks those of docs/."""
    for link in TO_A_FILE.finditer(page.read_text()):
        target = page.parent / link["file"] if link["file"] else page
        assert target.exists(), link[0]
        assert link["anchor"] is None or link["anchor"] in anchors(target), link[0]


def test_the_bottom_model_of_the_page_is_one() -> None:
    [code] = re.findall(
        r"^```python\n(.*?)^```$", (ROOT / "docs" / "howto-bottom-model.md").read_text(), re.M | re.S
    )
    names: dict[str, Any] = {}
    exec(code, names)
    for numeric, levels in ((3, (4, 5)), (1, ())):
        model = names["WideAndDeep"](numeric, levels, cut=6)
        codes = torch.zeros(7, len(levels), dtype=torch.int64)
        assert model(torch.randn(7, numeric), codes).shape == (7, 6)


def test_every_page_is_in_the_index() -> None:
    index = (ROOT / "docs" / "index.md").read_text()
    listed = re.findall(r"^- .*?\]\(([\w-]+\.md)\)", index, re.MULTILINE)
    assert sorted(listed) == sorted({path.name for path in (ROOT / "docs").glob("*.md")} - {"index.md"})


def test_every_file_of_the_deployable_is_on_the_page_of_the_architecture() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text()
    rooms = ("parties", "protos", "psi", "splitnn")
    named = {*re.findall(r"`(?:(?:parties|protos|psi|splitnn)/)?(\w+\.py)`", text)}
    there = {path.name for room in rooms for path in (ROOT / room).rglob("*.py")}
    assert sorted(named - there) == []
    missing = (
        {path.name for path in (ROOT / "parties").rglob("*.py")} - named - {"__init__.py", "__main__.py"}
    )
    assert sorted(missing) == []


def test_the_chinese_readme_has_the_same_commands_and_sections() -> None:
    ours, theirs = ((ROOT / name).read_text() for name in ("README.md", "README.zh-CN.md"))

    def commands(text: str) -> list[str]:
        blocks = re.findall(r"^```\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
        return [re.sub(r" +#.*", "", line) for block in blocks for line in block.splitlines()]

    def links(text: str) -> set[str]:
        return {link["file"] for link in TO_A_FILE.finditer(text)} - {"README.md", "README.zh-CN.md"}

    assert commands(ours) == commands(theirs)
    assert links(theirs) <= links(ours)
    assert "](README.zh-CN.md)" in ours
    assert "](README.md)" in theirs
    assert ours.count("\n## ") == theirs.count("\n## ")


def test_the_readmes_have_the_commands_of_the_quickstart() -> None:
    readme, page = ((ROOT / name).read_text() for name in ("README.md", "docs/quickstart.md"))
    blocks = re.findall(r"^```bash\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    wanted = [line for block in blocks for line in block.splitlines() if not line.startswith("git clone")]
    assert [line for line in wanted if line not in readme.splitlines()] == []
