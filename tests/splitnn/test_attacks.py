"""The attacks: AUC as scikit-learn has it, intervals that cover, scores by their definitions."""

import math

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from splitnn.attacks import Area, auc, cosines, high, known_row, norms, pooled

SCORED = st.lists(st.tuples(st.integers(-4, 4), st.booleans()), min_size=2, max_size=40)


def tensors(rows: list[tuple[int, bool]]) -> tuple[torch.Tensor, torch.Tensor]:
    scores, positive = zip(*rows, strict=True)
    return torch.tensor(scores, dtype=torch.float64), torch.tensor(positive)


@given(SCORED)
def test_auc_is_that_of_scikit_learn(rows: list[tuple[int, bool]]) -> None:
    scores, positive = tensors(rows)
    area = auc(scores, positive)
    if positive.all() or not positive.any():
        assert area is None
        return
    assert area is not None
    assert area.value == pytest.approx(roc_auc_score(positive, scores), abs=1e-12)
    assert area.pairs == int(positive.sum()) * int((~positive).sum())


@given(SCORED)
def test_the_variance_is_delongs_by_its_definition(rows: list[tuple[int, bool]]) -> None:
    scores, positive = tensors(rows)
    yes, no = scores[positive], scores[~positive]
    assume(len(yes) > 1 and len(no) > 1)
    above = (yes[:, None] > no).double() + (yes[:, None] == no).double() / 2
    expected = above.mean(1).var() / len(yes) + above.mean(0).var() / len(no)
    area = auc(scores, positive)
    assert area is not None
    assert area.variance == pytest.approx(float(expected), abs=1e-12)


@given(SCORED)
def test_the_other_way_round_is_as_bad(rows: list[tuple[int, bool]]) -> None:
    scores, positive = tensors(rows)
    assume(0 < positive.sum() < len(positive))
    one, other = auc(scores, positive), auc(-scores, positive)
    assert one is not None
    assert other is not None
    assert one.worst == pytest.approx(other.worst, abs=1e-12)
    assert one.worst >= 0.5


def test_a_single_row_of_a_class_counts_as_scores_that_tell_nothing() -> None:
    """Its AUC with n others is uniform on the n + 1 multiples of 1 / n."""
    for others in (1, 2, 7):
        positive = torch.tensor([True] + [False] * others)
        area = auc(torch.arange(1.0 + others), positive)
        assert area is not None
        possible = torch.arange(1.0 + others, dtype=torch.float64) / others
        assert area.variance == pytest.approx(possible.var(correction=0).item())
        one, many = pooled([area]), pooled([area] * 20)
        assert one is not None
        assert many is not None
        assert one.value == many.value == 1
        assert one.low < 0.7
        assert many.low > 0.75


def test_what_nobody_asked_for_is_not_pooled() -> None:
    area = auc(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([True, False, False]), sure=False)
    assert area is not None
    assert math.isnan(area.variance)
    assert pooled([area]) is None
    assert pooled([]) is None
    sure = Area(0.7, 0.01, 10)
    assert pooled([area, sure]) == pooled([sure])


@pytest.mark.parametrize("shift", [0.0, 0.5, 2.0])
def test_the_interval_covers_the_truth(shift: float) -> None:
    """Normal scores: the true AUC is Phi(shift / sqrt 2). Batches lie on scales of their own."""
    truth = 0.5 * (1 + math.erf(shift / 2))
    random = np.random.default_rng(1)
    covered = 0
    for _ in range(400):
        areas = []
        for _ in range(5):
            positive = random.random(100) < 0.15
            scores = (random.standard_normal(100) + shift * positive) * 10.0 ** random.integers(-3, 3)
            area = auc(torch.from_numpy(scores), torch.from_numpy(positive))
            assert area is not None
            areas.append(area)
        interval = pooled(areas)
        assert interval is not None
        assert interval.low <= interval.value <= interval.high
        covered += interval.low <= truth <= interval.high
    assert 0.9 <= covered / 400 <= 0.99


@given(st.floats(1e-3, 1e3), st.integers(0, 1000))
def test_scores_by_their_definitions(scale: float, seed: int) -> None:
    random = torch.Generator().manual_seed(seed)
    gradient = torch.randn(7, 3, generator=random)
    gradient[2] = 0
    assert torch.allclose(norms(gradient), gradient.double().square().sum(1).sqrt())
    cosine = cosines(gradient, scale * gradient[0])
    assert cosine[0] == pytest.approx(1)
    assert cosine[2] == 0
    assert (cosine.abs() <= 1 + 1e-6).all()
    assert torch.allclose(cosine, cosines(scale * gradient, gradient[0]), atol=1e-6)


def test_tiny_gradients_are_told_apart() -> None:
    tiny = torch.tensor([[1e-30, 0.0], [2e-30, 1e-30]])
    assert norms(tiny)[0] < norms(tiny)[1]
    assert cosines(tiny, tiny[0])[1] == pytest.approx(2 / math.sqrt(5))


def test_the_known_row_is_positive_and_has_a_gradient() -> None:
    clean = torch.tensor([[1.0], [0.0], [3.0], [4.0]])
    positive = torch.tensor([False, True, True, True])
    assert known_row(clean, positive) == 2
    assert known_row(clean, torch.tensor([True, True, False, False])) == 0
    assert known_row(clean, torch.tensor([False, True, False, False])) is None


def test_one_class_has_gradients_that_give_it_away() -> None:
    """The logistic loss: a row's gradient by the cut is (p - y) times a direction."""
    random = torch.Generator().manual_seed(1)
    positive = torch.rand(500, generator=random) < 0.15
    chance = torch.full((500, 1), 0.15)
    gradient = (chance - positive[:, None].float()) * torch.ones(500, 8)
    for scores in (norms(gradient), cosines(gradient, gradient[known_row(gradient, positive)])):
        area = auc(scores, positive)
        assert area is not None
        assert area.worst == 1


def test_high_is_the_95_percent_quantile() -> None:
    assert high([0.5]) == 0.5
    assert high([float(x) for x in range(101)]) == pytest.approx(95)
