"""Every task: split training equals the reference, and its objective is what the page says."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from splitnn.errors import TrainingError
from splitnn.exact import LabelHolderResult
from splitnn.plan import Plan
from splitnn.tasks import TASKS, Labels, Objective

PAIRS = [(task, loss) for task, losses in TASKS.items() for loss in losses]
SMALL = Plan(b"public", cut=4, bottom_hidden=(8,), top_hidden=(8,), batch=32, epochs=3, dropout=0.3)
COLUMNS = [(3, (4,)), (2, (5, 6)), (4, ())]


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(("task", "loss"), PAIRS)
def test_parity(make: Any, task: str, loss: str, weighted: bool) -> None:
    federation = make.labelled(make.federation(400, COLUMNS), task, loss, weighted)
    plan = replace(SMALL, task=task, loss=loss)
    results = federation.split_training(plan).results
    make.assert_same(results, federation.reference(plan))
    hub = results["p0"]
    assert isinstance(hub, LabelHolderResult)
    assert hub.scores.shape == ((80, len(federation.labels.names)) if federation.labels.names else (80,))


@pytest.mark.parametrize(
    ("task", "loss", "metric", "least"),
    [
        ("binary", "cross-entropy", "auc", 0.9),
        ("multiclass", "cross-entropy", "accuracy", 0.7),
        ("multilabel", "cross-entropy", "conversion.auc", 0.9),
        ("regression", "squared", "r2", 0.8),
        ("regression", "huber", "r2", 0.8),
        ("regression", "poisson", "r2", 0.2),
    ],
)
def test_it_learns_whatever_the_unit_of_the_label(
    make: Any, task: str, loss: str, metric: str, least: float
) -> None:
    federation = make.labelled(make.federation(1500, [(3, ()), (2, ())]), task, loss)
    plan = Plan(b"public", task, loss, bottom_hidden=(16,), cut=8, learning_rate=0.01, batch=64, epochs=20)
    result = federation.reference(plan)
    assert result.objective.metrics(result.labels, result.scores)[metric] > least


def test_equal_weights_are_no_weights() -> None:
    y = torch.tensor([[0.0, 1.0], [1.0, 1.0], [0.0, 0.0]])
    logits = torch.randn(3, 2, generator=torch.Generator().manual_seed(0))
    for weights in (torch.full((3,), 7.0), torch.full((3, 2), 7.0)):
        weighed = Objective("multilabel", "cross-entropy", Labels(y, y, y, ("a", "b"), weights))
        plain = Objective("multilabel", "cross-entropy", Labels(y, y, y, ("a", "b")))
        torch.testing.assert_close(weighed.loss(logits, torch.arange(3)), plain.loss(logits, torch.arange(3)))


def test_a_weight_of_two_is_the_example_twice() -> None:
    random = torch.Generator().manual_seed(0)
    logits, y = torch.randn(4, 1, generator=random), torch.tensor([0.0, 1.0, 0.0, 1.0])
    twice = torch.tensor([0, 0, 1, 2, 3])
    weighed = Objective("binary", "cross-entropy", Labels(y, y, y, (), torch.tensor([2.0, 1, 1, 1])))
    plain = Objective("binary", "cross-entropy", Labels(y[twice], y, y))
    loss = weighed.loss(logits, torch.arange(4))
    torch.testing.assert_close(loss, plain.loss(logits[twice], torch.arange(5)))


def test_an_example_that_weighs_nothing_moves_nothing() -> None:
    y = torch.tensor([0.0, 1.0])
    objective = Objective("binary", "cross-entropy", Labels(y, y, y, (), torch.tensor([0.0, 3.0])))
    logits = torch.zeros(2, 1, requires_grad=True)
    objective.loss(logits, torch.arange(2)).backward()  # type: ignore[no-untyped-call]
    assert logits.grad is not None
    assert logits.grad[0] == 0
    assert objective.loss(logits[:1], torch.tensor([0])).item() == 0  # and a batch of it is no division by 0


def test_targets_weigh_the_same_however_their_examples_are_weighed() -> None:
    y = torch.tensor([[0.0, 1.0], [1.0, 0.0]])
    weights = torch.tensor([[1.0, 100.0], [1.0, 300.0]])
    objective = Objective("multilabel", "cross-entropy", Labels(y, y, y, ("a", "b"), weights))
    loss = objective.loss(torch.zeros(2, 2), torch.arange(2))
    torch.testing.assert_close(loss, torch.tensor(2.0).log())


@settings(deadline=None, max_examples=50)
@given(
    labels=st.lists(st.floats(0, 1e9, width=32), min_size=3, max_size=30).filter(
        lambda y: max(y) - min(y) > 1e-3
    ),
    loss=st.sampled_from([*TASKS["regression"]]),
    unit=st.sampled_from([1e-3, 1024.0]),
)
def test_the_unit_of_a_number_is_the_label_holders_own_affair(
    labels: list[float], loss: str, unit: float
) -> None:
    y = torch.tensor(labels, dtype=torch.float64)
    logits, every = torch.linspace(-2, 2, len(y))[:, None], torch.arange(len(y))
    one, other = (Objective("regression", loss, Labels(z, z, z)) for z in (y, y * unit))
    torch.testing.assert_close(one.loss(logits, every), other.loss(logits, every), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(one.scores(logits) * unit, other.scores(logits), rtol=1e-6, atol=0)


def test_huber_is_not_moved_far_by_one_absurd_label() -> None:
    y = torch.linspace(0, 1, 101, dtype=torch.float64)
    plain = Objective("regression", "huber", Labels(y, y, y))
    y = torch.cat((y, torch.tensor([1e9], dtype=torch.float64)))
    assert Objective("regression", "huber", Labels(y, y, y)).scale == pytest.approx(plain.scale, rel=0.05)


def test_huber_where_most_labels_are_equal() -> None:
    y = torch.tensor([0.0] * 9 + [5.0], dtype=torch.float64)
    assert Objective("regression", "huber", Labels(y, y, y)).scale == pytest.approx(1.5)


@pytest.mark.parametrize("part", ["train", "validation", "test"])
@pytest.mark.parametrize(("task", "loss"), PAIRS)
def test_labels_that_are_all_alike_end_it_before_any_step(make: Any, task: str, loss: str, part: str) -> None:
    federation = make.labelled(make.federation(200, COLUMNS), task, loss)
    alike = torch.ones_like(getattr(federation.labels, part))
    labels = replace(federation.labels, **{part: alike})
    with pytest.raises(TrainingError, match="have one"):
        Objective(task, loss, labels)


def test_weights_and_labels_that_cannot_be() -> None:
    y, nan = torch.tensor([0.0, 1.0]), torch.tensor([0.0, float("nan")])
    with pytest.raises(ValueError, match="label is not finite"):
        Labels(y, nan, y)
    with pytest.raises(ValueError, match="1 weights for 2"):
        Labels(y, y, y, (), torch.ones(1))
    for bad in (nan, torch.tensor([1.0, -1.0]), torch.tensor([1.0, float("inf")])):
        with pytest.raises(ValueError, match="weight is negative or not finite"):
            Labels(y, y, y, (), bad)
    with pytest.raises(ValueError, match="sum of the weights is infinite"):
        Labels(y, y, y, (), torch.full((2,), 1e308, dtype=torch.float64))
    with pytest.raises(TrainingError, match="weights of all training examples are 0"):
        Objective("binary", "cross-entropy", Labels(y, y, y, (), torch.zeros(2)))
    with pytest.raises(TrainingError, match="negative"):
        Objective("regression", "poisson", Labels(y - 1, y, y))


@pytest.mark.parametrize(
    ("task", "labels"),
    [
        ("binary", [0.0, 2.0]),
        ("binary", [[0.0], [1.0]]),
        ("binary", []),
        ("multiclass", [0, 2]),
        ("multiclass", [-1, 1]),
        ("multiclass", [0.0, 1.0]),
        ("multilabel", [[0.0, 1.0, 0.0], [1.0, 0.0, 0.0]]),
        ("multilabel", [0.0, 1.0]),
        ("regression", [[1.0], [2.0]]),
    ],
)
def test_labels_of_another_task_are_refused(task: str, labels: list[Any]) -> None:
    y, names = torch.tensor(labels), ("a", "b") if task.startswith("multi") else ()
    with pytest.raises(ValueError, match=f"not those of a {task} task"):
        Objective(task, next(iter(TASKS[task])), Labels(y, y, y, names))


def test_a_rate_beyond_floats_is_a_divergence(make: Any) -> None:
    federation = make.labelled(make.federation(200, COLUMNS), "regression", "poisson")
    plan = replace(SMALL, task="regression", loss="poisson", optimizer="sgd", learning_rate=90.0)
    with pytest.raises(TrainingError, match=r"not finite|diverged"):
        federation.split_training(plan)


@pytest.mark.parametrize(("task", "loss"), [("binary", "squared"), ("regression", "cross-entropy")])
def test_a_loss_that_does_not_fit_the_task(task: str, loss: str) -> None:
    with pytest.raises(ValueError, match="does not fit task"):
        Plan(b"", task, loss)


@pytest.mark.parametrize("logit", [float("inf"), float("-inf"), float("nan")])
def test_an_infinite_logit_is_no_score(logit: float) -> None:
    """Its probability would be finite: 0 or 1."""
    labels = torch.tensor([0.0, 1.0])
    objective = Objective("binary", "cross-entropy", Labels(labels, labels, labels))
    with pytest.raises(TrainingError, match="not finite"):
        objective.scores(torch.tensor([[0.0], [logit]]))
