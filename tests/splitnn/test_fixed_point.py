"""Activations as whole numbers: exact sums, the error that is claimed, and what does not fit."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from splitnn.fixed_point import FixedPoint
from splitnn.secure_sum import added

FORMATS = st.builds(
    FixedPoint, st.sampled_from([0.5, 1.0, 3.3, 32.0]), st.integers(4, 25), st.sampled_from([32, 64])
)


@settings(deadline=None)
@given(
    FORMATS,
    st.lists(st.lists(st.floats(-100, 100, width=32), min_size=3, max_size=3), min_size=1, max_size=6),
)
def test_a_sum_is_that_of_the_clipped_numbers_to_within_the_error(
    fixed: FixedPoint, rows: list[list[float]]
) -> None:
    parties = len(rows)
    assume(parties <= fixed.most_parties())
    total = added([fixed.words(torch.tensor([row])) for row in rows])
    exact = np.clip(np.array(rows), -fixed.bound, fixed.bound).sum(0)
    clipped = 2.0**-fixed.fraction  # where the bound is no multiple of the last bit
    error = np.abs(fixed.number(total, parties)[0].double().numpy() - exact)
    assert (error <= fixed.error(parties) + parties * clipped / 2 + np.abs(exact) * 2.0**-24).all()


@settings(deadline=None)
@given(st.lists(st.lists(st.integers(-(2**19), 2**19), min_size=2, max_size=2), min_size=1, max_size=8))
def test_sums_of_multiples_of_the_last_bit_are_exact(rows: list[list[int]]) -> None:
    fixed = FixedPoint(bound=2.0**9, fraction=10)
    numbers = [torch.tensor([row], dtype=torch.float64).div(2**10).float() for row in rows]
    total = fixed.number(added([fixed.words(number) for number in numbers]), len(rows))
    assert torch.equal(total, torch.stack(numbers).sum(0))


@settings(deadline=None)
@given(
    st.sampled_from([0.5, 1.0, 3.3, 2.0**20 / 3]),
    st.integers(0, 25),
    st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1, max_size=9),
)
def test_words_are_the_nearest_whole_numbers(bound: float, fraction: int, row: list[float]) -> None:
    """By doubles, which hold each product exactly; of 32 bits they are reckoned otherwise."""
    assume(1 <= int(bound * 2**fraction) < 2**31)
    fixed = FixedPoint(bound, fraction)
    found = fixed.words(torch.tensor([row])).view(np.int32)
    exact = np.rint(np.array([row]) * 2.0**fraction)
    assert found.tolist() == np.clip(exact, -fixed.largest, fixed.largest).tolist()
    assert (
        found.tolist() == FixedPoint(bound, fraction, 64).words(torch.tensor([row])).view(np.int64).tolist()
    )


def test_as_many_parties_as_fit_and_no_more() -> None:
    fixed = FixedPoint(bound=1.0, fraction=29)
    assert fixed.most_parties() == 3
    most = torch.full((1, 1), 1.0)
    assert fixed.number(added([fixed.words(most)] * 3), 3).item() == 3
    assert FixedPoint().most_parties() == 63


@pytest.mark.parametrize("far", [2.0**20, -(2.0**20)])
def test_what_is_beyond_the_bound_is_clipped_and_gets_no_gradient(far: float) -> None:
    fixed = FixedPoint(bound=4.0)
    activation = torch.tensor([[far, 1.0]], requires_grad=True)
    assert fixed.number(fixed.words(activation), 1).tolist() == [[np.sign(far) * 4, 1]]
    fixed.clip(activation).sum().backward()
    assert activation.grad is not None
    assert activation.grad.tolist() == [[0, 1]]


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_what_is_no_number_is_refused(number: float) -> None:
    with pytest.raises(ValueError, match="NaN or infinity"):
        FixedPoint().words(torch.tensor([[1.0, number]]))


def test_a_sum_that_cannot_be_is_refused() -> None:
    fixed = FixedPoint(bound=1.0, fraction=8)
    assert fixed.number(np.array([512], "<u4"), 2).item() == 2
    for word in (513, 2**31, 2**32 - 513):
        with pytest.raises(ValueError, match="beyond 2 x 1"):
            fixed.number(np.array([word], "<u4"), 2)


@pytest.mark.parametrize(
    "wrong",
    [
        {"modulus": 16},
        {"fraction": -1},
        {"fraction": 53},
        {"bound": 0.0},
        {"bound": -1.0},
        {"bound": float("nan")},
        {"bound": float("inf")},
        {"bound": 2.0**-21},
        {"bound": 2.0**40, "fraction": 20},
    ],
)
def test_impossible_formats_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"^(modulus|fraction|bound) "):
        FixedPoint(**wrong)
