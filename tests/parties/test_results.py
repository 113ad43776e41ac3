"""What depends on the task in the files that a run leaves."""

import json
import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from parties.columns.numbers import Numeric
from parties.contract_privacy import Privacy
from parties.contract_training import LOSSES, Model
from parties.features import Pipeline
from parties.results import importance, leak, scored_columns, target, uncalibrated
from parties.results import test_metrics as metrics_of
from parties.summary import HEADLINES, as_json, report
from splitnn.calibration import Temperature
from splitnn.exact import FeatureHolderResult, LabelHolderResult
from splitnn.importance import Drop, Importance
from splitnn.ranking import Lists
from splitnn.tasks import Labels, Objective
from tests.parties import small


def labels(task: str) -> Labels:
    if task == "multiclass":
        part = torch.tensor([1, 0, 1, 0])
        return Labels(part, part, part, ("hats", "shoes"))
    if task == "multilabel":
        part = torch.tensor([[0.0, 1.0], [1.0, 0.0], [1.0, 1.0], [0.0, 0.0]])
        return Labels(part, part, part, ("click", "conversion"))
    part = torch.tensor([0.0, 1.0, 0.0, 4.0] if task == "regression" else [0.0, 1.0, 0.0, 1.0])
    return Labels(part, part, part)


def result(task: str, loss: str, scores: Tensor | None = None) -> LabelHolderResult:
    objective = Objective(task, loss, labels(task))
    logits = torch.zeros(4, objective.outputs)
    scores = objective.scores(logits) if scores is None else scores
    empty: Any = nn.Identity()
    return LabelHolderResult(
        empty, empty, [], objective, scores, labels(task).test, logits, logits, {}, 1, 1, 1, None
    )


def test_each_task_has_its_columns() -> None:
    assert [*scored_columns(result("binary", "cross-entropy"), "binary", None)] == ["label", "score"]
    assert [*scored_columns(result("regression", "huber"), "regression", None)] == ["label", "score"]
    shares = torch.tensor([[0.25, 0.75], [1.0, 0.0], [0.0, 1.0], [0.5, 0.5]])
    several = scored_columns(result("multiclass", "cross-entropy", shares), "multiclass", None)
    assert several["label"].tolist() == ["shoes", "hats", "shoes", "hats"]
    assert several["score.shoes"].tolist() == [0.75, 0.0, 1.0, 0.5]
    assert [*several] == ["label", "score.hats", "score.shoes"]
    targets = scored_columns(result("multilabel", "cross-entropy", shares), "multilabel", None)
    assert [*targets] == ["label.click", "label.conversion", "score.click", "score.conversion"]
    assert targets["label.conversion"].tolist() == [1, 0, 1, 0]
    assert targets["score.click"].tolist() == [0.25, 1.0, 0.0, 0.5]


@pytest.mark.parametrize(("task", "loss"), [(task, loss) for task in LOSSES for loss in LOSSES[task]])
def test_what_the_outputs_mean_is_kept_and_the_report_knows_the_metrics(task: str, loss: str) -> None:
    trained = result(task, loss)
    meaning = json.loads(as_json(target(trained.objective, Model(task=task, loss=loss), None, {})))  # type: ignore[arg-type]
    assert (meaning["task"], meaning["loss"]) == (task, loss)
    assert meaning["names"] == [*labels(task).names]
    assert (meaning["location"], meaning["scale"]) == (trained.objective.location, trained.objective.scale)
    metrics = trained.objective.metrics(trained.labels, trained.scores)
    page = report(summary({"test": metrics}, task))
    last = page.splitlines()[-1]
    assert last.startswith("test ")
    assert "without" not in page
    assert last.endswith("the federation")
    for metric, word in HEADLINES[task].items():
        assert f"{word} {metrics[metric]:.4f}" in last


def test_metrics_without_a_party() -> None:
    trained = result("binary", "cross-entropy")
    assert [*metrics_of(trained, None)] == ["test"]
    right, wrong = torch.tensor([0.1, 0.8, 0.2, 0.9]), torch.tensor([0.9, 0.2, 0.8, 0.1])
    trained = replace(trained, scores=right, without={"bank": wrong, "shop": right})
    found = metrics_of(trained, None)
    assert [*found["test_without"]] == ["bank", "shop"]
    assert found["test_without"]["shop"] == found["test"]
    assert (found["test"]["auc"], found["test_without"]["bank"]["auc"]) == (1.0, 0.0)
    lines = report(summary(found, "binary")).splitlines()
    assert [line.split("  ")[-1] for line in lines[-3:]] == [
        "the federation",
        "the federation without bank",
        "the federation without shop",
    ]
    assert "AUC 0.0000" in lines[-2]


