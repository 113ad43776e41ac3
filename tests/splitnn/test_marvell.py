"""Marvell: the solver against a generic one, and noise of the covariance that it says."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from splitnn.marvell import Noise, Spread, evenly, noise_of, perturbed, solve, sum_kl
from splitnn.randomness import normal

SIZES = st.floats(-4, 4).map(lambda power: 10.0**power)
INSTANCES = st.fixed_dictionaries(
    {
        "u": SIZES,
        "v": SIZES,
        "gap": st.floats(-2, 2).map(lambda power: 10.0**power),
        "d": st.sampled_from([1, 2, 3, 8, 32]),
        "p": st.floats(0.01, 0.99),
        "power": st.floats(-3, 3).map(lambda power: 10.0**power),
    }
)


def generic(u: float, v: float, gap: float, d: int, p: float, power: float) -> float:
    """The least sum_kl that SciPy finds over all four variances, from several starts.

    In the logs of the four sums it is a convex program; the budget may be left unspent.
    """
    least = np.array([u, u, v, v])
    each = np.array([1 - p, (1 - p) * (d - 1), p, p * (d - 1)])

    def cost(logs: np.ndarray) -> tuple[float, np.ndarray]:
        x, z, y, w = np.exp(logs)
        value = ((d - 1) * (z / w + w / z) + (x + gap) / y + (y + gap) / x) / 2 - d
        across = (d - 1) * (z / w - w / z) / 2
        by = [(x / y - (y + gap) / x) / 2, across, (y / x - (x + gap) / y) / 2, -across]
        return value, np.array(by)

    constraints = [
        {
            "type": "ineq",
            "fun": lambda logs: 1 - each @ (np.exp(logs) - least) / power,
            "jac": lambda logs: -each * np.exp(logs) / power,
        },
        {"type": "ineq", "fun": lambda logs: logs[[0, 2]] - logs[[1, 3]], "jac": lambda _: ORDER},
    ]
    found = []
    for share in (0.0, 0.3, 0.99):
        start = np.log(least + share * power / (d * np.array([1 - p, 1 - p, p, p])) / 2)
        result = minimize(
            cost,
            start,
            jac=True,
            method="SLSQP",
            bounds=[(low, None) for low in np.log(least)],
            constraints=constraints,
            options={"ftol": 1e-13, "maxiter": 500},
        )
        spent = each @ (np.exp(result.x) - least)
        in_order = (result.x[[0, 2]] - result.x[[1, 3]]).min() > -1e-9
        if np.isfinite(result.fun) and spent <= power * (1 + 1e-7) and in_order:
            found.append(result.fun)
    return float(min(found, default=math.nan))


ORDER = np.array([[1.0, -1, 0, 0], [0, 0, 1, -1]])


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@settings(deadline=None, max_examples=200)
@given(INSTANCES)
def test_no_generic_solver_finds_less(case: dict[str, float]) -> None:
    spread = solve(**case)
    ours = sum_kl(case["u"], case["v"], case["gap"], case["d"], spread)
    theirs = generic(**case)
    if not math.isnan(theirs):
        assert ours <= theirs + 1e-6 * (1 + abs(theirs))


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_the_generic_solver_mostly_finds_as_little() -> None:
    """Or the comparison would say nothing."""
    random = np.random.default_rng(1)
    as_little = 0
    for _ in range(60):
        u, v, gap, power = (float(10 ** random.uniform(-2, 2)) for _ in range(4))
        d, p = int(random.choice([1, 2, 8, 32])), float(random.uniform(0.05, 0.95))
        ours = sum_kl(u, v, gap, d, solve(u, v, gap, d, p, power))
        as_little += generic(u, v, gap, d, p, power) == pytest.approx(ours, rel=1e-5, abs=1e-6)
    assert as_little >= 50


@settings(deadline=None)
@given(INSTANCES)
def test_the_budget_is_spent_and_the_constraints_hold(case: dict[str, float]) -> None:
    spread = solve(**case)
    d, p, power = int(case["d"]), case["p"], case["power"]
    scale = power + case["u"] + case["v"]
    assert spread.power(d, p) == pytest.approx(power, abs=1e-9 * scale)
    for along, across in ((spread.along_0, spread.across_0), (spread.along_1, spread.across_1)):
        assert along >= across >= 0
    assert min(spread.across_0, spread.across_1) == 0
    assert sum_kl(case["u"], case["v"], case["gap"], d, spread) >= -1e-9


@settings(deadline=None)
@given(INSTANCES, st.floats(1.01, 10))
def test_more_noise_hides_more(case: dict[str, float], more: float) -> None:
    def left(power: float) -> float:
        spread = solve(**(case | {"power": power}))
        return sum_kl(case["u"], case["v"], case["gap"], int(case["d"]), spread)

    less, rest = left(case["power"] * more), left(case["power"])
    assert less <= rest + 1e-9 * (1 + rest)


@settings(deadline=None)
@given(INSTANCES, st.floats(-8, 8).map(lambda power: 10.0**power))
def test_the_unit_does_not_matter(case: dict[str, float], unit: float) -> None:
    scaled = {name: case[name] * unit if name in ("u", "v", "gap", "power") else case[name] for name in case}
    ours = solve(**case)
    d, gap = int(case["d"]), case["gap"]
    theirs = Spread(*(part / unit for part in solve(**scaled)))
    assert sum_kl(case["u"], case["v"], gap, d, theirs) == pytest.approx(
        sum_kl(case["u"], case["v"], gap, d, ours), rel=1e-6, abs=1e-8
    )


def two_classes(seed: int, rows: int = 60, width: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(seed)
    positive = torch.rand(rows, generator=random) < 0.3
    positive[:2] = torch.tensor([False, True])
    gradient = torch.randn(rows, width, generator=random) * torch.where(positive, 0.5, 0.1)[:, None]
    return gradient + positive[:, None].float(), positive


@pytest.mark.parametrize("strength", [0.25, 4.0])
def test_a_batchs_noise_has_the_covariances_that_it_says(strength: float) -> None:
    gradient, positive = two_classes(1)
    noise = noise_of(gradient, positive, strength)
    assert noise is not None
    means = [gradient[positive == c].double().mean(0) for c in (False, True)]
    gap = (means[1] - means[0]).square().sum().item()
    assert torch.allclose(noise.direction, (means[1] - means[0]) / gap**0.5)
    assert noise.spread.power(4, positive.double().mean().item()) == pytest.approx(strength * gap, rel=1e-6)
    draws = normal(b"seed", "draws", (4_000, *gradient.shape))
    added = torch.stack([perturbed(gradient, positive, noise, each) for each in draws]) - gradient
    outer = torch.outer(noise.direction, noise.direction)
    for of, along, across in (
        (~positive, noise.spread.along_0, noise.spread.across_0),
        (positive, noise.spread.along_1, noise.spread.across_1),
    ):
        drawn = added[:, of].flatten(0, 1).double()
        expected = across * torch.eye(4).double() + (along - across) * outer
        assert torch.allclose(drawn.T @ drawn / len(drawn), expected, atol=0.03 * max(along, 1e-9))


def test_class_means_survive() -> None:
    """Noise has mean zero: training sees the same gradient on average."""
    gradient, positive = two_classes(2, rows=20_000)
    noise = noise_of(gradient, positive, 1.0)
    assert noise is not None
    drawn = perturbed(gradient, positive, noise, normal(b"seed", "draws", gradient.shape))
    assert torch.allclose(drawn.mean(0), gradient.mean(0), atol=0.05)


@pytest.mark.parametrize("scale", [1e-15, 1e-6, 1e6])
def test_gradients_of_any_size(scale: float) -> None:
    gradient, positive = two_classes(3)
    one, other = noise_of(gradient, positive, 1.0), noise_of(scale * gradient, positive, 1.0)
    assert one is not None
    assert other is not None
    assert other.sum_kl == pytest.approx(one.sum_kl, rel=1e-4)
    assert other.spread.along_1 == pytest.approx(scale**2 * one.spread.along_1, rel=1e-4)


def test_batches_that_tell_nothing() -> None:
    gradient, positive = two_classes(4)
    assert noise_of(gradient, torch.ones_like(positive), 1.0) is None
    assert noise_of(gradient, torch.zeros_like(positive), 1.0) is None
    assert noise_of(torch.zeros_like(gradient), positive, 1.0) is None
    single = torch.arange(len(positive)) == 5
    alone = noise_of(gradient, single, 1.0)
    assert alone is not None
    assert math.isfinite(alone.sum_kl)
    assert alone.spread.across_1 > 0, "the single row of its class gets the others' spread"


def test_before_any_batch_of_two_classes_the_noise_is_even() -> None:
    gradient, positive = two_classes(5)
    noise = evenly(gradient, 2.0)
    longest = gradient.double().square().sum(1).max()
    assert noise.spread.power(4, 0.5) == pytest.approx(2 * longest)
    drawn = normal(b"seed", "draws", gradient.shape)
    added = perturbed(gradient, positive, noise, drawn) - gradient
    assert torch.allclose(added, drawn * (longest / 2).sqrt().float(), atol=1e-5)
    assert isinstance(noise, Noise)
