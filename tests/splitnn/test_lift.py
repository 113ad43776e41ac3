"""Lifts and their intervals: what each resample measures, and how often an interval has the truth in it."""

import math
from statistics import NormalDist
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score
from torch import Tensor

from parties.summary import HEADLINES
from splitnn import lift, metrics, ranking
from splitnn.lift import FALLING, METRICS, Lift, lifts
from splitnn.tasks import TASKS

NAMES = ("a", "b", "c")


def rows(task: str, n: int, draw: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Labels and scores with ties among them."""
    if task == "binary":
        return torch.from_numpy(draw.integers(0, 2, n).astype("f4")), torch.from_numpy(
            draw.integers(0, 6, n).astype("f4") / 5
        )
    if task == "multilabel":
        labels = torch.from_numpy(draw.integers(0, 2, (n, 3)).astype("f4"))
        return labels, torch.from_numpy(draw.integers(0, 6, (n, 3)).astype("f4") / 5)
    if task == "multiclass":
        shares = torch.from_numpy(draw.dirichlet(np.ones(3), n).astype("f4"))
        return torch.from_numpy(draw.integers(0, 3, n)), shares
    return torch.from_numpy(draw.normal(size=n)), torch.from_numpy(draw.normal(size=n))


@settings(deadline=None, max_examples=60)
@given(st.sampled_from([*TASKS]), st.integers(4, 40), st.integers(0, 1 << 30))
def test_a_resample_is_measured_as_if_its_rows_were_there(task: str, n: int, seed: int) -> None:
    """By scikit-learn, on rows repeated as often as they were drawn."""
    draw = np.random.default_rng(seed)
    labels, scores = rows(task, n, draw)
    counts = np.bincount(draw.integers(0, n, n), minlength=n)
    again = torch.from_numpy(counts)
    repeated = labels.repeat_interleave(again, 0), scores.repeat_interleave(again, 0)
    names = NAMES if task in ("multilabel", "multiclass") else ()
    found = {
        name: metric(counts.astype(float))
        for name, metric in METRICS[task](labels.numpy(), scores, names).items()
    }
    assert [*found] == [*HEADLINES[task]]
    try:
        expected = getattr(metrics, task)(*repeated, names)
    except metrics.TrainingError:
        assert any(math.isnan(value) for value in found.values()) or task == "multiclass"
        return
    for name, value in found.items():
        assert value == pytest.approx(expected[name], rel=1e-9, abs=1e-12), name


def binormal(
    n: int, with_it: float, without: float, draw: np.random.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """Labels, and two scores that share half of their noise: of the true AUC, `auc_of` each."""
    truth = draw.random(n) < 0.3
    shared, one, other = draw.normal(size=(3, n))
    scores = [
        1 / (1 + np.exp(-(gap * truth + (shared + own) / math.sqrt(2))))
        for gap, own in ((with_it, one), (without, other))
    ]
    return torch.from_numpy(truth.astype("f4")), *map(torch.from_numpy, scores)


def auc_of(gap: float) -> float:
    return NormalDist().cdf(gap / math.sqrt(2))


def auc(
    labels: Tensor, scores: Tensor, without: Tensor, seed: bytes = b"seed", users: Tensor | None = None
) -> Any:
    return lifts("binary", labels, scores, {"x": without}, (), seed, users)["x"]["auc"]


@pytest.mark.parametrize("gap", [0.7, 1.0], ids=["a partner that helps", "a partner that is noise"])
def test_intervals_have_the_truth_in_them(gap: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """95 % of them; of 120, fewer than 107 in one case of 1,000. docs/contribution.md has more trials."""
    monkeypatch.setattr(lift, "RESAMPLES", 200)
    monkeypatch.setattr(lift, "FEWEST", 100)
    draw, truth = np.random.default_rng(1), auc_of(1.0) - auc_of(gap)
    found = [auc(*binormal(400, 1.0, gap, draw), seed=bytes([trial])) for trial in range(120)]
    assert sum(one.low <= truth <= one.high for one in found) >= 107
    assert sum(one.low <= one.lift <= one.high for one in found) >= 118


def test_it_is_as_wide_as_delong_says() -> None:
    labels, scores, without = binormal(3000, 1.2, 0.8, np.random.default_rng(2))
    found = auc(labels, scores, without)
    yes = labels.numpy() == 1
    assert found.value == pytest.approx(roc_auc_score(yes, scores.numpy()))
    assert found.without == pytest.approx(roc_auc_score(yes, without.numpy()))
    wide = 2 * 1.96 * delong(yes, scores.numpy(), without.numpy())
    assert found.high - found.low == pytest.approx(wide, rel=0.08)
    assert found.low < auc_of(1.2) - auc_of(0.8) < found.high


def delong(yes: NDArray[np.bool_], scores: NDArray[Any], without: NDArray[Any]) -> float:
    """Standard error of the difference of two AUCs (DeLong et al. 1988)."""
    parts = []
    for one in (scores, without):
        above = one[yes][:, None] > one[~yes]
        parts.append((above.mean(1), above.mean(0)))
    (p1, n1), (p0, n0) = parts
    return math.sqrt((p1 - p0).var(ddof=1) / yes.sum() + (n1 - n0).var(ddof=1) / (~yes).sum())


def test_users_are_drawn_and_not_their_rows() -> None:
    """Each row thrice is no more than each row once, where it is known whose they are."""
    labels, *both = binormal(300, 1.0, 0.5, np.random.default_rng(3))
    once = lifts("binary", labels, both[0], {"x": both[1]}, (), b"seed")["x"]
    users = (
        torch.randperm(300, generator=torch.Generator().manual_seed(1)).sort().values.repeat_interleave(3) * 7
    )
    thrice = [part.repeat_interleave(3) for part in (labels, *both)]
    known = lifts("binary", thrice[0], thrice[1], {"x": thrice[2]}, (), b"seed", users)["x"]
    for metric, one in known.items():
        assert one == pytest.approx(once[metric], abs=1e-9)
    taken = lifts("binary", thrice[0], thrice[1], {"x": thrice[2]}, (), b"seed")["x"]["auc"]
    width = taken.high - taken.low  # type: ignore[operator]
    assert width == pytest.approx((once["auc"].high - once["auc"].low) / math.sqrt(3), rel=0.15)  # type: ignore[operator]


@settings(deadline=None, max_examples=30)
@given(st.integers(2, 12), st.integers(0, 1 << 30))
def test_lists_are_drawn_with_their_user(people: int, seed: int) -> None:
    """Each of a user's two lists is there as often as he was drawn, and each time as a list of its own."""
    draw = np.random.default_rng(seed)
    labels, scores = rows("binary", 6 * people, draw)
    lists = torch.arange(6 * people) // 3
    found = lift._ranked(labels, scores, lists, 2)
    often = draw.integers(0, 3, people)
    copies = [(row, copy) for row in range(6 * people) for copy in range(often[row // 6])]
    taken = torch.tensor([row for row, _ in copies], dtype=torch.int64)
    apart = torch.tensor([3 * int(lists[row]) + copy for row, copy in copies], dtype=torch.int64)
    expected = ranking.binary(labels[taken], scores[taken], apart, 2) if copies else {}
    values = {name: metric(often.repeat(6).astype(float)) for name, metric in found.items()}
    assert {name: value for name, value in values.items() if not math.isnan(value)} == pytest.approx(expected)


def test_lists_of_several_users_are_not_judged() -> None:
    labels, scores = rows("binary", 60, np.random.default_rng(6))
    users, lists = torch.arange(60) // 6, torch.arange(60) // 3

    def told(users: Tensor | None, lists: Tensor | None) -> set[str]:
        return {*lifts("binary", labels, scores, {"x": 1 - scores}, (), b"seed", users, lists, 2)["x"]}

    assert told(users, lists) == {"auc", "log_loss", "gauc", "ndcg@2"}
    assert told(users, torch.arange(60) // 7) == told(None, lists) == told(users, None) == {"auc", "log_loss"}


def test_what_does_not_matter() -> None:
    """No rising function of the scores changes an AUC, nor does the order of the rows by much."""
    labels, scores, without = binormal(500, 1.0, 0.6, np.random.default_rng(4))
    found = auc(labels, scores, without)
    assert found == pytest.approx(auc(labels, scores**3, without.sqrt()))
    assert auc(labels, scores, scores) == Lift(found.value, found.value, 0.0, 0.0, 0.0)
    assert auc(labels, scores, without) == found
    assert auc(labels, scores, without, b"another") != found


@pytest.mark.parametrize("task", [*TASKS])
def test_positive_is_better_and_the_other_way_round_is_its_negative(task: str) -> None:
    draw = np.random.default_rng(5)
    labels, scores = rows(task, 200, draw)
    names = NAMES if task in ("multilabel", "multiclass") else ()
    other = rows(task, 200, draw)[1]
    there = lifts(task, labels, scores, {"x": other}, names, b"seed")["x"]
    back = lifts(task, labels, other, {"x": scores}, names, b"seed")["x"]
    for name, one in there.items():
        sign = -1 if name in FALLING else 1
        assert one.lift == pytest.approx(sign * (one.value - one.without))
        assert one.low is not None
        assert one.high is not None
        assert one.low < one.high
        assert [-one.lift, -one.high, -one.low] == pytest.approx([*back[name][2:]])


def test_of_too_few_rows_there_is_no_interval() -> None:
    """One yes among five rows is in two resamples of three; each of three rows in two of nine."""
    labels, scores = torch.tensor([1.0, 0, 0, 0, 0]), torch.tensor([0.9, 0.1, 0.2, 0.3, 0.4])
    assert auc(labels, scores, 1 - scores)[2:] == (1.0, 1.0, 1.0)
    each = torch.eye(3)
    found = lifts("multilabel", each, each, {"x": 1 - each}, NAMES, b"seed")["x"]["auc"]
    assert found == Lift(1.0, 0.0, 1.0, None, None)
