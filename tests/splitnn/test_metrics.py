"""The metrics of each task."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import f1_score, roc_auc_score

from splitnn.errors import TrainingError
from splitnn.metrics import binary, counts, multiclass, multilabel, regression


def test_binary() -> None:
    labels, scores = torch.tensor([0.0, 0.0, 1.0, 1.0]), torch.tensor([0.1, 0.6, 0.4, 0.9])
    measured = binary(labels, scores)
    assert measured["auc"] == roc_auc_score(labels, scores) == 0.75
    assert measured["pr_auc"] == pytest.approx((1 + 2 / 3) / 2)
    assert measured["ks"] == 0.5
    assert measured["accuracy"] == 0.5
    assert measured["brier"] == pytest.approx((0.01 + 0.36 + 0.36 + 0.01) / 4, rel=1e-6)
    assert measured["log_loss"] == pytest.approx(-math.log(0.9 * 0.4) / 2, rel=1e-6)
    assert measured["ece"] == pytest.approx((0.1 + 0.6 + 0.6 + 0.1) / 4, rel=1e-6)
    assert set(measured) == {"auc", "pr_auc", "ks", "log_loss", "brier", "ece", "accuracy"}


@settings(deadline=None, max_examples=50)
@given(
    st.lists(st.tuples(st.booleans(), st.floats(0, 1, width=32)), min_size=2, max_size=60).filter(
        lambda rows: len({yes for yes, _ in rows}) == 2
    )
)
def test_ks_and_ece_by_their_definitions(rows: list[tuple[bool, float]]) -> None:
    labels, scores = torch.tensor([float(yes) for yes, _ in rows]), torch.tensor([score for _, score in rows])
    measured = binary(labels, scores)
    truth, score = labels.numpy(), scores.numpy().astype(np.float64)
    apart = [abs((score[truth == 1] <= at).mean() - (score[truth == 0] <= at).mean()) for at in score]
    assert measured["ks"] == pytest.approx(max(apart))
    bins = np.minimum(np.floor(score * 15), 14)
    gaps = [len(score[bins == b]) * abs((truth - score)[bins == b].mean()) for b in np.unique(bins)]
    assert measured["ece"] == pytest.approx(sum(gaps) / len(rows))


def test_several_classes() -> None:
    labels = torch.tensor([0, 0, 2, 2])  # class 1 occurs in training only
    scores = torch.tensor([[0.7, 0.2, 0.1], [0.3, 0.1, 0.6], [0.1, 0.8, 0.1], [0.2, 0.2, 0.6]])
    measured = multiclass(labels, scores, ("a", "b", "c"))
    assert measured["accuracy"] == 0.5
    assert measured["macro_f1"] == pytest.approx(f1_score(labels, [0, 2, 1, 2], average="macro"))
    assert measured["log_loss"] == pytest.approx(-math.log(0.7 * 0.3 * 0.1 * 0.6) / 4, rel=1e-6)
    squares = [0.3**2 + 0.2**2 + 0.1**2, 0.7**2 + 0.1**2 + 0.6**2, 0.1**2 + 0.8**2 + 0.9**2]
    assert measured["brier"] == pytest.approx((sum(squares) + 0.2**2 + 0.2**2 + 0.4**2) / 4, rel=1e-6)
    each = [roc_auc_score(labels == place, scores[:, place]) for place in (0, 2)]
    assert measured["auc"] == pytest.approx(sum(each) / 2)
    # bins of the likeliest class: .6 twice (one right), .7 (right), .8 (wrong)
    assert measured["ece"] == pytest.approx((abs(1 - 1.2) + 0.3 + 0.8) / 4, rel=1e-6)
    expected = {"auc", "pr_auc", "log_loss", "brier", "ece", "accuracy", "macro_f1"}
    assert set(measured) == expected


def test_probabilities_that_sum_to_one_as_float32_does() -> None:
    scores = torch.softmax(torch.randn(500, 97, generator=torch.Generator().manual_seed(0)), 1)
    assert multiclass(torch.arange(500) % 97, scores, [str(i) for i in range(97)])["log_loss"] > 0


def test_several_targets_are_told_together_and_one_by_one() -> None:
    labels = torch.tensor([[0.0, 1.0], [0.0, 0.0], [1.0, 0.0]])
    scores = torch.tensor([[0.1, 0.2], [0.2, 0.7], [0.9, 0.1]])
    measured = multilabel(labels, scores, ("click", "conversion"))
    for place, name in enumerate(("click", "conversion")):
        for metric, value in binary(labels[:, place], scores[:, place]).items():
            assert measured[f"{name}.{metric}"] == value
    assert measured["auc"] == (measured["click.auc"] + measured["conversion.auc"]) / 2


def test_numbers() -> None:
    labels = torch.tensor([1.0, 2.0, 6.0], dtype=torch.float64)
    scores = torch.tensor([2.0, 2.0, 3.0], dtype=torch.float64)
    measured = regression(labels, scores)
    assert measured["rmse"] == pytest.approx(math.sqrt(10 / 3))
    assert measured["mae"] == pytest.approx(4 / 3)
    assert measured["r2"] == pytest.approx(1 - 10 / 14)
    deviance = 2 * (math.log(0.5) + 1 + 0 + 6 * math.log(2) - 3) / 3
    assert counts(labels, scores) == measured | {"deviance": pytest.approx(deviance)}


def test_a_rate_that_underflowed_has_a_deviance() -> None:
    labels = torch.tensor([0.0, 3.0], dtype=torch.float64)
    assert math.isfinite(counts(labels, torch.zeros(2, dtype=torch.float64))["deviance"])


@pytest.mark.parametrize("label", [0.0, 1.0])
def test_one_class_is_a_typed_error(label: float) -> None:
    with pytest.raises(TrainingError, match="one class"):
        binary(torch.full((5,), label), torch.rand(5))


def test_one_class_of_a_target_is_a_typed_error_that_names_it() -> None:
    with pytest.raises(TrainingError, match="one class of 'conversion'"):
        multilabel(torch.tensor([[0.0, 1.0], [1.0, 1.0]]), torch.rand(2, 2), ("click", "conversion"))


def test_one_number_is_a_typed_error() -> None:
    with pytest.raises(TrainingError, match="one value"):
        regression(torch.full((5,), 3.5), torch.rand(5))


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_scores_that_are_not_finite_are_a_typed_error(bad: float) -> None:
    scores = torch.tensor([0.5, bad])
    with pytest.raises(TrainingError, match="finite"):
        binary(torch.tensor([0.0, 1.0]), scores)
    with pytest.raises(TrainingError, match="finite"):
        multiclass(torch.tensor([0, 1]), torch.stack((scores, scores), 1), ("a", "b"))
    with pytest.raises(TrainingError, match="finite"):
        multilabel(torch.eye(2), torch.stack((scores, scores), 1), ("a", "b"))
    with pytest.raises(TrainingError, match="finite"):
        counts(torch.tensor([0.0, 1.0]), scores)


def test_one_metric_alone_is_the_same_number() -> None:
    random = torch.Generator().manual_seed(1)
    labels, scores = (
        torch.randint(0, 2, (50, 3), generator=random).float(),
        torch.rand(50, 3, generator=random),
    )
    names = ("a", "b", "c")
    for metrics, truth, told in [
        (binary, labels[:, 0], scores[:, 0]),
        (multiclass, labels.argmax(1), scores.softmax(1)),
        (multilabel, labels, scores),
        (regression, scores[:, 0].double(), scores[:, 1]),
        (counts, labels[:, 0], scores[:, 1]),
    ]:
        every = metrics(truth, told, names)
        for name in (name for name in every if "." not in name):
            alone = metrics(truth, told, names, name)
            assert name in alone
            assert alone.items() < every.items()
