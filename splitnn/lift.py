"""How much better one set of scores is than another on the same rows, and how sure that is.

The paired bootstrap: users are drawn again with replacement, with all their rows and with both scores of
each, and the lift is measured on every such resample; its 2.5 and 97.5 % quantiles are the interval's ends
(Efron and Tibshirani 1993, "An Introduction to the Bootstrap", chapters 8 and 13). A resample is how often
each row was drawn, and a metric is computed from these counts: no row is copied, nothing is sorted again.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from splitnn.randomness import stream
from splitnn.ranking import of_lists

K = TypeVar("K")

RESAMPLES: Final = 1000
LEVEL: Final = 0.95
FEWEST: Final = RESAMPLES // 2
"""Resamples in which a metric must have a value: in one without both classes there is no AUC."""

FALLING: Final = ("log_loss", "rmse", "mae")
"""Metrics of which less is better: their lift is how far they fall."""

Floats: TypeAlias = NDArray[np.float64]
Counted: TypeAlias = Callable[[Floats], float]
"""A metric of fixed rows, of how often each counts: [n] to a number, NaN where there is none."""


class Lift(NamedTuple):
    """Of one metric: with the partner, without it, by how much it is better with it (negative: worse), and
    the interval of that; None where too few resamples have a value."""

    value: float
    without: float
    lift: float
    low: float | None
    high: float | None


def lifts(
    task: str,
    labels: Tensor,
    scores: Tensor,
    without: Mapping[K, Tensor],
    names: Sequence[str],
    seed: bytes,
    users: Tensor | None = None,
    lists: Tensor | None = None,
    at: int = 10,
) -> dict[K, dict[str, Lift]]:
    """By each other set of scores, the lift of `scores` over it by each metric of the task.

    labels, scores, names: as `splitnn.metrics` has them; finite. users: int64 [n], whose row each is, from 0;
    None: each of its own. seed: of the resamples, which are the same for all. lists, at: as of
    `splitnn.ranking`: of a binary task its metrics are among the others where each list is one user's.
    """
    truth = labels.numpy()
    of = None if users is None else np.unique(users.numpy(), return_inverse=True)[1]

    def metrics_of(told: Tensor) -> dict[str, Counted]:
        found = METRICS[task](truth, told, names)
        if task == "binary" and lists is not None and of is not None and _are_nested(lists.numpy(), of):
            found |= _ranked(labels, told, lists, at)
        return found

    better = metrics_of(scores)
    others = {key: metrics_of(one) for key, one in without.items()}
    once = np.ones(len(truth))
    units = len(truth) if of is None else int(of.max()) + 1
    draw = np.random.Generator(np.random.PCG64(int.from_bytes(stream(seed, "resamples", 32), "little")))
    found: dict[K, dict[str, list[float]]] = {key: {name: [] for name in better} for key in others}
    for _ in range(RESAMPLES if others else 0):
        counts = np.bincount(draw.integers(0, units, units), minlength=units).astype(np.float64)
        if of is not None:
            counts = counts[of]
        top = {name: metric(counts) for name, metric in better.items()}
        for key, metrics in others.items():
            for name, metric in metrics.items():
                found[key][name].append(_gain(name, top[name], metric(counts)))
    return {
        key: {
            name: _lift(name, better[name](once), metric(once), np.array(found[key][name]))
            for name, metric in metrics.items()
        }
        for key, metrics in others.items()
    }


def _gain(metric: str, value: float, without: float) -> float:
    return without - value if metric in FALLING else value - without


def _lift(metric: str, value: float, without: float, drawn: Floats) -> Lift:
    drawn = drawn[np.isfinite(drawn)]
    low = high = None
    if len(drawn) >= FEWEST:
        low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]).tolist()
    return Lift(value, without, _gain(metric, value, without), low, high)


def _binary(truth: NDArray[np.generic], scores: Tensor, names: Sequence[str]) -> dict[str, Counted]:
    score = scores.double().numpy()
    return {"auc": _auc(truth == 1, score), "log_loss": _log_loss(np.where(truth == 1, score, 1 - score))}


def _are_nested(lists: NDArray[np.int64], users: NDArray[np.int64]) -> bool:
    """Are all rows of each list of one user? Otherwise a resample has pieces of lists."""
    return len(np.unique(np.stack((lists, users)), axis=1).T) == len(np.unique(lists))


def _ranked(labels: Tensor, scores: Tensor, lists: Tensor, at: int) -> dict[str, Counted]:
    """Of lists that are drawn whole; {} where none has both classes."""
    each = of_lists(labels, scores, lists, at)

    def mean(values: Floats, weight: Floats) -> Counted:
        def mean_of(counts: Floats) -> float:
            weights = counts[each.first] * weight
            return float(weights @ values / weights.sum()) if weights.any() else math.nan

        return mean_of

    if not len(each.size):
        return {}
    size = each.size.astype(np.float64)
    return {"gauc": mean(each.auc, size), f"ndcg@{at}": mean(each.ndcg, np.ones(len(size)))}


def _multilabel(truth: NDArray[np.generic], scores: Tensor, names: Sequence[str]) -> dict[str, Counted]:
    each = [_binary(truth[:, place], scores[:, place], ()) for place in range(len(names))]
    return {name: _mean_of([one[name] for one in each]) for name in ("auc", "log_loss")}


def _multiclass(truth: NDArray[np.generic], scores: Tensor, names: Sequence[str]) -> dict[str, Counted]:
    score = scores.double().numpy()
    score = score / score.sum(1, keepdims=True)
    likeliest = score.argmax(1)
    place = truth.astype(np.int64)
    return {
        "accuracy": _mean(likeliest == place),
        "macro_f1": _macro_f1(place, likeliest, len(names)),
        "log_loss": _log_loss(score[np.arange(len(place)), place]),
    }


def _regression(truth: NDArray[np.generic], scores: Tensor, names: Sequence[str]) -> dict[str, Counted]:
    label = truth.astype(np.float64)
    error = label - scores.double().numpy()
    square = _mean(error**2)
    return {
        "rmse": lambda counts: math.sqrt(square(counts)),
        "mae": _mean(np.abs(error)),
        "r2": _r2(label, square),
    }


METRICS: Final = {
    "binary": _binary,
    "multiclass": _multiclass,
    "multilabel": _multilabel,
    "regression": _regression,
}
"""By task: the metrics that a report shows, as functions of the counts; `splitnn.metrics` has the others."""


def _auc(yes: NDArray[np.bool_], score: Floats) -> Counted:
    """Mann and Whitney's U over all pairs of a yes and a no, a tie being half."""
    positive, negative = np.flatnonzero(yes), np.flatnonzero(~yes)
    positive, negative = positive[np.argsort(score[positive])], negative[np.argsort(score[negative])]
    below = np.searchsorted(score[negative], score[positive], "left")
    tied = np.searchsorted(score[negative], score[positive], "right")

    def auc(counts: Floats) -> float:
        up_to = np.concatenate(([0.0], np.cumsum(counts[negative])))
        often = counts[positive]
        pairs = float(2 * often.sum() * up_to[-1])
        return float(often @ (up_to[below] + up_to[tied])) / pairs if pairs else math.nan

    return auc


