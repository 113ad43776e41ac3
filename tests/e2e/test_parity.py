"""Real processes over mutual TLS end with the weights of one process on all columns, to the bit."""

import json
import re
from collections.abc import Callable
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from parties import audit
from parties.demo import pooled
from parties.storage import run_folder
from psi.canonical import canonical
from splitnn import accountant
from splitnn.metrics import binary

Federate = Callable[..., Any]

FOUR = ("platform", "logistics", "advertiser", "bank")


def check_run(made: Any) -> dict[str, Any]:
    """All parties finish, with the true alignment and the reference's weights; the label holder's summary."""
    ends = made.run()
    for name, end in ends.items():
        assert end.code == 0, f"{name}: {end.err}"
    summaries = {name: end.json for name, end in ends.items()}
    summary: dict[str, Any] = summaries[made.label_holder]
    configs = made.configs()
    for name, config in configs.items():
        folder = run_folder(config.party.storage, config.contract.name, bytes.fromhex(summary["run"]), name)
        alignment = pd.read_parquet(folder / "alignment.parquet")
        assert len(alignment) == len(made.common) == summaries[name]["aligned"]
        assert {canonical(cell, config.contract.ids[0].columns[0]) for cell in alignment["id"]} == made.common
        assert ("metrics" in summaries[name]) == (name == made.label_holder)
    logs = [
        audit.read(file)
        for name in made.names
        for file in (made.home(name) / "runs").glob(f"*/{name}/audit.jsonl")
    ]
    assert len(logs) == len(made.names)
    assert not any(audit.compare(one, other) for one, other in combinations(logs, 2))
    reference, equal = pooled(configs, summary["run"])
    assert equal
    assert reference == summary["metrics"]["test"]
    return summary


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_three_parties(federation: Federate, optimizer: str) -> None:
    """With dropout; training stops early and goes back to the best epoch."""
    made = federation()
    rate = {"adam": "0.005", "sgd": "0.05"}[optimizer]
    made.agree(
        'optimizer = "adam", learning_rate = 0.005', f'optimizer = "{optimizer}", learning_rate = {rate}'
    )
    training = check_run(made)["training"]
    assert training["epochs"] == training["best_epoch"] + 3 < 200
    assert training["steps"] == 4 * training["epochs"]


@pytest.mark.slow
def test_secure_sum(federation: Federate) -> None:
    """The hub sees sums of what is under masks from the sealed relay: the reference's, to the bit."""
    made = federation()
    made.agree("cut = 3,", 'cut = 3, fusion = "secure-sum",')
    made.agree("[parties.platform]", '[evaluation]\nimportance = "none"\n\n[parties.platform]')
    made.agree("epochs = 200", "epochs = 3")
    check_run(made)


def test_importance_of_columns(federation: Federate) -> None:
    """Every party is told of its own groups, by the names that it alone knows."""
    made = federation()
    made.agree("epochs = 200", "epochs = 2")
    made.agree("[parties.platform]", '[evaluation]\nimportance = "columns"\n\n[parties.platform]')
    made.edit("logistics", "party.toml", "[link]", '[groups]\ndelivery = ["amount", "kind"]\n\n[link]')
    found = {name: end.json["importance"] for name, end in made.run().items()}
    assert found["platform"]["parties"].keys() == {*made.names}
    columns = found["platform"]["columns"]
    assert [[*columns[name]] for name in ("platform", "logistics")] == [["amount", "kind"], ["1"]]
    assert found["logistics"]["columns"].keys() == {"logistics"}
    assert [*found["logistics"]["columns"]["logistics"]] == ["delivery"]
    for name in ("logistics", "advertiser"):
        told = [drop["mean"] for drop in found[name]["columns"][name].values()]
        assert told == pytest.approx([drop["mean"] for drop in columns[name].values()], abs=0.00051)


def test_several_examples_an_entity(federation: Federate) -> None:
    """Orders: one to four rows a person at the label holder, each with its own columns and its own label.
    What each partner brings, by training again without it, is judged by people, not by orders."""
    made = federation(people=200)
    several = 'examples.per_entity = "several"\nevaluation.contribution = "retrain"'
    made.agree("psi.minimum", f"{several}\npsi.minimum")
    made.agree("epochs = 200, patience = 3", "epochs = 4")
    home, random = made.home("platform"), np.random.default_rng(0)
    table = pd.read_csv(home / "people.csv")
    table = table.iloc[np.repeat(np.arange(len(table)), 1 + np.arange(len(table)) % 3)]
    table = table.sample(frac=1, random_state=0).reset_index(drop=True)
    table["amount"], table["bought"] = (random.normal(size=len(table)), random.integers(0, 2, len(table)))
    table["order"] = random.integers(0, 20, len(table))
    table.to_csv(home / "people.csv", index=False)
    made.edit("platform", "party.toml", "[data]", '[data]\nrank_within = "order"\nndcg_at = 3')
    summary = check_run(made)
    people = table["email"].map(lambda cell: canonical(cell, "email") if isinstance(cell, str) else None)
    assert summary["examples"] == people.isin(made.common).sum() > summary["aligned"]
    assert summary["rows"] == people.notna().sum() - (people == "").sum()
    assert {"auc", "gauc", "ndcg@3"} <= summary["metrics"]["test"].keys()
    assert all(metrics.keys() == summary["metrics"]["test"].keys() for metrics in summary["metrics"].values())
    [scores] = (home / "runs").rglob("test_scores.parquet")
    tested = pd.read_parquet(scores)
    everyone = set(people[tested["row"]])
    assert len(tested) == tested["row"].nunique() == people.isin(everyone).sum() > len(everyone)
    assert tested["label"].tolist() == table["bought"][tested["row"]].tolist()
    brought = summary["contribution"]
    assert (brought["rows"], brought["users"]) == (len(tested), len(everyone))
    without = [["advertiser", "logistics"], ["advertiser"], ["logistics"]]
    assert [entry["partners"] for entry in brought["lifts"]] == without


