"""From labels and scores of the test rows to curves of some hundred points: of rows, not of any one row."""

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

POINTS: Final = 240
"""Of a curve, at most: as many as its chart has dots."""
ROWS: Final = 1_000_000
"""So many rows are looked at, evenly over the table: no eye sees more, and sorting more takes seconds."""
FEWEST: Final = 20
"""Rows behind each point that is a mean of its own rows."""


class Curve(NamedTuple):
    """x, y: float64 [n]."""

    x: Floats
    y: Floats


class Bins(NamedTuple):
    """Means of rows that lie together by their score, [bins]; low, high: about y. rows: in each."""

    x: Floats
    y: Floats
    low: Floats
    high: Floats
    rows: NDArray[np.int64]


def roc(truth: NDArray[np.generic], score: Floats) -> Curve:
    """False against true positive rate. truth: 0 or 1, of both at least one; so below."""
    from sklearn import metrics

    no, yes, _ = metrics.roc_curve(truth, score)
    return thinned(no, yes)


def precision(truth: NDArray[np.generic], score: Floats) -> Curve:
    """Recall against precision, where at least FEWEST rows are called a yes."""
    order = np.argsort(-score, kind="stable")
    hits, called = np.cumsum(truth[order]), np.arange(1, len(truth) + 1)
    last = np.append(np.diff(score[order]) != 0, True) & (called >= min(FEWEST, len(truth)))
    return thinned((hits / hits[-1])[last], (hits / called)[last])


def lift(truth: NDArray[np.generic], score: Floats) -> Curve:
    """Of the best-scored share of the rows, how many times as many are a yes as among all."""
    order = np.argsort(-score, kind="stable")
    called = np.unique(np.linspace(min(FEWEST, len(truth)), len(truth), 100).astype(np.int64))
    hits = np.cumsum(truth[order])[called - 1]
    return Curve(called / len(truth), (hits / called) / (hits[-1] / len(truth)))


def calibration(truth: NDArray[np.generic], score: Floats) -> Bins:
    """Mean score against the share of yes, of rows in equal parts by score; with 95 % Wilson intervals."""
    parts = _parts(score, 10)
    rows = np.array([len(part) for part in parts])
    share = np.array([truth[part].mean() for part in parts])
    z = 1.96
    middle = (share + z**2 / (2 * rows)) / (1 + z**2 / rows)
    half = z / (1 + z**2 / rows) * np.sqrt(share * (1 - share) / rows + z**2 / (4 * rows**2))
    return Bins(np.array([score[part].mean() for part in parts]), share, middle - half, middle + half, rows)


def predicted(truth: Floats, score: Floats) -> Bins:
    """Mean prediction against the mean true number; low, high: the middle 80 % of them."""
    parts = _parts(score, 20)
    low, high = (np.array([np.quantile(truth[part], at) for part in parts]) for at in (0.1, 0.9))
    x, y = (np.array([values[part].mean() for part in parts]) for values in (score, truth))
    return Bins(x, y, low, high, np.array([len(part) for part in parts]))


def residuals(truth: Floats, score: Floats) -> Curve:
    """How many of the middle 98 % of the errors are in each of some bins: their ends [n + 1], rows [n]."""
    error = score - truth
    low, high = np.quantile(error, (0.01, 0.99))
    bins = int(np.clip(len(error) // FEWEST, 3, 40))
    rows, ends = np.histogram(error, bins, (low, high) if low < high else (low - 1, low + 1))
    return Curve(ends, rows.astype(np.float64))


def sampled(rows: int) -> slice:
    """Which of so many rows are looked at."""
    return slice(None, None, -(-rows // ROWS) or 1)


def thinned(x: Floats, y: Floats) -> Curve:
    """At most POINTS of these, first and last among them, evenly along the curve."""
    if len(x) <= POINTS:
        return Curve(x, y)
    along = np.append(0.0, np.cumsum(np.abs(np.diff(x)) + np.abs(np.diff(y))))
    at = np.unique(np.searchsorted(along, np.linspace(0, along[-1], POINTS)).clip(0, len(x) - 1))
    at = np.unique([0, *at, len(x) - 1])[:POINTS]
    at[-1] = len(x) - 1
    return Curve(x[at], y[at])


def _parts(score: Floats, most: int) -> list[NDArray[np.int64]]:
    """Places of rows with scores that lie together, FEWEST or more in each; of fewer rows one part."""
    order = np.argsort(score, kind="stable")
    return np.array_split(order, int(np.clip(len(score) // FEWEST, 1, most)))
