"""How much privacy Gaussian noise spends: Renyi differential privacy, and the epsilon that it comes to.

A release of a function of L2 sensitivity S with noise N(0, (z S)^2 I), z the noise multiplier, has at order
a > 1 the Renyi divergence a / (2 z^2) (Mironov 2017, "Renyi Differential Privacy", corollary 3); releases add
up (proposition 1). So all of them are one number, rho = sum of 1 / (2 z^2), of which order a spends a * rho:
that is rho-zCDP (Bun and Steinke 2016, definition 1.1). Who is in a batch is known to the peers: nothing is
gained by sampling.

Where opacus is installed, the tests compare with its accountant. It is no dependency: it brings 1,374 modules
and 114 MB into every process for the two formulas here.
"""

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

ORDERS: Final[NDArray[np.float64]] = np.array(
    [
        *(1 + 2.0**-power for power in range(16, 3, -1)),
        *(1 + tenth / 10 for tenth in range(1, 100)),
        *range(12, 64),
        *(2.0 ** (power / 8) for power in range(48, 192)),
    ]
)
"""At which the least epsilon is looked for: those of opacus, and beyond on both sides."""


def rho(noise_multiplier: float, releases: int) -> float:
    """What so many releases of one row spend. Infinite without noise, unless there is no release.

    Raises ValueError for a negative number.
    """
    if not noise_multiplier >= 0 or releases < 0:
        raise ValueError(f"no noise multiplier and releases: {noise_multiplier:g}, {releases}")
    if releases == 0:
        return 0.0
    squared = 2 * noise_multiplier**2
    return releases / squared if squared else math.inf


def epsilon(spent: float, delta: float) -> float:
    """The epsilon at this delta of what was spent, a sum of `rho`s.

    Canonne, Kamath and Steinke 2020, "The Discrete Gaussian for Differential Privacy", proposition 12 with
    corollary 13, the least over ORDERS. Raises ValueError unless 0 < delta < 1.
    """
    if not 0 < delta < 1:
        raise ValueError(f"delta must be above 0 and below 1, not {delta:g}")
    if spent == 0:
        return 0.0
    converted = np.log1p(-1 / ORDERS) - (math.log(delta) + np.log(ORDERS)) / (ORDERS - 1)
    return max(0.0, float((spent * ORDERS + converted).min()))
