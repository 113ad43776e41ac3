"""Metrics of binary classification."""

import math

import pytest
import torch
from sklearn.metrics import roc_auc_score

from splitnn.errors import TrainingError
from splitnn.metrics import binary


def test_metrics_are_what_people_expect() -> None:
    labels, scores = torch.tensor([0.0, 0.0, 1.0, 1.0]), torch.tensor([0.1, 0.6, 0.4, 0.9])
    measured = binary(labels, scores)
    assert measured["auc"] == roc_auc_score(labels, scores) == 0.75
    assert measured["accuracy"] == 0.5
    assert measured["brier"] == pytest.approx((0.01 + 0.36 + 0.36 + 0.01) / 4, rel=1e-6)
    assert measured["log_loss"] == pytest.approx(-math.log(0.9 * 0.4) / 2, rel=1e-6)
    assert set(measured) == {"auc", "pr_auc", "log_loss", "brier", "accuracy"}


@pytest.mark.parametrize("label", [0.0, 1.0])
def test_one_class_is_a_typed_error(label: float) -> None:
    with pytest.raises(TrainingError, match="one class"):
        binary(torch.full((5,), label), torch.rand(5))


def test_scores_that_are_not_finite_are_a_typed_error() -> None:
    with pytest.raises(TrainingError, match="finite"):
        binary(torch.tensor([0.0, 1.0]), torch.tensor([0.5, float("nan")]))
