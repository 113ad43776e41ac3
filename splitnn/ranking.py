"""How well the examples of each list are ranked: a user's page views, the ads of a session.

Both figures are over the lists in which both classes occur: in any other, every order is as good.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from splitnn.errors import TrainingError


class Lists(NamedTuple):
    """The list that each example belongs to: int64 [n], equal numbers are one list. None: nothing is ranked.

    at: of each list, NDCG looks at so many examples from its top.
    """

    validation: Tensor | None = None
    test: Tensor | None = None
    at: int = 10


class Each(NamedTuple):
    """Of some lists, [lists]: the place of one of its examples, how many it has, its AUC, its NDCG."""

    first: NDArray[np.int64]
    size: NDArray[np.int64]
    auc: NDArray[np.float64]
    ndcg: NDArray[np.float64]


def binary(
    labels: Tensor, scores: Tensor, lists: Tensor, at: int, names: Sequence[str] = ()
) -> dict[str, float]:
    """labels: 0 or 1, [n]. scores: finite, [n]. Nothing where no list has both classes.

    gauc: the AUC of each list, weighted by its examples (Zhu et al. 2017, "Optimized Cost per Click in Taobao
    Display Advertising").
    ndcg@k: each list counts alike (Jarvelin and Kekalainen 2002; gains are the labels, the discount is log2).
    Examples with one score share the mean of their places (McSherry and Najork 2008), as in scikit-learn.
    """
    each = of_lists(labels, scores, lists, at)
    if not len(each.size):
        return {}
    return {"gauc": float(np.average(each.auc, weights=each.size)), f"ndcg@{at}": float(each.ndcg.mean())}


def of_lists(labels: Tensor, scores: Tensor, lists: Tensor, at: int) -> Each:
    """Of each list in which both classes occur; arguments and errors as of `binary`."""
    if not torch.isfinite(scores).all():
        raise TrainingError("a score is not finite: the model diverged, lower learning_rate in run.toml")
    score, of = scores.to(torch.float64).numpy(), lists.numpy()
    order = np.lexsort((-score, of))
    score, of, yes = score[order], of[order], labels.numpy()[order].astype(np.float64)
    new_list = np.concatenate(([True], of[1:] != of[:-1]))
    new_tie = new_list | np.concatenate(([True], score[1:] != score[:-1]))
    one, tie = np.cumsum(new_list) - 1, np.cumsum(new_tie) - 1
    place = np.arange(len(one)) - np.flatnonzero(new_list)[one]  # 0 is the top of its list
    tied = np.bincount(tie)
    discount = np.where(place < at, 1 / np.log2(place + 2), 0.0)
    mean_place = (np.bincount(tie, place) / tied)[tie]
    mean_discount = (np.bincount(tie, discount) / tied)[tie]
    size, positive = np.bincount(one), np.bincount(one, yes)
    both = (positive > 0) & (positive < size)
    first, size, positive = order[new_list][both], size[both], positive[both]
    # Mann and Whitney's U: pairs of which the positive one is above, a tie being half.
    rank = np.bincount(one, yes * (np.bincount(one)[one] - mean_place))[both]
    auc = (rank - positive * (positive + 1) / 2) / (positive * (size - positive))
    best = np.cumsum(1 / np.log2(np.arange(min(at, int(size.max(initial=1)))) + 2))
    ideal = best[np.minimum(positive, len(best)).astype(np.int64) - 1]
    gained = np.bincount(one, yes * mean_discount)[both]
    return Each(first, size, auc, gained / ideal)


def multilabel(
    labels: Tensor, scores: Tensor, lists: Tensor, at: int, names: Sequence[str]
) -> dict[str, float]:
    """labels, scores: [n, targets]. The mean over the targets, then each target's own: `click.gauc`."""
    columns = zip(names, labels.unbind(1), scores.unbind(1), strict=True)
    each = {name: binary(truth, score, lists, at) for name, truth, score in columns}
    ranked = [one for one in each.values() if one]
    means = {metric: float(np.mean([one[metric] for one in ranked])) for metric in (ranked or [{}])[0]}
    return means | {f"{name}.{metric}": value for name, one in each.items() for metric, value in one.items()}
