"""`party init`: what it writes is valid as soon as the pins are filled in."""

import re
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parties.certs import issue
from parties.config import Config, load
from parties.contract import Psi
from parties.contract_privacy import Privacy
from parties.contract_training import Evaluation, Model, Training
from parties.errors import ConfigError
from parties.init import PASTE, init
from parties.own import pin_of


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


@pytest.fixture(scope="module")
def certs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trial") / "certs"
    issue(folder, ["platform", "carrier", "shop"])
    return folder


NAMES = st.text(st.characters(codec="utf-8", exclude_characters="\0\x7f/"), min_size=1, max_size=30)


@given(table=NAMES.filter(lambda name: name not in (".", "..")), columns=st.tuples(NAMES, NAMES))
def test_with_all_that_it_may_be_told_what_it_writes_loads_as_it_is(
    certs: Path, table: str, columns: tuple[str, str]
) -> None:
    identifier, label = columns[0], f"{columns[0]}{columns[1]}"
    with tempfile.TemporaryDirectory(dir=certs.parent) as folder:
        file = Path(folder) / table
        file.touch()
        shop, carrier = Path(folder) / "a/shop", Path(folder) / "a/carrier"
        init(
            shop, "shop", label_holder=True, seed=7, file=file, id_column=identifier, label=label, certs=certs
        )
        carrier.mkdir()
        (carrier / "run.toml").write_bytes((shop / "run.toml").read_bytes())
        for own in ("ca.pem", "carrier.pem", "carrier.key"):
            (carrier / own).write_bytes((certs / own).read_bytes())
        init(carrier, "carrier", label_holder=False, seed=8, certs=carrier, file=file, hub="localhost:50051")
        held, held_back = load(shop / "party.toml"), load(carrier / "party.toml")
        assert held.party.data.file.samefile(file)
        assert (held.party.data.id, held.party.data.label) == (identifier, (label,))
        assert held.contract == held_back.contract
        assert [*held.contract.parties] == ["carrier", "platform", "shop"]
        assert held.contract.parties["carrier"].key == pin_of(certs / "carrier.pem")
        assert held_back.party.tls.key.samefile(carrier / "carrier.key")
        assert str(held_back.party.link.hub) == "localhost:50051"


@pytest.mark.parametrize(
    ("told", "why"),
    [
        ({"label": "bought"}, "--label: only the label holder has one"),
        ({"hub": "localhost:1", "label_holder": True}, "--hub: the label holder is the hub"),
        ({"file": Path("nowhere.csv")}, "--file: nowhere.csv: no such file"),
        ({"certs": Path("nowhere")}, "--certs: nowhere: no shop.pem"),
    ],
)
def test_what_cannot_be_is_refused_and_nothing_written(
    tmp_path: Path, told: dict[str, Any], why: str
) -> None:
    with pytest.raises(ConfigError, match=why):
        init(tmp_path, "shop", **({"label_holder": False, "seed": 7} | told))
    assert list(tmp_path.iterdir()) == []


def test_a_feature_holder_of_three_waits_for_the_contract(tmp_path: Path, certs: Path) -> None:
    with pytest.raises(ConfigError, match=r"run\.toml: missing; the label holder's `party init` writes it"):
        init(tmp_path, "carrier", label_holder=False, seed=7, certs=certs)
    assert list(tmp_path.iterdir()) == []
