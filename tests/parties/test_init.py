"""`party init`: what it writes is valid as soon as the pins are filled in."""

import re
from pathlib import Path

import pytest

from parties.config import Config, load
from parties.contract import Psi
from parties.contract_privacy import Privacy
from parties.contract_training import Evaluation, Model, Training
from parties.errors import ConfigError
from parties.init import PASTE, init


def filled(folder: Path, name: str) -> Config:
    """Load what init wrote, with pins and files in place."""
    run = folder / "run.toml"
    pins = iter(f"sha256:{letter * 64}" for letter in "abc")
    run.write_text(re.sub(PASTE, lambda _: next(pins), run.read_text()))
    (folder / "certs").mkdir()
    for file in (f"{name}.csv", "certs/ca.pem", f"certs/{name}.pem", f"certs/{name}.key"):
        (folder / file).touch()
    return load(folder / "party.toml")


@pytest.mark.parametrize("name", ["platform", "partner", "a", "a" * 32])
@pytest.mark.parametrize("label_holder", [True, False])
def test_what_init_writes_loads(tmp_path: Path, name: str, label_holder: bool) -> None:
    written = init(tmp_path, name, label_holder=label_holder, seed=7)
    assert written == [tmp_path / "party.toml", tmp_path / "run.toml"]
    config = filled(tmp_path, name)
    assert config.name == name
    assert config.role == ("label holder" if label_holder else "feature holder")
    assert config.contract.seed == 7
    contract = config.contract
    assert (contract.psi, contract.model) == (Psi(), Model())
    assert (contract.training, contract.evaluation) == (Training(), Evaluation())


def test_comments_stand_in_a_column(tmp_path: Path) -> None:
    init(tmp_path, "platform", label_holder=True, seed=2**32 - 1)
    assert max(len(line) for path in tmp_path.iterdir() for line in path.read_text().splitlines()) <= 110


@pytest.mark.parametrize("alternatives", [False, True])
def test_privacy_may_be_uncommented_as_it_stands(tmp_path: Path, alternatives: bool) -> None:
    init(tmp_path, "platform", label_holder=True, seed=7)
    run = tmp_path / "run.toml"
    before, mark, section = run.read_text().partition("# [privacy]\n")
    assert {*re.findall(r"^(?:# )+(\w+) =", section, re.M)} == {*Privacy.model_fields}
    taken = re.sub(r"^(# )+" if alternatives else r"^# ", "", mark + section, flags=re.M)
    run.write_text(before + taken)
    asked = filled(tmp_path, "platform").contract.privacy
    assert asked.max_label_leak is not None
    assert asked.purpose
    assert (asked.embedding_budget is None) != alternatives


@pytest.mark.parametrize("label_holder", [True, False])
def test_serve_may_be_uncommented_as_it_stands(tmp_path: Path, label_holder: bool) -> None:
    init(tmp_path, "platform", label_holder=label_holder, seed=7)
    own = tmp_path / "party.toml"
    before, mark, section = own.read_text().partition("# [serve]")
    taken = re.sub(r"^# ", "", mark + section, flags=re.M).replace("sha256:PIN", f"sha256:{'d' * 64}")
    own.write_text(before + taken)
    asked = filled(tmp_path, "platform").party.serve
    assert (asked.hub is None) == label_holder == bool(asked.clients)


def test_as_it_is_the_contract_is_refused(tmp_path: Path) -> None:
    init(tmp_path, "platform", label_holder=True, seed=7)
    with pytest.raises(ConfigError, match=r"parties\.partner\.key: must be sha256: and 64 hex digits"):
        load(tmp_path / "party.toml")


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "run.toml").write_text("# from a partner\n")
    assert init(tmp_path, "logistics", label_holder=False, seed=7) == [tmp_path / "party.toml"]
    assert (tmp_path / "run.toml").read_text() == "# from a partner\n"
    before = (tmp_path / "party.toml").read_text()
    with pytest.raises(ConfigError, match=r"party\.toml: is there already and is not overwritten"):
        init(tmp_path, "platform", label_holder=True, seed=7)
    assert (tmp_path / "party.toml").read_text() == before


@pytest.mark.parametrize("name", ["../x", "Platform", "", "a b", "a\n", "a\0"])
def test_names_of_parties(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="is no name for a party") as caught:
        init(tmp_path, name, label_holder=True, seed=7)
    assert str(caught.value).isprintable()
    assert list(tmp_path.iterdir()) == []
