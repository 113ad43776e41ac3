"""All parties in one process; that it is what they do over real lines is shown in test_api.py."""

from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from parties import Callback, simulate
from parties.callbacks import Told
from parties.errors import AlignmentError, ConfigError, DataError, StorageError
from parties.simulation import Simulated, _merged
from protos.rounds import Progress, Traffic
from splitnn.epoch import Epoch
from tests.parties import small
from tests.parties.test_api import CONTRACT, OWN, Raises


def simulated(tables: Any = None, contract: Any = CONTRACT, own: Any = OWN, **more: Any) -> Simulated:
    tables = small.tables() if tables is None else tables
    return simulate(tables, "platform", "bought", "k", contract, own, **more)


def test_one_seed_gives_the_same_bits_and_tables_stay_as_they_are(tmp_path: Path) -> None:
    tables, before = small.tables(), small.tables()
    threads = torch.get_num_threads()
    one = simulated(tables, seed=3)
    assert torch.get_num_threads() == threads
    for name, table in tables.items():
        pd.testing.assert_frame_equal(table, before[name])
    as_arrow = {name: pa.Table.from_pandas(table) for name, table in tables.items()}
    for folder in (tmp_path, None):
        again = simulated(as_arrow, seed=3, folder=folder)
        assert again.summary["run"] == one.summary["run"]
        assert again.metrics == one.metrics
        pd.testing.assert_frame_equal(again.parties["platform"].scores, one.parties["platform"].scores)
    assert again.parties["platform"].folder is None
    other = simulated(tables, folder=tmp_path)
    assert other.summary["run"] != one.summary["run"]
    assert other.metrics != one.metrics
    assert len([*tmp_path.glob("platform/simulated-*/platform/report.html")]) == 2


def test_the_label_holder_learns_what_it_gains(capfd: pytest.CaptureFixture[str]) -> None:
    contract = CONTRACT | {"training": {"epochs": 30, "batch": 32, "learning_rate": 0.01}}
    found = simulated(contract=contract, seed=1)
    assert found.metrics["test"]["auc"] > found.metrics["alone"]["auc"]
    assert [*found.parties] == ["platform", "logistics"]
    assert found.parties["logistics"].metrics == {}
    assert repr(found).splitlines() == [repr(result) for result in found.parties.values()]
    assert found._repr_html_() == found.parties["platform"]._repr_html_()
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
def test_scores_of_new_rows_are_those_of_the_run(task: str) -> None:
    tables = small.tables()
    label = {"binary": "bought", "multiclass": "kind", "regression": "amount"}[task]
    if label not in tables["platform"]:
        tables["platform"][label] = tables["logistics"].pop(label)
    contract = CONTRACT | {"model": CONTRACT["model"] | {"task": task}}
    own = OWN | {"platform": {**OWN["platform"], "evaluation": {"calibration": "temperature"}}}
    found = simulate(tables, "platform", label, "k", contract, OWN if task == "regression" else own, seed=2)
    told = found.parties["platform"].scores
    assert told is not None
    scores = found.score(tables)[told["row"]]
    named = [name for name in told if name.startswith("score")]
    np.testing.assert_allclose(scores.reshape(len(told), -1), told[named], rtol=0, atol=1e-6)
    with pytest.raises(DataError, match="platform 240, logistics 3"):
        found.score(tables | {"logistics": tables["logistics"].head(3)})
    with pytest.raises(DataError, match="no table of logistics"):
        found.score({"platform": tables["platform"]})


def test_all_faults_are_told_at_once_with_the_nearest_key() -> None:
    with pytest.raises(ConfigError) as raised:
        simulated(
            contract={"training": {"epoch": 5}, "privacy": {"label_epsilon": -1}},
            own={"logistics": {"data": {"numerc": ["x"]}}},
        )
    assert str(raised.value).splitlines() == [
        "contract: training.epoch: unknown key; did you mean training.epochs?",
        "contract: privacy.label_epsilon: must be greater than or equal to 0.01, not -1",
        "own[logistics]: data.numerc: unknown key; did you mean data.numeric?",
    ]


