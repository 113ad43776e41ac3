"""Random streams from SHAKE-256."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from splitnn.randomness import generator, normal, permutation, stable_argsort, uniform

seeds = st.binary(max_size=40)


@settings(deadline=None, max_examples=40)
@given(n=st.integers(0, 300), seed=seeds)
def test_a_permutation_is_one(n: int, seed: bytes) -> None:
    assert permutation(seed, "a", n).sort().values.tolist() == list(range(n))


@settings(deadline=None, max_examples=40)
@given(words=st.lists(st.integers(0, 20), max_size=300))
def test_equal_words_keep_their_order(words: list[int]) -> None:
    order = stable_argsort(np.array(words, dtype="<u8")).tolist()
    assert order == sorted(range(len(words)), key=lambda place: (words[place], place))


def test_purpose_and_seed_cannot_run_into_each_other() -> None:
    assert permutation(b"bc", "a", 50).tolist() != permutation(b"c", "ab", 50).tolist()


def test_uniform_fills_its_range() -> None:
    drawn = uniform(b"seed", "w", (200, 100), 0.25)
    assert drawn.dtype == torch.float32
    assert -0.25 <= drawn.min() < -0.249
    assert 0.249 < drawn.max() < 0.25
    assert abs(drawn.mean()) < 0.003
    assert drawn.std() == pytest.approx(0.25 / 3**0.5, rel=0.02)


@pytest.mark.parametrize("shape", [(0, 3), (1, 1), (3, 5), (400, 500)])
def test_normals(shape: tuple[int, int]) -> None:
    drawn = normal(b"seed", "n", shape)
    assert drawn.shape == shape
    assert drawn.dtype == torch.float32
    assert torch.equal(drawn, normal(b"seed", "n", shape))
    assert not drawn.numel() or not torch.equal(drawn, normal(b"seed", "m", shape))


def test_normals_are_normal() -> None:
    drawn = normal(b"seed", "n", (1000, 400)).double()
    n = drawn.numel()
    for power, moment, variance in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)):
        assert drawn.pow(power).mean().item() == pytest.approx(moment, abs=4 * (variance / n) ** 0.5)
    halves = drawn.flatten().reshape(2, -1)  # of one pair: the two were one radius and one angle
    assert abs((halves[0] * halves[1]).mean()) < 4 / n**0.5
    assert abs((halves[0] ** 2 * halves[1] ** 2).mean() - 1) < 4 * (8 / (n / 2)) ** 0.5
    for end in (0.5, 1.0, 2.0, 3.0, 4.0):
        share = (drawn.abs() > end).double().mean().item()
        expected = math.erfc(end / 2**0.5)
        assert share == pytest.approx(expected, abs=4 * (expected / n) ** 0.5)


def test_generators_of_two_purposes_differ() -> None:
    one, other = (torch.rand(5, generator=generator(b"seed", purpose)) for purpose in ("a", "b"))
    assert not torch.equal(one, other)
    assert torch.equal(one, torch.rand(5, generator=generator(b"seed", "a")))
