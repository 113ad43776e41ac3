"""Columns of numbers and truth values as features: fitted on training rows, applied to any."""

from dataclasses import dataclass
from statistics import NormalDist
from typing import Final

import numpy as np
from numpy.typing import NDArray

HEAVY_TAIL: Final = 1.0
"""Absolute skewness beyond which a column is replaced by its normal scores, if its owner says nothing."""
KNOTS: Final = 200
"""Quantiles kept of such a column."""
FARTHEST: Final = 8.0
"""Standard deviations; what lies beyond counts as that far, so that one odd value cannot swamp a batch."""
SMALLEST: Final = 1e-30
"""Numbers nearer to 0 count as 0: squares and quotients of their differences are no numbers any more."""
UNIT: Final = 0.1
"""Quantile of the magnitudes other than 0 from which on a log scale bends."""


@dataclass(frozen=True)
class Numeric:
    """value -> (value - mean) / deviation; missing -> 0, the mean.

    knots: empty for a linear scale. Otherwise the value is first replaced by its normal score, interpolated
    between `knots` (increasing) and their `scores`: the median becomes 0, and 97.5 % of rows are below 1.96.
    unit: 0, or of a log scale: the value is first replaced by log(1 + |value| / unit) with its sign.
    flagged: some values were missing at fit, so a column of its own says 1 where the value is missing. A
    column missing for the first time when scoring has no flag: the mean is all that the model knows.
    boolean: the values are truth values, and so read.
    """

    name: str
    knots: tuple[float, ...]
    scores: tuple[float, ...]
    mean: float
    deviation: float
    flagged: bool
    unit: float = 0.0
    boolean: bool = False

    @property
    def values(self) -> int:
        """How many numbers it makes of a cell, a flag not counted."""
        return 1

    @property
    def told(self) -> str:
        """For people."""
        scale = "log scale" if self.unit else "normal scores" if self.knots else "standardised"
        return f"{scale}, flag where missing" if self.flagged else scale

    def features(self, cells: NDArray[np.float64]) -> NDArray[np.float64]:
        """[n, values], finite. cells: [n], NaN where missing, else within LARGEST."""
        standard = (_on_scale(cells, self.knots, self.scores, self.unit) - self.mean) / self.deviation
        return np.nan_to_num(np.clip(standard, -FARTHEST, FARTHEST), nan=0.0)[:, None]


def fit_numeric(
    name: str, cells: NDArray[np.float64], scale: str | None = None, boolean: bool = False
) -> Numeric | None:
    """scale: a `parties.columns.Scale`; None: standard, or quantile where the skewness is beyond HEAVY_TAIL.
    None for a constant column."""
    present = _on_scale(cells[~np.isnan(cells)], (), (), 0.0)
    flagged = len(present) < len(cells)
    if not len(present) or (is_constant(present) and not flagged):
        return None
    knots: tuple[float, ...] = ()
    scores: tuple[float, ...] = ()
    unit = 0.0
    if scale == "log" and present.any():
        unit = float(np.quantile(np.abs(present[present != 0]), UNIT))
    elif not boolean and (scale == "quantile" or (scale is None and _heavy_tailed(present))):
        knots, scores = _normal_scores(present)
    if len(knots) < 2:  # all but a few rows are equal: their difference is all there is to keep
        knots, scores = (), ()
    scaled = _on_scale(present, knots, scores, unit)
    deviation = 1.0 if is_constant(scaled) else float(scaled.std())
    return Numeric(name, knots, scores, float(scaled.mean()), deviation, flagged, unit, boolean)


def is_constant(values: NDArray[np.float64]) -> bool:
    """Up to rounding: a deviation this small against the values is noise of the sum itself."""
    return bool(values.std() <= 1e-12 * np.abs(values).max())


def _on_scale(
    values: NDArray[np.float64], knots: tuple[float, ...], scores: tuple[float, ...], unit: float
) -> NDArray[np.float64]:
    values = np.where(np.abs(values) < SMALLEST, 0.0, values)
    if knots:
        return np.interp(values, knots, scores)
    if unit:
        return np.sign(values) * np.log1p(np.abs(values) / unit)
    return values


def _normal_scores(values: NDArray[np.float64]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """KNOTS quantiles, at ranks (i - 1/2) / KNOTS, and their scores; equal ones share their mean rank."""
    rank = (np.arange(KNOTS) + 0.5) / KNOTS
    knots, place, times = np.unique(np.quantile(values, rank), return_inverse=True, return_counts=True)
    mean_rank = np.bincount(place, weights=rank) / times
    return tuple(knots.tolist()), tuple(NormalDist().inv_cdf(share) for share in mean_rank)


def _heavy_tailed(values: NDArray[np.float64]) -> bool:
    if is_constant(values):
        return False
    standard = (values - values.mean()) / values.std()
    return bool(abs(np.mean(standard**3)) > HEAVY_TAIL)
