"""Calibration: known temperatures are found, order is kept, and overconfidence goes."""

import json
from dataclasses import asdict
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.isotonic import IsotonicRegression
from torch import Tensor

from splitnn.calibration import CALIBRATIONS, HOTTEST, Calibration, Isotonic, Temperature
from splitnn.metrics import binary
from splitnn.tasks import TASKS, Labels, Objective

PAIRS = [(task, method) for task, methods in CALIBRATIONS.items() for method in methods]
OUTPUTS = {"binary": 1, "multiclass": 4, "multilabel": 3}


def drawn(task: str, n: int, temperature: float, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Logits, and labels drawn from the probabilities of the logits divided by the temperature."""
    random = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(n, OUTPUTS[task], generator=random)
    if task == "multiclass":
        return logits, torch.softmax(logits / temperature, 1).multinomial(1, generator=random).squeeze(1)
    labels = torch.bernoulli(torch.sigmoid(logits / temperature), generator=random)
    return logits, labels.squeeze(1) if task == "binary" else labels


def fitted(task: str, method: str, logits: Tensor, labels: Tensor) -> Calibration:
    return CALIBRATIONS[task][method].fit(task, logits, labels)


def objective(task: str, labels: Tensor) -> Objective:
    names = () if task == "binary" else tuple("abcd"[: OUTPUTS[task]])
    return Objective(task, next(iter(TASKS[task])), Labels(labels, labels, labels, names))


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
@pytest.mark.parametrize("task", OUTPUTS)
def test_a_known_temperature_is_found(task: str, temperature: float) -> None:
    """1 too: that of logits which are calibrated already."""
    found = Temperature.fit(task, *drawn(task, 40_000, temperature)).temperatures
    assert len(found) == (1 if task == "multiclass" else OUTPUTS[task])
    assert found == pytest.approx([temperature] * len(found), rel=0.05)


def test_each_target_has_its_own_temperature() -> None:
    logits, labels = drawn("multilabel", 40_000, 2.0)
    found = Temperature.fit("multilabel", logits * torch.tensor([1.0, 2.0, 0.5]), labels).temperatures
    assert found == pytest.approx([2.0, 4.0, 1.0], rel=0.05)


@settings(deadline=None, max_examples=50)
@given(task=st.sampled_from([*OUTPUTS]), seed=st.integers(0, 99), factor=st.floats(0.3, 3.0))
def test_no_other_temperature_has_a_smaller_loss(task: str, seed: int, factor: float) -> None:
    logits, labels = drawn(task, 60, 1.5, seed)
    best = Temperature.fit(task, logits, labels)

    def loss(temperatures: tuple[float, ...]) -> float:
        scores = Temperature(task, temperatures).scores(logits)
        if task == "multiclass":
            return -scores[torch.arange(len(labels)), labels].log().mean().item()
        return torch.nn.functional.binary_cross_entropy(scores, labels.double()).item()

    assert loss(best.temperatures) <= loss(tuple(factor * one for one in best.temperatures)) + 1e-12


def test_logits_that_tell_all_or_the_opposite_end_at_the_bounds() -> None:
    logits = torch.tensor([[-2.0], [-1.0], [1.0], [2.0]])
    labels = torch.tensor([0.0, 0.0, 1.0, 1.0])
    assert Temperature.fit("binary", logits, labels).temperatures == pytest.approx([1 / HOTTEST])
    assert Temperature.fit("binary", -logits, labels).temperatures == pytest.approx([HOTTEST])
    assert Temperature.fit("binary", logits, labels).at_bound
    assert Temperature.fit("binary", -logits, labels).at_bound
    assert not Temperature.fit("binary", *drawn("binary", 100, 2.0)).at_bound


@pytest.mark.parametrize(("task", "method"), PAIRS)
def test_an_overconfident_model_is_mended_on_rows_not_fitted_to(task: str, method: str) -> None:
    calibration = fitted(task, method, *drawn(task, 8000, 3.0))
    logits, labels = drawn(task, 8000, 3.0, seed=1)
    judge = objective(task, labels)
    before, scores = judge.metrics(labels, judge.scores(logits)), calibration.scores(logits)
    after = judge.metrics(labels, scores)
    assert scores.shape == judge.scores(logits).shape
    for metric in ("ece", "log_loss", "brier"):
        assert after[metric] < before[metric], metric
    assert after["ece"] < 0.03 < before["ece"]


@settings(deadline=None, max_examples=100)
@given(
    logits=st.lists(st.floats(-9, 9, width=32), min_size=4, max_size=40),
    data=st.data(),
    method=st.sampled_from(["temperature", "isotonic"]),
)
def test_order_is_kept(logits: list[float], data: st.DataObject, method: str) -> None:
    z = torch.tensor(logits)
    labels = torch.tensor(data.draw(st.lists(st.booleans(), min_size=len(z), max_size=len(z)))).float()
    labels[:2] = torch.tensor([0.0, 1.0])
    calibration = fitted("binary", method, z[:, None], labels)
    scores = calibration.scores(z[:, None])
    ordered = scores[z.argsort()]
    assert (ordered.diff() >= -1e-15).all(), "a sigmoid of equal numbers may differ in the last bit"
    assert ((scores >= 0) & (scores <= 1)).all()
    if method == "isotonic":
        assert ((scores > 0) & (scores < 1)).all(), "a log loss of infinity otherwise"


def test_a_temperature_leaves_auc_and_the_likeliest_class() -> None:
    logits, labels = drawn("binary", 3000, 2.0)
    calibrated = Temperature.fit("binary", logits, labels).scores(logits)
    raw = torch.sigmoid(logits.double()).squeeze(1)
    for metric in ("auc", "pr_auc", "ks"):
        assert binary(labels, calibrated)[metric] == binary(labels, raw)[metric]
    logits, labels = drawn("multiclass", 3000, 2.0)
    calibrated = Temperature.fit("multiclass", logits, labels).scores(logits)
    assert torch.equal(calibrated.argmax(1), logits.argmax(1))


def test_a_shift_is_undone_by_isotonic_regression() -> None:
    """As class weights make one: no temperature can."""
    logits, labels = drawn("binary", 20_000, 1.0)
    isotonic, temperature = (
        binary(labels, fitted("binary", method, logits + 2, labels).scores(logits + 2))["ece"]
        for method in ("isotonic", "temperature")
    )
    assert isotonic < 0.01 < 0.1 < temperature


def test_the_curve_is_scikit_learns() -> None:
    logits, labels = drawn("binary", 500, 2.0)
    theirs = IsotonicRegression(out_of_bounds="clip").fit(logits[:, 0].double(), labels)
    new = torch.linspace(-20, 20, 999)[:, None]
    ours = Isotonic.fit("binary", logits, labels).scores(new)
    expected = np.clip(theirs.predict(new[:, 0].double()), 1 / 502, 501 / 502)
    assert ours.numpy() == pytest.approx(expected, abs=0.003)


@pytest.mark.parametrize(("task", "method"), PAIRS)
def test_what_is_kept_scores_alike(task: str, method: str) -> None:
    """Through JSON, float64 to the bit."""
    logits, labels = drawn(task, 200, 2.0)
    calibration = fitted(task, method, logits, labels)
    kept: Any = json.loads(json.dumps(asdict(calibration)))
    assert torch.equal(CALIBRATIONS[task][method](**kept).scores(logits), calibration.scores(logits))
