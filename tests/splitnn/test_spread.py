"""Means over draws and groups, and how sure they are."""

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from splitnn.spread import DRAWS, GROUPS, Estimate, T, groups_of


def test_both_draws_and_groups_count() -> None:
    assert Estimate.of(np.full((DRAWS, GROUPS), 0.75)) == (0.75, 0.75, 0.75)
    by_draw = np.repeat(np.arange(10.0)[:, None], GROUPS, axis=1)
    half = T * math.sqrt(np.var(np.arange(10), ddof=1) / 10)
    for cells in (by_draw, by_draw.T):
        mean, low, high = Estimate.of(cells)
        assert np.allclose((mean, high - mean, mean - low), (4.5, half, half))
    both = Estimate.of(by_draw + by_draw.T)
    assert math.isclose(both.high - both.mean, half * math.sqrt(2))


def test_its_interval_holds_the_truth_nearly_always() -> None:
    """Of 95 % if errors come from draws and groups; of more where each cell has its own."""
    random, missed = np.random.default_rng(1), 0
    for _ in range(1000):
        draws, groups = random.normal(size=(DRAWS, 1)), random.normal(size=(1, GROUPS))
        found = Estimate.of(draws + groups + random.normal(size=(DRAWS, GROUPS)))
        missed += not found.low <= 0 <= found.high
    assert 5 <= missed <= 60


def test_what_cannot_be_measured_is_left_out() -> None:
    cells = np.full((DRAWS, GROUPS), 0.5)
    cells[0, 0] = math.nan
    cells[:, 3] = math.nan
    assert Estimate.of(cells) == (0.5, 0.5, 0.5)
    assert all(map(math.isnan, Estimate.of(np.full((DRAWS, GROUPS), math.nan))))


@given(st.lists(st.integers(0, 3), min_size=1, max_size=200), st.binary(max_size=4))
def test_groups_share_out_each_class(classes: list[int], seed: bytes) -> None:
    of = np.array(classes)
    groups = groups_of(of, seed)
    for one in {*classes}:
        counts = np.bincount(groups[of == one], minlength=GROUPS)
        assert counts.max() - counts.min() <= 1
