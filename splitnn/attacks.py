"""What a feature holder could do to guess binary labels from the gradients it gets: two attacks, as AUC.

Both are of Li et al. 2022, "Label Leakage and Protection in Two-party Split Learning" (ICLR, section 3). The
norm attack orders rows by the 2-norm of their gradient, the cosine attack by the cosine to the gradient of
one row that is known to be positive. Nobody has to carry them out to know what they would find: the label
holder has the gradients and the labels.
"""

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Z: float = 1.959963984540054
"""The normal distribution's 97.5 % quantile: intervals are of 95 %."""
HIGH = 0.95
"""The quantile over batches that is reported, as the paper does."""


class Area(NamedTuple):
    """The area under one ROC curve. value: 0 to 1. pairs: of a positive and another row that were compared.

    variance: of `value` as an estimate; NaN where nobody asked.
    """

    value: float
    variance: float
    pairs: int

    @property
    def worst(self) -> float:
        """An attacker may order either way."""
        return max(self.value, 1 - self.value)


class Interval(NamedTuple):
    """A pooled AUC, the worse way round, and the ends of its 95 % confidence interval, from .5 to 1."""

    low: float
    value: float
    high: float


def norms(gradient: Tensor) -> Tensor:
    """The score of each row by the norm attack, float64 [b]. gradient: [b, d], as it leaves."""
    lengths: Tensor = torch.linalg.vector_norm(gradient, dim=1, dtype=torch.float64)
    return lengths


def known_row(clean: Tensor, positive: Tensor) -> int | None:
    """The row whose label the cosine attack knows: the first positive one (batches are in random order) whose
    gradient before any defence, clean [b, d], is not 0. None: there is no such row. positive: bool [b]."""
    for row in np.flatnonzero(positive.numpy()):  # the first of them, as a rule
        if clean[row].any():
            return int(row)
    return None


def cosines(gradient: Tensor, known: Tensor, lengths: Tensor | None = None) -> Tensor:
    """The score of each row by the cosine attack, float64 [b]; 0 for a row of zeros.

    gradient: [b, d], as it leaves. known: [d], not 0, of one positive row before any defence. lengths: what
    `norms` gives, if that is known already.
    """
    direction = known.double() / torch.linalg.vector_norm(known, dtype=torch.float64)
    lengths = norms(gradient) if lengths is None else lengths
    along: Tensor = (gradient @ direction.float()).double()
    return along.div_(lengths).nan_to_num_(0.0)


def auc(scores: Tensor, positive: Tensor, sure: bool = True) -> Area | None:
    """The share of (positive, other) pairs in which the positive row scores higher, ties counted half.

    None for rows of one class. scores: [n]. positive: bool [n]. sure: its variance is wanted. That is
    DeLong's (DeLong, DeLong and Clarke-Pearson 1988, "Comparing the Areas under Two or More Correlated ROC
    Curves"), by sorting as in Sun and Xu 2014, "Fast Implementation of DeLong's Algorithm". A class's single
    row tells nothing of it: then it is that of scores which tell nothing (Mann and Whitney 1947).
    """
    score, is_positive = scores.numpy(), positive.numpy()
    yes, no = np.sort(score[is_positive]), np.sort(score[~is_positive])
    if not len(yes) or not len(no):
        return None
    below, variance = _share_below(no, yes), math.nan
    if sure and min(len(yes), len(no)) == 1:
        variance = (len(yes) + len(no) + 1) / (12 * len(yes) * len(no))
    elif sure:
        above = 1 - _share_below(yes, no)
        variance = float(below.var(ddof=1) / len(yes) + above.var(ddof=1) / len(no))
    return Area(float(below.mean()), variance, len(yes) * len(no))


def pooled(areas: Iterable[Area]) -> Interval | None:
    """The AUC over several batches, and how sure it is. None where no batch tells.

    Pairs are compared within their batch only: scores of two batches are on two scales, as gradients shrink
    with the loss, and thrown together they would hide a leak. So it is the mean of the batches' AUC by their
    pairs. One way round for all batches: an attacker
    does not know which way each is.
    """
    known = [area for area in areas if not math.isnan(area.variance)]
    pairs = sum(area.pairs for area in known)
    if not pairs:
        return None
    value = sum(area.value * area.pairs for area in known) / pairs
    deviation = math.sqrt(sum(area.variance * area.pairs**2 for area in known)) / pairs
    worst = max(value, 1 - value)
    return Interval(max(0.5, worst - Z * deviation), worst, min(1.0, worst + Z * deviation))


def high(values: Sequence[float]) -> float:
    """The 95 % quantile, linear between two of the values."""
    return float(np.quantile(values, HIGH))


def _share_below(ordered: NDArray[np.float64], of: NDArray[np.float64]) -> NDArray[np.float64]:
    """Which share of `ordered` is below each of `of`; what is equal counts half."""
    places = np.searchsorted(ordered, of, "left") + np.searchsorted(ordered, of, "right")
    return places / (2 * len(ordered))