def _log_loss(right: Floats) -> Counted:
    """right: the probability of what came; none is 0 or 1, as in scikit-learn."""
    least = np.finfo(np.float64).eps
    return _mean(-np.log(np.clip(right, least, 1 - least)))


def _mean(values: NDArray[np.generic]) -> Counted:
    each = values.astype(np.float64)
    return lambda counts: float(counts @ each / counts.sum())


def _mean_of(metrics: Sequence[Counted]) -> Counted:
    return lambda counts: sum(metric(counts) for metric in metrics) / len(metrics)


def _macro_f1(truth: NDArray[np.int64], told: NDArray[np.int64], classes: int) -> Counted:
    """Over the classes that occur, or are told."""
    cell = truth * classes + told

    def macro_f1(counts: Floats) -> float:
        table = np.bincount(cell, counts, classes * classes).reshape(classes, classes)
        either = table.sum(0) + table.sum(1)
        return float((2 * table.diagonal()[either > 0] / either[either > 0]).mean())

    return macro_f1


def _r2(label: Floats, square: Counted) -> Counted:
    mean = _mean(label)

    def r2(counts: Floats) -> float:
        spread = float(counts @ (label - mean(counts)) ** 2 / counts.sum())
        return 1 - square(counts) / spread if spread else math.nan

    return r2
