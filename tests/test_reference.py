"""docs/reference.py: the reference is current, and says something of every key, option and exit code."""

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

from parties.contract import Contract
from parties.document import Section
from parties.errors import EXIT_CODES, exit_code
from parties.party_toml import PartyConfig

DOCS = Path(__file__).parents[1] / "docs"


@pytest.fixture(scope="module")
def reference() -> ModuleType:
    spec = importlib.util.spec_from_file_location("reference", DOCS / "reference.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_page_is_current(reference: ModuleType) -> None:
    for name, text in reference.pages().items():
        assert (DOCS / name).read_text() == text, f"{name}: run `make reference` and commit what it writes"


@pytest.mark.parametrize("model", [PartyConfig, Contract])
def test_every_key_says_what_it_is_for(reference: ModuleType, model: type[Section]) -> None:
    for table in reference.tables(model):
        assert table.about
        for key in table.keys:
            assert key.meaning, f"{key.name} of {model.__name__}: write one line under the field"


@pytest.mark.parametrize("model", [PartyConfig, Contract])
def test_no_key_is_left_out(reference: ModuleType, model: type[Section]) -> None:
    listed = {key.name for table in reference.tables(model) for key in table.keys}

    def keys(section: type[Section], before: str = "") -> set[str]:
        found = set()
        for name, field in section.model_fields.items():
            if isinstance(field.annotation, type) and issubclass(field.annotation, Section):
                found |= keys(field.annotation, f"{before}{name}.")
            else:
                found.add(f"{before}{name}")
        return found

    assert keys(model) - {"ids", "parties"} <= listed
    assert len(listed) == len({*listed}) > 30


def test_every_command_and_option_says_what_it_is_for(reference: ModuleType) -> None:
    found = list(reference.commands())
    assert {"party run", "party psi estimate", "party certs issue", "party models list"} <= {
        command.name for command in found
    }
    for command in found:
        assert command.about, command.name
        for name, _, _, meaning in command.rows:
            assert meaning, f"{command.name} {name}: say what it is for"


def test_every_exit_code_is_documented() -> None:
    text = (DOCS / "exit-codes.md").read_text()
    rows = re.findall(r"^\| (\d+) \| ([^|]*) \|", text, re.MULTILINE)
    for kind, code, _ in EXIT_CODES:
        assert kind.__doc__, kind
        assert (str(code), f"`{kind.__name__}`") in rows
        assert exit_code(kind.__new__(kind)) == code
    assert {code for code, _ in rows} == {"0", "1", *(str(code) for _, code, _ in EXIT_CODES)}
