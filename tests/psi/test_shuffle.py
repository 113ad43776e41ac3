"""Secret orders: every order, equally often, from the injected source."""

import itertools
import os
from collections import Counter

import numpy as np
import pytest

from psi.shuffle import permutation


@pytest.mark.parametrize("count", [0, 1, 2, 1000])
def test_it_is_a_permutation(count: int) -> None:
    assert sorted(permutation(count, os.urandom).tolist()) == list(range(count))


def test_every_order_is_equally_likely() -> None:
    drawn = Counter(tuple(permutation(3, os.urandom).tolist()) for _ in range(6000))
    assert set(drawn) == set(itertools.permutations(range(3)))
    assert all(abs(times - 1000) < 6 * 30 for times in drawn.values())  # 6 standard deviations


def test_equal_numbers_are_drawn_again() -> None:
    """Else the rows that got them would stay in the party's own order."""
    draws = iter([np.array([5, 1, 5], "<u8"), np.array([3, 9, 1], "<u8")])
    assert permutation(3, lambda size: next(draws).tobytes()).tolist() == [2, 0, 1]
