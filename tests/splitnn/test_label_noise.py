"""The label-blind defences: their moments, their directions, and nothing at strength 0."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from splitnn.label_noise import iso, max_norm
from splitnn.randomness import normal

ROWS = torch.tensor([[3.0, 4.0], [0.6, -0.8], [0.0, 0.0], [1e-20, 0.0]])
DRAWS = 40_000


MANY = ROWS.repeat(DRAWS, 1)
"""One batch with each row so often."""


def draws(width: int) -> torch.Tensor:
    return normal(b"seed", "draws", (len(MANY), width))


def each(rows: torch.Tensor) -> torch.Tensor:
    return rows.reshape(DRAWS, *ROWS.shape)


def test_max_norm_makes_all_rows_as_long_as_the_longest() -> None:
    mean = each(max_norm(MANY, 1.0, draws(1))).double().square().sum(2).mean(0)
    assert mean[0] == pytest.approx(25, rel=1e-6), "the longest is what it was"
    assert mean[1] == pytest.approx(25, rel=0.03)
    assert mean[2] == 0, "a row of zeros has no direction"
    assert mean[3] == pytest.approx(25, rel=0.03)


@pytest.mark.parametrize("strength", [0.3, 1.0])
def test_max_norm_draws_one_number_a_row_and_is_unbiased(strength: float) -> None:
    drawn = each(max_norm(MANY, strength, draws(1)))
    across = drawn[..., 0] * ROWS[:, 1] - drawn[..., 1] * ROWS[:, 0]
    assert across.abs().max() < 1e-4, "each row stays on its line"
    spread = strength * (25 - 1) ** 0.5
    assert torch.allclose(drawn[:, 1].mean(0), ROWS[1], atol=4 * spread / DRAWS**0.5)
    assert drawn[:, 1].double().square().sum(1).mean() == pytest.approx(1 + 24 * strength**2, rel=0.03)


@pytest.mark.parametrize("strength", [0.5, 4.0])
def test_iso_is_as_long_in_every_direction(strength: float) -> None:
    noise = each(iso(MANY, strength, draws(2)) - MANY).double()
    expected = strength * 5
    assert noise.square().sum(2).mean() == pytest.approx(expected**2, rel=0.01)
    covariance = torch.einsum("nri,nrj->ij", noise, noise) / (DRAWS * len(ROWS))
    assert torch.allclose(covariance, expected**2 / 2 * torch.eye(2).double(), atol=0.02 * expected**2)


@given(st.integers(1, 5), st.integers(1, 9), st.integers(0, 99))
def test_nothing_at_strength_0(rows: int, width: int, seed: int) -> None:
    gradient = torch.randn(rows, width, generator=torch.Generator().manual_seed(seed))
    gradient[0, 0] = -0.0
    for same in (
        max_norm(gradient, 0.0, torch.ones(rows, 1)),
        iso(gradient, 0.0, torch.ones(rows, width)),
    ):
        assert same.numpy().tobytes() == gradient.numpy().tobytes()


def test_gradients_of_zeros_stay() -> None:
    zeros = torch.zeros(3, 2)
    assert torch.equal(max_norm(zeros, 1.0, torch.ones(3, 1)), zeros)
    assert torch.equal(iso(zeros, 1.0, torch.ones(3, 2)), zeros)
