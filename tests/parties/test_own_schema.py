"""The pin of a table's columns: the same for the same columns, private, and what follows where it differs."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from parties.check import check
from parties.check_text import text
from parties.config import Config, load
from parties.errors import ConfigError, DataError
from parties.own_schema import check_columns, own_schema, pin_of, remembered_pin
from parties.phases import prepare
from tests.parties import small


@pytest.fixture
def homes(tmp_path: Path, certificates: Path, identities: dict[str, Any]) -> dict[str, Path]:
    return small.write(tmp_path, certificates, identities)


def pinned(homes: dict[str, Path], **pins: str) -> None:
    for home in homes.values():
        contract = (home / "run.toml").read_text()
        for name, pin in pins.items():
            contract = contract.replace(f"[parties.{name}]\n", f'[parties.{name}]\ncolumns = "{pin}"\n')
        (home / "run.toml").write_text(contract)


def config_of(home: Path) -> Config:
    return load(home / "party.toml")


def change(home: Path, **renamed: str) -> None:
    table = pd.read_csv(home / "table.csv")
    table.rename(columns=renamed).sample(frac=1.0, axis=1, random_state=1).to_csv(
        home / "table.csv", index=False
    )


SCHEMA = st.dictionaries(st.text(max_size=4), st.sampled_from(["text", "number", "date"]), max_size=4)


@settings(deadline=None, max_examples=50)
@given(SCHEMA, SCHEMA)
def test_the_pin_tells_columns_apart_and_depends_on_the_secret(
    tmp_path_factory: pytest.TempPathFactory,
    certificates: Path,
    identities: dict[str, Any],
    one: dict[str, str],
    other: dict[str, str],
) -> None:
    made = small.write(tmp_path_factory.mktemp("pins"), certificates, identities)
    first, second = (config_of(home) for home in made.values())
    assert (pin_of(first, one) == pin_of(first, other)) == (one == other)
    assert pin_of(first, one) == pin_of(first, dict(reversed(one.items())))
    assert pin_of(first, one) != pin_of(second, one)


def test_a_run_whose_contract_pins_columns(homes: dict[str, Path]) -> None:
    pins = {name: remembered_pin(config_of(home)) for name, home in homes.items()}
    before = config_of(homes["platform"]).contract.canonical
    assert b"columns" not in before
    pinned(homes, **pins)
    assert config_of(homes["platform"]).contract.canonical.count(b"hmac-sha256") == 2
    change(homes["platform"])  # another order of columns
    found = small.run(homes)
    assert found["platform"]["run"] == found["logistics"]["run"]


def test_a_renamed_column_is_refused_with_its_nearest_name(homes: dict[str, Path]) -> None:
    home = homes["logistics"]
    shown = text(check(config_of(home)))
    pin = remembered_pin(config_of(home))
    assert pin in "".join(shown.split())
    pinned(homes, logistics=pin)
    assert check_columns(config_of(home)) == pin
    change(home, amount="amounts")
    for refused in (check_columns, prepare):
        with pytest.raises(DataError) as caught:
            refused(config_of(home))
        assert str(caught.value).startswith(
            f"{home}/table.csv: has other columns than parties.logistics.columns of run.toml pins: "
            "'amount' is gone (did you mean 'amounts'?), 'amounts' is new; mend the table, or"
        )
    [fault, *_] = [str(fault) for fault in check(config_of(home)).faults if isinstance(fault, DataError)]
    assert "'amount' is gone" in fault
    (home / "runs" / "logistics.columns.json").write_text("{")
    with pytest.raises(DataError, match="which ones is not known in this storage"):
        check_columns(config_of(home))


def test_columns_that_take_no_part_may_change(homes: dict[str, Path]) -> None:
    home = homes["logistics"]
    settings = (home / "party.toml").read_text()
    (home / "party.toml").write_text(settings.replace('id = "k"', 'id = "k", numeric = ["amount"]'))
    pin = remembered_pin(config_of(home))
    change(home, spent="expenses")
    assert {*own_schema(config_of(home))} == {"k", "amount", "seen"}
    assert remembered_pin(config_of(home)) == pin


def test_what_is_no_pin(homes: dict[str, Path]) -> None:
    pinned(homes, logistics="sha256:00")
    with pytest.raises(ConfigError, match=r"parties.logistics.columns: must be hmac-sha256: and 64 hex"):
        config_of(homes["platform"])
