"""Noise that hides a binary label in the gradients at the cut, as well as so much noise can: Marvell.

Li et al. 2022, "Label Leakage and Protection in Two-party Split Learning" (ICLR, section 4.2 and theorem 3).
Clean gradients of class 0 and 1 are taken for N(g0, u I) and N(g1, v I); D = g1 - g0, gap = |D|^2, d is their
width, p the share of class 1. Class c gets noise of covariance across_c I + (along_c - across_c) D D^T / gap.
Of all such noise with the mean square strength * gap it is the one by which the classes' perturbed gradients
differ least, by the sum of the two Kullback-Leibler divergences between them,

    sum_kl = [(d - 1) (r + 1/r) + (x + gap) / y + (y + gap) / x] / 2 - d,
    x = along_0 + u,  y = along_1 + v,  r = (across_0 + u) / (across_1 + v),
    subject to  p (along_1 + (d - 1) across_1) + (1 - p) (along_0 + (d - 1) across_0) = strength * gap
    and         along_c >= across_c >= 0.

How it is solved here. Let u <= v, or else the classes change names; then across_1 = 0. With z =
across_0 + u it is a geometric program, convex in log x, log y, log z (Boyd et al. 2007, "A tutorial on
geometric programming"), and larger x and y in one proportion are always better, so the budget is spent whole.
Given z, what is left of it is a line y = a - b x, b = (1 - p) / p, on which the objective falls and then
rises. Its derivative is 0 where x / y = sqrt((a + gap) / (a + b gap)): a closed form, which the constraints
cut off at the nearer end. What remains is convex in log z: a search in one dimension.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

LEAST = 1e-12
"""Of u and v, as parts of the gap: a class of one row has no spread, and its noise has none to hide in."""
GOLDEN = (math.sqrt(5) - 1) / 2
SEARCHES = 60
"""Golden sections: the last interval is 3e-13 of the first."""


class Spread(NamedTuple):
    """The noise's variances: of class 0 and 1 along D, and in each direction across it."""

    along_0: float
    across_0: float
    along_1: float
    across_1: float

    def power(self, d: int, p: float) -> float:
        """Its mean square over the batch."""
        return p * (self.along_1 + (d - 1) * self.across_1) + (1 - p) * (
            self.along_0 + (d - 1) * self.across_0
        )


class Noise(NamedTuple):
    """What a batch's noise is drawn from. direction: D / |D|, float64 [d]. sum_kl: what it leaves."""

    direction: Tensor
    spread: Spread
    sum_kl: float


def sum_kl(u: float, v: float, gap: float, d: int, spread: Spread) -> float:
    """How far two classes of gradients differ under this noise, in nats, both ways; 0: they do not.

    Whoever guesses a row's class, both alike likely, errs at least 1/2 - sqrt(sum_kl) / 4 of the time
    (theorem 2 of the paper). Over several looks at a row sum_kl adds up.
    """
    x, y = spread.along_0 + u, spread.along_1 + v
    r = (spread.across_0 + u) / (spread.across_1 + v)
    return ((d - 1) * (r + 1 / r) + (x + gap) / y + (y + gap) / x) / 2 - d


def solve(u: float, v: float, gap: float, d: int, p: float, power: float) -> Spread:
    """The noise of mean square `power` that leaves the least sum_kl. u, v, gap > 0; 0 < p < 1; power >= 0."""
    if u > v:
        other = solve(v, u, gap, d, 1 - p, power)
        return Spread(other.along_1, other.across_1, other.along_0, other.across_0)
    q = 1 - p

    def along(z: float) -> tuple[float, float]:
        """x and y, given z."""
        budget = power + p * v + q * u - q * (d - 1) * (z - u)
        a, b = budget / p, q / p
        ratio = math.sqrt((a + gap) / (a + b * gap))
        x = min(max(a * ratio / (1 + b * ratio), z), (budget - p * v) / q)
        return x, (budget - q * x) / p

    def cost(log_z: float) -> float:
        z = math.exp(log_z)
        x, y = along(z)
        return (d - 1) * (z / v + v / z) + (x + gap) / y + (y + gap) / x

    # Across D nothing is won by more than v, and along = across is the most that the budget allows.
    low, high = math.log(u), math.log(max(u, min(v, u + power / (q * d))))
    if d > 1 and high > low:
        left, right = high - GOLDEN * (high - low), low + GOLDEN * (high - low)
        at_left, at_right = cost(left), cost(right)
        for _ in range(SEARCHES):
            if at_left <= at_right:
                high, right, at_right = right, left, at_left
                left = high - GOLDEN * (high - low)
                at_left = cost(left)
            else:
                low, left, at_left = left, right, at_right
                right = low + GOLDEN * (high - low)
                at_right = cost(right)
        z = math.exp((low + high) / 2)
    else:
        z = u
    x, y = along(z)
    across = max(z - u, 0.0)
    return Spread(max(x - u, across), across, max(y - v, 0.0), 0.0)


def noise_of(gradient: Tensor, positive: Tensor, strength: float) -> Noise | None:
    """What hides the classes of this batch. gradient: [b, d], positive: bool [b].

    None where it tells nothing: there is one class, or the classes' means are the same.
    """
    rows, d = gradient.double(), gradient.shape[1]
    yes, no = rows[positive], rows[~positive]
    if not len(yes) or not len(no):
        return None
    g0, g1 = no.mean(0), yes.mean(0)
    gap = (g1 - g0).square().sum().item()
    if not 0 < gap < math.inf:  # a gradient that is not finite is for the codec to refuse
        return None
    # In units of the gap, so that gradients of any size are solved alike.
    u, v = (
        max(((part - mean).square().sum(1).mean() / (d * gap)).item(), LEAST)
        for part, mean in ((no, g0), (yes, g1))
    )
    spread = solve(u, v, 1.0, d, len(yes) / len(rows), strength)
    found = sum_kl(u, v, 1.0, d, spread)
    return Noise((g1 - g0) / math.sqrt(gap), Spread(*(gap * part for part in spread)), max(found, 0.0))


def evenly(gradient: Tensor, strength: float) -> Noise:
    """Where no batch so far had both classes: the longest row for the gap, the same in all directions."""
    d = gradient.shape[1]
    each = strength * gradient.double().square().sum(1).max().item() / d
    direction = torch.zeros(d, dtype=torch.float64)
    direction[0] = 1
    return Noise(direction, Spread(each, each, each, each), math.nan)


def perturbed(gradient: Tensor, positive: Tensor, noise: Noise, normals: Tensor) -> Tensor:
    """The gradient plus noise for each row's class. normals: standard, independent, [b, d] like it."""
    spread = torch.tensor(noise.spread, dtype=torch.float64).reshape(2, 2).sqrt()
    along, across = spread[positive.long()].unsqueeze(2).unbind(1)
    drawn = normals.double()
    length = (drawn @ noise.direction).unsqueeze(1)
    return gradient + (across * drawn + (along - across) * length * noise.direction).float()
