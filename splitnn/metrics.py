"""What people expect to read of a binary classifier, from scikit-learn."""

import torch
from sklearn import metrics
from torch import Tensor

from splitnn.errors import TrainingError


def check_binary(labels: Tensor) -> None:
    """Raises TrainingError where one class only is present: AUC is then undefined."""
    if labels.min() == labels.max():
        raise TrainingError(f"all {len(labels)} rows to evaluate have one class: use more rows")


def binary(labels: Tensor, scores: Tensor) -> dict[str, float]:
    """Metrics of probabilities `scores` (float [n]) against 0/1 `labels` (float [n]).

    Raises TrainingError where one class only is present or a score is not finite.
    """
    if not torch.isfinite(scores).all():
        raise TrainingError("a score is not finite: the model diverged, lower learning_rate in run.toml")
    check_binary(labels)
    truth, score = labels.numpy(), scores.to(torch.float64).numpy()
    return {
        "auc": float(metrics.roc_auc_score(truth, score)),
        "pr_auc": float(metrics.average_precision_score(truth, score)),
        "log_loss": float(metrics.log_loss(truth, score)),
        "brier": float(metrics.brier_score_loss(truth, score)),
        "accuracy": float(metrics.accuracy_score(truth, score >= 0.5)),
    }