@pytest.mark.parametrize(
    ("change", "kind", "told"),
    [
        ({"label_holder": "plattform"}, ConfigError, "label_holder: 'plattform' has no table; there are"),
        (
            {"own": {"logistic": {}}},
            ConfigError,
            "own: 'logistic' has no table; there are",
        ),
        ({"contract": "x"}, ConfigError, "contract: must be a dict"),
        ({"own": {"logistics": None}}, ConfigError, "own.logistics.: must be a dict"),
        ({"own": {"logistics": {"data": {"file": "x.csv"}}}}, ConfigError, "data.file: its rows are"),
        ({"tables": {1: small.tables()["platform"]}}, ConfigError, "tables: must be a dict"),
        ({"tables": small.tables() | {"logistics": "shop.csv"}}, DataError, "is a str, no pandas"),
        ({"folder": Path(__file__)}, StorageError, "is no folder"),
        ({"callbacks": [print]}, TypeError, "is no parties.Callback"),
        ({"label": "buoght"}, DataError, "table of platform: no column 'buoght' .did you mean 'bought'"),
        ({"id": "key"}, DataError, "table of platform: no column 'key'"),
        ({"contract": {"psi": {"minimum": 1000}}}, AlignmentError, "240 users in common, fewer than"),
    ],
)
def test_what_cannot_be_is_a_typed_error_and_leaves_nothing(
    change: dict[str, Any], kind: type[Exception], told: str, tmp_path: Path
) -> None:
    given = {
        "label_holder": "platform",
        "label": "bought",
        "id": "k",
        "own": OWN,
        "folder": tmp_path,
        "tables": small.tables(),
    } | change
    with pytest.raises(kind, match=told):
        simulate(**given)
    assert not [*tmp_path.rglob("summary.json")]


keys = st.sampled_from("abcd")
tables_of = st.recursive(
    st.integers(0, 3), lambda inner: st.dictionaries(keys, inner, max_size=3), max_leaves=6
).filter(lambda drawn: isinstance(drawn, dict))


@given(tables_of, tables_of)
def test_changes_are_laid_over_defaults_table_by_table(defaults: Any, changes: Any) -> None:
    before = deepcopy(defaults)
    found = _merged(defaults, changes)
    assert defaults == before
    assert _merged(defaults, {}) == defaults
    assert _merged(found, changes) == found
    assert found.keys() == defaults.keys() | changes.keys()
    for key, value in found.items():
        if key not in changes:
            assert value == defaults[key]
        elif not (isinstance(changes[key], dict) and isinstance(defaults.get(key), dict)):
            assert value == changes[key]


def test_what_is_no_folder_of_simulations_is_left_alone(tmp_path: Path) -> None:
    secret = tmp_path / "platform" / "secret"
    secret.parent.mkdir()
    secret.write_bytes(b"a party's own")
    with pytest.raises(StorageError, match="holds other things than simulations"):
        simulated(folder=tmp_path)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [secret]
    assert secret.read_bytes() == b"a party's own"


def test_ids_are_integers_or_texts() -> None:
    tables = small.tables()
    tables["logistics"]["mail"] = "A" + tables["logistics"].pop("k").astype(str)
    tables["platform"]["k"] = "A" + tables["platform"]["k"].astype(str)
    own = OWN | {"logistics": {"data": {"id": "mail", "bags": {"seen": " "}}}}
    found = simulated(tables, own=own)
    assert (found.summary["aligned"], found.summary["psi"]["kind"]) == (small.PEOPLE, "string")
    tables["logistics"]["mail"] = tables["logistics"]["mail"].str.lower() + "@X.org"
    tables["platform"]["k"] += "@x.org"
    found = simulated(tables, CONTRACT | {"ids": {"type": "email"}}, own)
    assert found.summary["aligned"] == small.PEOPLE


def test_what_a_callback_raises_is_raised() -> None:
    error = ValueError("mine")
    with pytest.raises(ValueError, match="mine") as raised:
        simulated(callbacks=[Raises(error)])
    assert raised.value is error


def test_what_is_raised_in_a_thread_of_the_link_ends_the_run_at_its_next_step() -> None:
    class Deaf(Callback):
        def say(self, line: str) -> None:
            raise ValueError(line)

        def peer(self, name: str, there: bool) -> None:
            raise ValueError(name)

    told = Told([Deaf()])
    epoch = Epoch("training", 2, 2, 1, judged=False, improved=False, stops=False, rows=9, metrics={})
    told(Progress("training", 1, 2), Traffic(0, 0))
    told.say("first")
    told.peer("second", there=True)
    for hear in (
        told.check,
        lambda: told(epoch, Traffic(0, 0)),
    ):
        with pytest.raises(ValueError, match="first"):
            hear()