def test_defended_labels(federation: Federate) -> None:
    """Noise on the gradients, and labels that lie, the same in every run: to the bit those of one process."""
    made = federation()
    made.agree("epochs = 200, patience = 3", "epochs = 3")
    defence = 'label_defence = "marvell", label_strength = 1.0, label_epsilon = 2.0, max_label_leak = 1.0'
    made.agree("training =", f"privacy = {{ {defence} }}\ntraining =")
    leak = check_run(made)["leak"]
    assert (leak["defence"], leak["strength"], leak["epsilon"]) == ("marvell", 1.0, 2.0)
    assert [{"norm", "cosine", "sum_kl"} <= epoch.keys() for epoch in leak["epochs"]] == [True] * 3
    [report] = (made.home("platform") / "runs").glob("*/platform/report.txt")
    assert "marvell, strength 1, labels that lie, epsilon 2" in report.read_text()


def test_noise_on_embeddings_and_its_account(federation: Federate) -> None:
    """Summed under masks as well: to the bit as in one process. A second run is over the budget."""
    made = federation()
    made.agree("epochs = 200, patience = 3", "epochs = 3")
    made.agree("cut = 3,", 'cut = 3, fusion = "secure-sum",')
    noise = "embedding_clip = 1.0, embedding_sigma = 8.0, embedding_budget = 2.5"
    made.agree("training =", f'evaluation.importance = "none"\nprivacy = {{ {noise} }}\ntraining =')
    check_run(made)
    for name in ("logistics", "advertiser"):
        [folder] = (made.home(name) / "runs").glob(f"*/{name}")
        spent = json.loads((folder / "summary.json").read_text())["privacy"]
        assert spent["partners"]["platform"]["releases"] == 3
        assert spent["partners"]["platform"]["total"] == pytest.approx(accountant.epsilon(3 / 32, 1e-5))
        assert (
            f"privacy    embedding with platform: epsilon {spent['partners']['platform']['total']:.3f}"
            in (folder / "report.txt").read_text()
        )
    ends = made.run()
    assert {end.code for end in ends.values()} <= {8, 16}
    refused = [end.error for end in ends.values() if end.code == 16]
    assert refused
    assert all("over the budget of epsilon 2.5 at delta 1e-05" in line for line in refused)


@pytest.mark.slow
def test_party_dropout_and_calibration(federation: Federate) -> None:
    """Both are the label holder's alone: its partners' folders hold nothing of them."""
    made = federation()
    made.agree("cut = 3,", "cut = 3, party_dropout = 0.2,")
    made.edit("platform", "party.toml", "[link]", '[evaluation]\ncalibration = "temperature"\n[link]')
    metrics = check_run(made)["metrics"]
    assert [*metrics["test_without"]] == ["advertiser", "logistics"]
    [folder] = (made.home("platform") / "runs").glob("*/platform")
    kept = json.loads((folder / "target.json").read_text())["calibration"]
    assert (kept["method"], len(kept["temperatures"])) == ("temperature", 1)
    tested = pd.read_parquet(folder / "test_scores.parquet")
    told = binary(torch.tensor(tested["label"].to_numpy()), torch.tensor(tested["score"].to_numpy()))
    assert told == metrics["test_calibrated"]
    assert metrics["test"]["log_loss"] != metrics["test_calibrated"]["log_loss"]
    assert "without advertiser" in (folder / "report.txt").read_text()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("names", "label_holder"),
    [(FOUR[:3], "logistics"), (FOUR[:2], "platform"), (FOUR, "advertiser")],
    ids=["label-at-logistics", "two", "four"],
)
def test_other_federations(federation: Federate, names: tuple[str, ...], label_holder: str) -> None:
    check_run(federation(names, label_holder))


@pytest.mark.slow
def test_integer_ids_of_many_types(federation: Federate) -> None:
    """7, "007", "7.0": one canonical form, from a Parquet file and from text (docs/psi.md, Ids)."""
    made = federation()
    made.agree('ids.type = "email"', 'ids.type = "integer"')
    made.email = str
    writings: list[Callable[[int], Any]] = [int, lambda n: f"00{n}", lambda n: f" +{n}.0"]
    for name, writing in zip(made.names, writings, strict=True):
        table = pd.read_csv(made.home(name) / "people.csv")
        digits = table["email"].str.strip().str.extract(r"\.(\d+)@", flags=re.IGNORECASE)[0]
        table["email"] = [None if pd.isna(number) else writing(int(number)) for number in digits]
        if name == made.label_holder:
            table["email"] = table["email"].astype("Int64")
            table.to_parquet(made.home(name) / "people.parquet", index=False)
            made.edit(name, "party.toml", "people.csv", "people.parquet")
        else:
            table.to_csv(made.home(name) / "people.csv", index=False)
    check_run(made)
