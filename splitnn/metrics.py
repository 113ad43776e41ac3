"""What people expect to read of each task, from scikit-learn. Every row counts once.

labels, scores: of the rows to evaluate, in one order. names: the classes or the targets, in the order of the
outputs. only: compute this metric alone. Every function raises TrainingError for a score that is not finite,
and for labels that leave nothing to evaluate by; `check_*` is the latter alone, so that it is known before
training.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn import metrics
from torch import Tensor

from splitnn.errors import TrainingError

BINS = 15
"""Of the calibration error, equally wide: Guo et al. 2017, "On Calibration of Modern Neural Networks"."""


def check_classes(labels: Tensor, names: Sequence[str]) -> None:
    """Two classes at least are present: AUC is otherwise undefined."""
    if labels.min() == labels.max():
        raise TrainingError(f"all {len(labels)} rows to evaluate have one class: use more rows")


def check_targets(labels: Tensor, names: Sequence[str]) -> None:
    """Both classes of each target are present."""
    for name, column in zip(names, labels.unbind(1), strict=True):
        if column.min() == column.max():
            raise TrainingError(
                f"all {len(labels)} rows to evaluate have one class of {name!r}: use more rows"
            )


def check_numbers(labels: Tensor, names: Sequence[str]) -> None:
    """The labels differ: R2 is otherwise undefined."""
    if labels.min() == labels.max():
        raise TrainingError(f"all {len(labels)} rows to evaluate have one value: use more rows")


def binary(
    labels: Tensor, scores: Tensor, names: Sequence[str] = (), only: str | None = None
) -> dict[str, float]:
    """labels: 0 or 1, [n]. scores: probabilities of 1, [n]."""
    truth, score = labels.numpy(), _finite(scores)
    check_classes(labels, names)
    return _computed(
        {
            "auc": lambda: metrics.roc_auc_score(truth, score),
            "pr_auc": lambda: metrics.average_precision_score(truth, score),
            "ks": lambda: _largest_gap(truth, score),
            "log_loss": lambda: metrics.log_loss(truth, score),
            "brier": lambda: metrics.brier_score_loss(truth, score),
            "ece": lambda: _calibration_error(score, truth),
            "accuracy": lambda: metrics.accuracy_score(truth, score >= 0.5),
        },
        only,
    )


def multiclass(
    labels: Tensor, scores: Tensor, names: Sequence[str], only: str | None = None
) -> dict[str, float]:
    """labels: places in `names`, int64 [n]. scores: probabilities, [n, classes].

    auc, pr_auc: one class against the others, the mean over the classes that occur. ece: of the likeliest
    class. brier: summed over the classes (Brier 1950), so at most 2.
    """
    truth, score = labels.numpy(), _finite(scores)
    check_classes(labels, names)
    score = score / score.sum(1, keepdims=True)  # float32 sums to 1 within 1e-7, which is far for float64
    classes = np.arange(len(names))
    occurring = np.unique(truth)
    one_hot, likeliest = truth[:, None] == occurring, score.argmax(1)
    return _computed(
        {
            "auc": lambda: metrics.roc_auc_score(one_hot, score[:, occurring], average="macro"),
            "pr_auc": lambda: metrics.average_precision_score(one_hot, score[:, occurring], average="macro"),
            "log_loss": lambda: metrics.log_loss(truth, score, labels=classes),
            "brier": lambda: ((score - (truth[:, None] == classes)) ** 2).sum(1).mean(),
            "ece": lambda: _calibration_error(score.max(1), likeliest == truth),
            "accuracy": lambda: metrics.accuracy_score(truth, likeliest),
            "macro_f1": lambda: metrics.f1_score(truth, likeliest, average="macro", zero_division=0),
        },
        only,
    )


def multilabel(
    labels: Tensor, scores: Tensor, names: Sequence[str], only: str | None = None
) -> dict[str, float]:
    """labels: 0 or 1, [n, targets]. scores: probabilities of 1, [n, targets].

    Each metric of `binary` as the mean over the targets, then of each target by itself: `click.auc`.
    """
    _finite(scores)
    check_targets(labels, names)
    each = [binary(y, z, only=only) for y, z in zip(labels.unbind(1), scores.unbind(1), strict=True)]
    means = {metric: float(np.mean([one[metric] for one in each])) for metric in each[0]}
    alone = {
        f"{name}.{metric}": value
        for name, one in zip(names, each, strict=True)
        for metric, value in one.items()
    }
    return means | alone


def regression(
    labels: Tensor, scores: Tensor, names: Sequence[str] = (), only: str | None = None
) -> dict[str, float]:
    """labels, scores: numbers, [n], in the label's own unit."""
    truth, score = labels.numpy(), _finite(scores)
    check_numbers(labels, names)
    return _computed(
        {
            "rmse": lambda: metrics.root_mean_squared_error(truth, score),
            "mae": lambda: metrics.mean_absolute_error(truth, score),
            "r2": lambda: metrics.r2_score(truth, score),
        },
        only,
    )


def counts(
    labels: Tensor, scores: Tensor, names: Sequence[str] = (), only: str | None = None
) -> dict[str, float]:
    """As `regression`, and the mean Poisson deviance. labels: at least 0. scores: expected counts."""
    found = regression(labels, scores, names, only)
    # A rate may underflow to 0, of which no count has come: the deviance would be infinite.
    rate = np.maximum(_finite(scores), np.finfo(np.float32).tiny)
    return found | _computed({"deviance": lambda: metrics.mean_poisson_deviance(labels.numpy(), rate)}, only)


def _computed(each: Mapping[str, Callable[[], float]], only: str | None) -> dict[str, float]:
    return {name: float(metric()) for name, metric in each.items() if only in (None, name)}


def _finite(scores: Tensor) -> NDArray[np.float64]:
    if not torch.isfinite(scores).all():
        raise TrainingError("a score is not finite: the model diverged, lower learning_rate in run.toml")
    return scores.to(torch.float64).numpy()


def _largest_gap(truth: NDArray[np.generic], score: NDArray[np.float64]) -> float:
    """The two-sample Kolmogorov-Smirnov statistic of the scores of the two classes.

    From the ROC curve: SciPy computes a p-value with it, which nobody asked for and few rows make it warn of.
    """
    no, yes, _ = metrics.roc_curve(truth, score)
    return float(np.abs(yes - no).max())


def _calibration_error(confidence: NDArray[np.float64], right: NDArray[np.generic]) -> float:
    """Expected calibration error: |share that is right - mean confidence| of each row's bin, the mean."""
    place = np.minimum((confidence * BINS).astype(np.int64), BINS - 1)
    gap = np.bincount(place, weights=right.astype(np.float64) - confidence, minlength=BINS)
    return float(np.abs(gap).sum() / len(confidence))