def test_calibrated_scores_are_kept_and_told_beside_the_others() -> None:
    logits = torch.tensor([[-3.0], [-1.0], [1.0], [2.0]])
    trained = replace(result("binary", "cross-entropy", torch.sigmoid(logits).squeeze(1)), logits=logits)
    calibration = Temperature("binary", (2.0,))
    kept = scored_columns(trained, "binary", calibration)["score"]
    assert kept.tolist() == torch.sigmoid(logits.double() / 2).squeeze(1).tolist()
    meaning = json.loads(as_json(target(trained.objective, Model(), calibration, {})))["calibration"]
    assert meaning == {"method": "temperature", "task": "binary", "temperatures": [2.0]}
    found = metrics_of(trained, calibration)
    assert found["test"] == metrics_of(trained, None)["test"]
    assert found["test"]["auc"] == found["test_calibrated"]["auc"]
    lines = report(summary(found, "binary")).splitlines()
    assert lines[-2].endswith("the federation, calibrated")
    before, after = (found[key]["ece"] for key in ("test", "test_calibrated"))
    assert lines[-1].startswith(f"calibrated calibration error {before:.4f} -> {after:.4f}  Brier score")


def test_a_temperature_at_its_bound_is_warned_about() -> None:
    for temperature, said in ((2.0, 0), (100.0, 1), (0.01, 1)):
        outcome: Any = SimpleNamespace(calibration=Temperature("binary", (temperature,)))
        assert len(uncalibrated(outcome)) == said
    assert not uncalibrated(SimpleNamespace(calibration=None))  # type: ignore[arg-type]


def of(name: str, trained: LabelHolderResult | FeatureHolderResult, task: str, loss: str) -> dict[str, Any]:
    """What stands in this party's summary.json; it has columns age and days, which is called delivery."""
    contract = SimpleNamespace(model=Model(task=task, loss=loss))  # type: ignore[arg-type]
    config: Any = SimpleNamespace(name=name, contract=contract, feature_holders=["bank", "shop"], party=None)
    config.party = SimpleNamespace(groups={"delivery": ("days",)})
    column = Numeric("age", (), (), 0.0, 1.0, False)
    pipeline = Pipeline((column, replace(column, name="days")), ())
    outcome: Any = SimpleNamespace(trained=trained, pipeline=pipeline)
    return importance(SimpleNamespace(config=config), outcome)  # type: ignore[arg-type]


def test_importance_of_parties_and_columns() -> None:
    drops = [Drop(0.25, 0.01), Drop(0.125, 0.02), Drop(math.nan, math.nan)]
    trained = replace(
        result("binary", "cross-entropy"),
        importance=Importance(tuple(drops), (tuple(drops[:2]), (drops[1],), (drops[2],))),
    )
    found = of("platform", trained, "binary", "cross-entropy")
    assert (found["metric"], found["relative"]) == ("auc", False)
    assert [*found["parties"]] == ["platform", "bank", "shop"]
    assert found["parties"]["bank"] == {"mean": 0.125, "deviation": 0.02}
    assert [*found["columns"]["platform"]] == ["delivery", "age"]
    assert found["columns"]["bank"] == {"1": {"mean": 0.125, "deviation": 0.02}}
    assert found["columns"]["shop"]["1"] == {"mean": None, "deviation": None}
    page = report(summary({}, "binary") | {"importance": found})
    assert page.splitlines()[-8:] == [
        "importance how far AUC falls when these values are shuffled among the test rows: mean, deviation",
        "             0.2500  0.0100  platform",
        "             0.1250  0.0200  bank",
        "             not measurable  shop",
        "             0.2500  0.0100  platform: delivery",
        "             0.1250  0.0200  platform: age",
        "             0.1250  0.0200  bank: 1",
        "             not measurable  shop: 1",
    ]


def test_a_feature_holder_is_told_of_its_own_columns_only() -> None:
    empty: Any = nn.Identity()
    trained = FeatureHolderResult(empty, 1, 1, 1, (Drop(0.5, 0.1), Drop(0.25, 0.0)))
    found = of("shop", trained, "regression", "huber")
    assert (found["metric"], found["relative"]) == ("mae", True)
    assert found.keys() == {"metric", "relative", "columns"}
    assert found["columns"] == {
        "shop": {"delivery": {"mean": 0.5, "deviation": 0.1}, "age": {"mean": 0.25, "deviation": 0.0}}
    }
    assert "which part of it MAE grows" in report(summary({}, "regression") | {"importance": found})
    assert of("shop", replace(trained, importance=()), "regression", "huber") == {}
    assert of("platform", result("binary", "cross-entropy"), "binary", "cross-entropy") == {}


ATTACKS = ("norm", "cosine", "norm_rows", "cosine_rows")


def summary(metrics: dict[str, Any], task: str) -> dict[str, Any]:
    cost = {"seconds": 1.0, "bytes_sent": 0, "bytes_received": 0}
    training = {"task": task, "schedule": "exact", "epochs": 1, "best_epoch": 1, "steps": 1} | cost
    return (
        {"run": "a" * 64, "contract": "b" * 64, "party": "platform", "role": "label holder"}
        | {"rows": 4, "aligned": 4, "examples": 9, "psi": {"protocol": "ecdh", "kind": "email"} | cost}
        | {"training": training | {"rows_per_second": 1.0}, "metrics": metrics}
    )


