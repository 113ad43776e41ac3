"""What Gaussian noise spends: the closed form, published numbers, the exact curve, and opacus where it is."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq, minimize_scalar
from scipy.stats import norm

from splitnn.accountant import ORDERS, epsilon, rho

MULTIPLIERS = st.floats(0.3, 1000)
RELEASES = st.integers(1, 10_000)
DELTAS = st.sampled_from([1e-3, 1e-5, 1e-9])


def test_a_number_that_is_known() -> None:
    """Sigma 4 per clip is noise multiplier 2; opacus 1.6.0 says 8.079406222420491."""
    assert epsilon(rho(2, 10), 1e-5) == pytest.approx(8.079406222420491, abs=1e-9)
    assert epsilon(rho(4, 10), 1e-5) == pytest.approx(3.62, abs=0.01)  # what forgetting the 2 would report


def exact(z: float, releases: int, delta: float) -> float:
    """The least epsilon there is for so many (Balle and Wang 2018, theorem 8): together they are one Gaussian
    of sensitivity sqrt(releases) / z."""
    mu = math.sqrt(releases) / z

    def above(eps: float) -> float:
        return float(norm.cdf(mu / 2 - eps / mu) - math.exp(eps + norm.logcdf(-mu / 2 - eps / mu)) - delta)

    return float(brentq(above, 0, mu * mu / 2 + 10 * mu)) if above(0) > 0 else 0.0


@settings(deadline=None)
@given(st.floats(0.5, 1000), st.integers(1, 100), DELTAS)
def test_never_below_the_exact_curve_and_near_the_best_order(z: float, releases: int, delta: float) -> None:
    spent = rho(z, releases)
    told = epsilon(spent, delta)
    assert told >= exact(z, releases, delta) - 1e-9

    def at(order: float) -> float:
        return spent * order + math.log1p(-1 / order) - (math.log(delta) + math.log(order)) / (order - 1)

    best = minimize_scalar(lambda power: at(1 + math.exp(power)), bounds=(-10, 15), method="bounded").fun
    assert best - 1e-6 <= told <= max(1.03 * best, best + 1e-3)


@settings(deadline=None)
@given(MULTIPLIERS, RELEASES, DELTAS)
def test_monotone_and_additive(z: float, releases: int, delta: float) -> None:
    assert rho(z, releases) == pytest.approx(releases * rho(z, 1))
    assert epsilon(rho(z, releases), delta) <= epsilon(rho(z, releases + 1), delta)
    assert epsilon(rho(z, releases), delta) >= epsilon(rho(1.1 * z, releases), delta)
    assert epsilon(rho(z, releases), delta) >= epsilon(rho(z, releases), 2 * delta)


def test_the_ends() -> None:
    assert epsilon(rho(1, 0), 1e-5) == 0
    assert epsilon(rho(0, 0), 1e-5) == 0
    assert epsilon(rho(0, 1), 1e-5) == math.inf
    assert epsilon(rho(math.inf, 5), 1e-5) == 0
    for arguments in ((-1.0, 1), (math.nan, 1), (1.0, -1)):
        with pytest.raises(ValueError, match="no noise multiplier"):
            rho(*arguments)
    for delta in (0.0, 1.0, -1e-5, math.nan):
        with pytest.raises(ValueError, match="delta must be"):
            epsilon(1.0, delta)


@pytest.mark.parametrize("z", [0.5, 1.0, 2.0, 7.7, 50.0])
@pytest.mark.parametrize("releases", [1, 10, 300])
def test_opacus_says_the_same(z: float, releases: int) -> None:
    accountants = pytest.importorskip("opacus.accountants", reason="a check for who has opacus")
    accountant = accountants.RDPAccountant()
    accountant.history = [(z, 1.0, releases)]
    same = accountant.get_epsilon(1e-5, alphas=[*map(float, ORDERS)])
    assert epsilon(rho(z, releases), 1e-5) == pytest.approx(same, abs=1e-6)
    if z <= 7.7 and releases / z**2 < 100:  # where its own orders hold the best one
        default = accountant.get_epsilon(1e-5)
        assert epsilon(rho(z, releases), 1e-5) == pytest.approx(default, abs=1e-6)


def test_orders_rise() -> None:
    assert (np.diff(ORDERS) > 0).all()
    assert ORDERS[0] > 1
