"""Runs that start from an earlier one, and what is refused before anybody is met."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import safetensors.torch
import torch
from sklearn.metrics import roc_auc_score

from parties.changes import described
from parties.check import check
from parties.config import Config, load
from parties.contract import Contract
from parties.errors import ConfigError, DataError, PartyError, StorageError
from parties.phases import Prepared, prepare
from parties.unseen import unseen
from tests.parties import small

STILL = "epochs = 1, batch = 32, learning_rate = 1e-30, weight_decay = 0.0"


@pytest.fixture(scope="module")
def made(
    tmp_path_factory: pytest.TempPathFactory, certificates: Path, identities: dict[str, Any]
) -> tuple[dict[str, Path], str]:
    """Homes of the parties, and the id of a run there."""
    homes = small.write(tmp_path_factory.mktemp("companies"), certificates, identities)
    return homes, str(small.run(homes)["platform"]["run"])


@pytest.fixture
def companies(made: tuple[dict[str, Path], str], tmp_path: Path) -> tuple[dict[str, Path], str]:
    for name, home in made[0].items():
        shutil.copytree(home, tmp_path / name)
    return {name: tmp_path / name for name in made[0]}, made[1]


Companies = tuple[dict[str, Path], str]


def warm(identities: dict[str, Any], companies: Companies, training: str = STILL, **sections: str) -> None:
    training = f'{{ {training}, warm_start = "{companies[1]}" }}'
    small.agree(companies[0], identities, training=training, **sections)


def config_of(companies: Companies, name: str = "platform") -> Config:
    return load(companies[0][name] / "party.toml")


def test_a_run_goes_on_from_the_weights_and_features_of_the_earlier_one(
    companies: Companies, identities: dict[str, Any]
) -> None:
    """At a learning rate of nearly nothing, to the very weights."""
    warm(identities, companies)
    homes, run = companies
    ended = small.run(homes)
    for name, home in homes.items():
        assert ended[name]["training"]["warm_start"] == run
        assert ended[name]["run"] != run
        before, after = (home / "runs" / f"small-{one[:12]}" / name for one in (run, ended[name]["run"]))
        assert (before / "pipeline.json").read_bytes() == (after / "pipeline.json").read_bytes()
        old, new = (safetensors.torch.load_file(one / "model.safetensors") for one in (before, after))
        assert old.keys() == new.keys()
        assert all(torch.equal(old[key], new[key]) for key in old)


def test_another_learning_rate_moves_them(companies: Companies, identities: dict[str, Any]) -> None:
    warm(identities, companies, "epochs = 1, batch = 32, learning_rate = 0.01")
    homes, run = companies
    ended = small.run(homes)
    old, new = (
        safetensors.torch.load_file(
            small.folder_of(homes["logistics"], {"run": one, "party": "logistics"}) / "model.safetensors"
        )
        for one in (run, ended["logistics"]["run"])
    )
    assert not any(torch.equal(old[key], new[key]) for key in old)


def test_a_warm_start_is_judged_by_users_whom_no_earlier_run_was_trained_on(
    certificates: Path, identities: dict[str, Any], tmp_path: Path
) -> None:
    """Over a chain of three runs, whatever their own splits were."""
    homes = small.write(tmp_path, certificates, identities)
    half = '{ validation = 0.1, test = 0.7, importance = "none" }'
    small.agree(homes, identities, evaluation=half)
    ended, seen = [small.run(homes)["platform"]], set[int]()
    assert "test_unseen" not in ended[0]["metrics"]
    for _ in range(2):
        folder = small.folder_of(homes["platform"], ended[-1])
        tested = {*pd.read_parquet(folder / "test_scores.parquet")["id"]}
        seen |= {*pd.read_parquet(folder / "alignment.parquet")["id"]} - tested
        warm(identities, (homes, ended[-1]["run"]), evaluation=half)
        ended.append(small.run(homes)["platform"])
    scores = pd.read_parquet(small.folder_of(homes["platform"], ended[-1]) / "test_scores.parquet")
    new = scores[~scores["id"].isin(seen)]
    told = ended[-1]["metrics"]["test_unseen"]
    assert 10 < told["rows"] == len(new) < len(scores)
    assert told["auc"] == pytest.approx(roc_auc_score(new["label"], new["score"]))
    shutil.rmtree(small.folder_of(homes["platform"], ended[0]))
    config = config_of((homes, ""))
    with pytest.raises(ConfigError, match="there is none"):
        unseen(config, "integer", prepare(config).data.table.ids)


def test_columns_without_a_part_are_told(companies: Companies, identities: dict[str, Any]) -> None:
    warm(identities, companies)
    table = companies[0]["platform"] / "table.csv"
    frame = pd.read_csv(table)
    frame["later"] = range(len(frame))
    frame.to_csv(table, index=False)
    prepared = prepare(config_of(companies))
    assert prepared.warm is not None
    assert [*prepared.warm.told(prepared.data.table)] == [
        f"warm start from run {companies[1][:12]}: its weights, and features as it made them; without a part "
        "in it: later"
    ]


def test_drift_since_the_earlier_run_is_told(companies: Companies, identities: dict[str, Any]) -> None:
    warm(identities, companies)
    homes, run = companies
    table = homes["logistics"] / "table.csv"
    frame = pd.read_csv(table)
    frame["amount"] += 2
    frame.to_csv(table, index=False)
    ended = small.run(homes)
    told = {name: summary["drift"] for name, summary in ended.items()}
    assert {name: (one["since"], one["alerts"]) for name, one in told.items()} == {
        "logistics": (run, 1),
        "platform": (run, 0),
    }
    first = told["logistics"]["columns"][0]
    assert (first["name"], first["state"]) == ("amount", "alert")
    report = (small.folder_of(homes["logistics"], ended["logistics"]) / "report.txt").read_text()
    assert (
        f"drift      since run {run[:12]}: 1 alert(s), 0 to watch: amount PSI {first['psi']:.3f}\n" in report
    )
    (_folder(companies) / "statistics.json").unlink()  # of a release that kept none
    prepared = prepare(config_of(companies))
    assert prepared.warm is not None
    assert prepared.warm.statistics is None


def _without_column(companies: Companies) -> None:
    table = companies[0]["platform"] / "table.csv"
    pd.read_csv(table).drop(columns="x").assign(y=1.5).to_csv(table, index=False)


def _as_text(companies: Companies) -> None:
    table = companies[0]["platform"] / "table.csv"
    frame = pd.read_csv(table)
    frame["x"] = [f"v{place % 3}" for place in range(len(frame))]
    frame.to_csv(table, index=False)


def _gone(companies: Companies) -> None:
    shutil.rmtree(_folder(companies))


def _damaged(companies: Companies) -> None:
    path = _folder(companies) / "model.safetensors"
    path.write_bytes(path.read_bytes()[:50])


def _folder(companies: Companies) -> Path:
    return small.folder_of(companies[0]["platform"], {"run": companies[1], "party": "platform"})


def _nothing(companies: Companies) -> None:
    pass


MODEL = {"model": "{ cut = 3, bottom_hidden = [7], top_hidden = [16] }"}
TOP = {"model": "{ cut = 3, bottom_hidden = [6], top_hidden = [9] }"}
PRIVATE = {
    "privacy": "{ label_epsilon = 1.0 }",
    "model": "{ cut = 3, bottom_hidden = [6], top_hidden = [16] }",
}
TASK = {"model": '{ cut = 3, bottom_hidden = [6], top_hidden = [16], task = "multiclass" }'}


@pytest.mark.parametrize(
    ("spoil", "sections", "error", "said"),
    [
        (_gone, {}, ConfigError, r"run\.toml: training\.warm_start: of the versions in .* there is none"),
        (_damaged, {}, StorageError, r"model\.safetensors: damaged, or not all there"),
        (_without_column, {}, DataError, "no column 'x', with which the model was trained"),
        (_as_text, {}, DataError, "no column 'x', with which the model was trained"),
        (
            _nothing,
            MODEL,
            ConfigError,
            "the bottom model has other layers than the weights to start from; agree on",
        ),
        (_nothing, TOP, ConfigError, "the top model has other layers"),
        (_nothing, PRIVATE, ConfigError, "trained on true labels, which its weights tell of"),
        (_nothing, TASK, ConfigError, "classes or targets are others than your labels'"),
    ],
)
def test_what_does_not_fit_is_refused_before_anybody_is_met(
    companies: Companies,
    identities: dict[str, Any],
    spoil: Callable[[Companies], None],
    sections: dict[str, str],
    error: type[PartyError],
    said: str,
) -> None:
    warm(identities, companies, **sections)
    spoil(companies)
    with pytest.raises(error, match=said) as raised:
        prepare(config_of(companies))
    assert "\n" not in str(raised.value)
    assert any(str(raised.value) == str(fault) for fault in check(config_of(companies)).faults)


def test_the_weights_of_other_parties_are_refused(companies: Companies, identities: dict[str, Any]) -> None:
    warm(identities, companies)
    for home in companies[0].values():
        text = (home / "run.toml").read_text()
        (home / "run.toml").write_text(f'{text}[parties.third]\nkey = "sha256:{"0" * 64}"\n')
    with pytest.raises(
        ConfigError, match="that run was of logistics, platform with platform as its label holder"
    ):
        prepare(config_of(companies))


def test_a_changed_version_is_a_change_of_an_unfinished_run(
    companies: Companies, identities: dict[str, Any]
) -> None:
    cold = described(config_of(companies))
    warm(identities, companies)
    before = described(config_of(companies))
    assert before.keys() - cold.keys() == {
        f"{file} of the warm start" for file in ("model.safetensors", "pipeline.json")
    }
    path = _folder(companies) / "model.safetensors"
    path.write_bytes(path.read_bytes() + b" ")
    after = described(config_of(companies))
    assert [key for key in before if before[key] != after[key]] == ["model.safetensors of the warm start"]


def test_only_a_contract_with_the_key_is_another(contract_of: Callable[..., Contract]) -> None:
    assert b"warm_start" not in contract_of().canonical
    one, other = (contract_of(training={"warm_start": digit * 64}) for digit in "ab")
    assert len({contract_of().digest, one.digest, other.digest}) == 3
    for version in ("", "abc", "A" * 64, "0" * 63):
        with pytest.raises(ValueError, match="must be a whole run id, 64 hex digits"):
            contract_of(training={"warm_start": version})


def test_prepared_without_the_key_is_cold(companies: Companies) -> None:
    prepared: Prepared = prepare(config_of(companies))
    assert prepared.warm is None
