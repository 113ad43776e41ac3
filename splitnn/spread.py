"""How sure a figure is that was measured over several draws of what an attacker knows, on groups of users.

A figure depends on which rows were drawn and on which users it is measured, so both are varied: cell [d, g]
is draw d on group g. The variance of the mean is that of the draws' means plus that of the groups' means, as
for errors that are alike within both (Cameron, Gelbach and Miller 2011, "Robust Inference With Multiway
Clustering", equation 2.5, without its last term: so it is too large rather than too small).
"""

import math
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from splitnn.randomness import permutation

DRAWS: Final = 10
GROUPS: Final = 10
T: Final = 2.262
"""97.5 % quantile of Student's t with 9 degrees of freedom."""


class Estimate(NamedTuple):
    """A mean, and its 95 % interval."""

    mean: float
    low: float
    high: float

    @classmethod
    def of(cls, cells: NDArray[np.float64]) -> "Estimate":
        """cells: [DRAWS, GROUPS]; NaN where a draw has left a group nothing to measure."""
        cells = cells[:, ~np.isnan(cells).all(0)]
        if not cells.size:
            return cls(math.nan, math.nan, math.nan)
        means = (np.nanmean(cells, axis=1), np.nanmean(cells, axis=0))
        half = T * math.sqrt(sum(float(each.var(ddof=1)) / len(each) for each in means))
        mean = float(np.nanmean(cells))
        return cls(mean, mean - half, mean + half)


def groups_of(classes: NDArray[np.int64], seed: bytes) -> NDArray[np.int64]:
    """The group of each row, int64 [n]: at random, each class shared out evenly."""
    order = permutation(seed, "groups", len(classes)).numpy()
    order = order[np.argsort(classes[order], kind="stable")]
    found = np.empty(len(classes), dtype=np.int64)
    found[order] = np.arange(len(classes)) % GROUPS
    return found
