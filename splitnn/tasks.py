"""The tasks a plan can name: what the top model puts out, and how it is trained and judged."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from splitnn import metrics


@dataclass(frozen=True)
class Task:
    """outputs: width of the top model. The rest take logits [b, outputs] or labels / scores [b].

    loss: mean over the batch, a scalar. link: logits to scores. metrics: labels and scores to named numbers.
    check: raises TrainingError for labels that `metrics` cannot judge by.
    stop_on: the metric whose growth (sign +1) or fall (sign -1) counts as better in early stopping.
    """

    outputs: int
    loss: Callable[[Tensor, Tensor], Tensor]
    link: Callable[[Tensor], Tensor]
    metrics: Callable[[Tensor, Tensor], dict[str, float]]
    check: Callable[[Tensor], None]
    stop_on: str
    sign: int


def _cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    return binary_cross_entropy_with_logits(logits.squeeze(1), labels)


def _probability(logits: Tensor) -> Tensor:
    return torch.sigmoid(logits.squeeze(1))


TASKS: dict[str, Task] = {
    "binary": Task(
        1, _cross_entropy, _probability, metrics.binary, metrics.check_binary, stop_on="auc", sign=1
    ),
}