def test_the_leak_of_each_epoch_is_told_with_the_defence() -> None:
    def of(epochs: list[dict[str, float]], **privacy: Any) -> dict[str, Any]:
        return leak(Privacy(**privacy), replace(result("binary", "cross-entropy"), history=epochs))

    first = {"train_loss": 0.7, "norm_leak": 0.9, "norm_leak_rows": 0.8, "cosine_leak": 1.0}
    first |= {"cosine_leak_rows": 0.7, "auc": 0.6}
    second = first | {"norm_leak": 0.75, "norm_leak_rows": 0.85, "cosine_leak_rows": 0.6}
    told = of([first, second])
    assert (told["norm"], told["cosine"], told["norm_rows"], told["cosine_rows"]) == (0.9, 1.0, 0.85, 0.7)
    assert told["epochs"][1]["auc"] == 0.6
    assert (told["defence"], told["strength"], told["epsilon"], told["bound"]) == ("none", None, None, None)
    page = report(summary({}, "binary") | {"leak": told})
    assert "leak       AUC by gradients (0.5: nothing): norm attack 0.9000  cosine attack 1.0000" in page
    assert "told nearly every label of the training rows" in page
    for auc, much in ((0.5, "told little"), (0.7, "have guessed labels")):
        assert much in report(summary({}, "binary") | {"leak": told | dict.fromkeys(ATTACKS, auc)})
    assert "\ndefence    none; " in page
    marvell = {"label_defence": "marvell", "label_strength": 2.0, "label_epsilon": 3.0}
    defended = of([entry | {"sum_kl": 0.5} for entry in (first, second)], **marvell)
    assert defended["sum_kl"] == 1.0
    page = report(summary({}, "binary") | {"leak": defended})
    said = "sum of KL 1 (a guess errs at least 0.250 of the time)"
    assert f"\ndefence    marvell, strength 2, labels that lie, epsilon 3, {said}; " in page
    assert "\nbound " not in page
    page = report(summary({}, "binary") | {"leak": defended | {"sum_kl": 4.0, "bound": 0.7}})
    assert "sum of KL 4 (bounds nothing); " in page
    assert "\nbound      AUC 0.7, " in page
    assert of([{"train_loss": 0.7}]) == {}
    unmeasured = of([{"train_loss": 0.7, "auc": 0.6}], label_epsilon=3.0)
    assert "norm" not in unmeasured
    assert "labels that lie, epsilon 3; " in report(summary({}, "binary") | {"leak": unmeasured})


@pytest.mark.parametrize(
    ("low", "high", "doubt"),
    [(-0.1, 0.3, True), (0.0, 0.3, True), (0.1, 0.3, False), (-0.3, -0.1, False), (None, None, False)],
)
def test_a_lift_whose_interval_includes_0_may_be_chance(
    low: float | None, high: float | None, doubt: bool
) -> None:
    auc = {"with": 0.8, "without": 0.6, "lift": 0.2, "low": low, "high": high}
    lifts = [{"partners": ["shop"], "way": "retrained", "metrics": {"auc": auc}}]
    record = {"rows": 90, "users": 90, "level": 0.95, "lifts": lifts}
    page = report(summary({}, "binary") | {"contribution": record})
    assert "AUC +0.2000 (" in page
    assert ("includes 0, may be chance" in page) == doubt


def test_lists_are_told_where_there_are_any() -> None:
    trained = result("binary", "cross-entropy", torch.tensor([0.1, 0.8, 0.9, 0.2]))
    trained.objective.lists = Lists(test=torch.tensor([0, 0, 1, 1]), at=3)
    metrics = metrics_of(trained, None)
    assert metrics["test"]["gauc"] == 0.5
    page = report(summary(metrics, "binary"))
    assert "9 examples" in page
    assert (
        f"GAUC {metrics['test']['gauc']:.4f}  NDCG@3 {metrics['test']['ndcg@3']:.4f}  the federation" in page
    )


def test_the_way_from_the_table_to_the_training_rows_and_each_epoch_and_part_are_told(
    tmp_path: Path, certificates: Path, identities: dict[str, Any]
) -> None:
    homes = small.write(tmp_path, certificates, identities)
    file = homes["logistics"] / "table.csv"
    file.write_text("same," + file.read_text().replace("\n", "\n7,").removesuffix("7,"))
    summaries = small.run(homes)
    for name, told in summaries.items():
        funnel = told["funnel"]
        assert funnel["table"] == funnel["usable"] == funnel["aligned"] == funnel["examples"] == small.PEOPLE
        assert funnel["train"] + funnel["validation"] + funnel["test"] == funnel["examples"]
        assert told["left_out"] == (
            [{"column": "same", "why": "constant in training"}] if name == "logistics" else []
        )
        assert len(told["history"]) == told["training"]["epochs"]
        parts = ["handshake", "alignment", "columns", "training", "evaluation"]
        assert [*told["parts"]] == parts + ["baselines"] * (name == "platform")
    [ours, theirs] = [summaries[name]["history"] for name in ("platform", "logistics")]
    assert all(entry.keys() == {"train_loss", "auc"} for entry in ours)
    assert [entry["improved"] for entry in theirs] == [
        entry["auc"] > max([0.0, *(before["auc"] for before in ours[:at])]) for at, entry in enumerate(ours)
    ]
