"""Plans, features and metrics refuse what cannot be trained or judged."""

import math
from typing import Any

import pytest
import torch
from sklearn.metrics import roc_auc_score

from splitnn.errors import TrainingError
from splitnn.features import Features
from splitnn.metrics import binary
from splitnn.plan import Plan
from splitnn.stopping import judge


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("task", "ranking"),
        ("optimizer", "lbfgs"),
        ("cut", 0),
        ("batch", 0),
        ("epochs", 0),
        ("patience", 0),
        ("bottom_hidden", (8, 0)),
        ("top_hidden", (-1,)),
        ("dropout", 1.0),
        ("dropout", -0.1),
        ("learning_rate", 0.0),
        ("learning_rate", float("nan")),
        ("weight_decay", -1.0),
    ],
)
def test_a_plan_that_cannot_be_trained_is_refused(field: str, value: Any) -> None:
    with pytest.raises(ValueError, match=field.split("_")[-1] if field.endswith("hidden") else field):
        Plan(b"", **{field: value})


CODES = torch.tensor([[0], [2]])


@pytest.mark.parametrize(
    ("numeric", "categorical", "levels"),
    [
        (torch.zeros(2, 1, dtype=torch.float64), CODES, (3,)),
        (torch.zeros(2, 1), CODES.int(), (3,)),
        (torch.zeros(2), CODES, (3,)),
        (torch.zeros(3, 1), CODES, (3,)),
        (torch.zeros(2, 1), CODES, (3, 3)),
        (torch.zeros(2, 1), CODES, (2,)),
        (torch.zeros(2, 1), CODES - 1, (3,)),
        (torch.tensor([[0.0], [float("nan")]]), CODES, (3,)),
        (torch.tensor([[0.0], [float("inf")]]), CODES, (3,)),
    ],
)
def test_features_that_no_model_takes_are_refused(
    numeric: torch.Tensor, categorical: torch.Tensor, levels: tuple[int, ...]
) -> None:
    with pytest.raises(ValueError, match=r"feature|categorical"):
        Features(numeric, categorical, levels)


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


def test_early_stopping_keeps_the_first_best_epoch() -> None:
    plan = Plan(b"", patience=2)
    better, worse = {"auc": 0.7}, {"auc": 0.6}
    assert judge(plan, [worse]) == (True, False)
    assert judge(plan, [worse, better]) == (True, False)
    assert judge(plan, [worse, better, better]) == (False, False)
    assert judge(plan, [worse, better, better, worse]) == (False, True)
