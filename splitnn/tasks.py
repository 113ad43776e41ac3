"""The tasks a plan can name: what the top model puts out, and how it is trained and judged.

Only the label holder knows more of a task than its name: how many classes there are, what they are called,
how labels are scaled and weighed. So none of that is in the plan.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn.functional import (
    binary_cross_entropy_with_logits,
    cross_entropy,
    huber_loss,
    mse_loss,
    poisson_nll_loss,
)

from splitnn import metrics, ranking
from splitnn.errors import TrainingError
from splitnn.randomised_response import answers, debiased
from splitnn.ranking import Lists

ROBUST = 1.345
"""Huber's threshold in robust deviations: 95 % efficient on normal errors (Holland and Welsch 1977)."""


@dataclass(frozen=True)
class Labels:
    """The labels of each part's examples, as the label holder brings them.

    task        labels                     names
    binary      float32 [n], 0 or 1        none
    multiclass  int64 [n], places in names the classes
    multilabel  float32 [n, k], 0 or 1     the k targets
    regression  float64 [n]                none

    weights: of the training examples, [n] or, for each target, [n, k]; not negative, in any unit; None: all
    alike. They act on the training loss only. lists: in which list each other example is ranked.
    draws: of the training and of the validation examples, float64 [n, 2] of `splitnn.randomised_response`,
    where the plan wants labels that lie.
    Raises ValueError for labels or weights that are not finite, and for weights of another length or so large
    that their sum is infinite: divided by it, all would be 0. `Objective` holds the labels against the task.
    """

    train: Tensor
    validation: Tensor
    test: Tensor
    names: Sequence[str] = ()
    weights: Tensor | None = None
    lists: Lists = field(default_factory=Lists)
    draws: tuple[Tensor, Tensor] | None = None

    def __post_init__(self) -> None:
        if not all(torch.isfinite(part).all() for part in (self.train, self.validation, self.test)):
            raise ValueError("a label is not finite")
        if self.weights is not None:
            if len(self.weights) != len(self.train):
                raise ValueError(f"{len(self.weights)} weights for {len(self.train)} training examples")
            if not (torch.isfinite(self.weights).all() and (self.weights >= 0).all()):
                raise ValueError("a weight is negative or not finite")
            if not torch.isfinite(self.weights.to(torch.float64).sum()):
                raise ValueError("the sum of the weights is infinite: divide all by one number")
        for part, lists in ((self.validation, self.lists.validation), (self.test, self.lists.test)):
            if lists is not None and len(lists) != len(part):
                raise ValueError(f"the lists of {len(lists)} examples for {len(part)} labels")
        if self.draws is not None:
            lengths = [(len(part), 2) for part in (self.train, self.validation)]
            if [tuple(drawn.shape) for drawn in self.draws] != lengths:
                raise ValueError("the draws are not two for each training and validation example")


@dataclass(frozen=True)
class Task:
    """One task, trained by one loss.

    losses: logits [b, outputs] and targets to one loss a target ([b] or [b, outputs]).
    link: logits to scores. scale: training labels to (location, scale); the network predicts
    (label - location) / scale.
    check, metrics: `splitnn.metrics`, of labels and scores in the label's own unit.
    stop_on: the metric whose growth (sign +1) or fall (sign -1) counts as better in early stopping.
    ranking: further metrics where examples belong to lists.
    """

    losses: Callable[[Tensor, Tensor, str], Tensor]
    link: Callable[[Tensor], Tensor]
    scale: Callable[[Tensor], tuple[float, float]]
    check: Callable[[Tensor, Sequence[str]], None]
    metrics: Callable[[Tensor, Tensor, Sequence[str], str | None], dict[str, float]]
    stop_on: str
    sign: int
    ranking: Callable[[Tensor, Tensor, Tensor, int, Sequence[str]], dict[str, float]] | None = None


class Objective:
    """A task fitted to the label holder's labels: what the top model is trained towards and judged by.

    outputs: width of the top model. lists: as in the labels. location, scale: of the training labels; but in
    regression 0 and 1. epsilon: of randomised response. train, validation: the labels that are learned from
    and judged by; with a finite epsilon they lie, and neither loss nor verdict depends on the true ones.
    Raises TrainingError for labels by which nothing can be trained or evaluated, ValueError for those that
    are not of the task: a class without a name would be looked up beyond the logits.
    """

    def __init__(self, task: str, loss: str, labels: Labels, epsilon: float = math.inf) -> None:
        self.task, self.names, self.lists = TASKS[task][loss], tuple(labels.names), labels.lists
        for part in (labels.train, labels.validation, labels.test):
            if not len(part) or not _is_of(task, part, len(self.names)):
                raise ValueError(f"the labels are none, or not those of a {task} task")
            self.task.check(part, self.names)
        self.outputs = max(1, len(self.names))
        self.location, self.scale = self.task.scale(labels.train)
        scaled = labels.train if task == "multiclass" else (labels.train - self.location) / self.scale
        self._targets = scaled if task == "multiclass" else scaled.to(torch.float32)
        self._weights = None if labels.weights is None else _mean_one(labels.weights, self._targets)
        self.train, self.validation = labels.train, labels.validation
        self._judged: Tensor | None = None
        if epsilon < math.inf:
            self._lie(labels, epsilon)

    def _lie(self, labels: Labels, epsilon: float) -> None:
        """Learn from, and be judged by, answers of randomised response in place of the labels."""
        if labels.draws is None:
            raise ValueError("randomised response needs draws for each training and validation example")
        if labels.weights is not None:
            raise TrainingError(
                "weights of examples may tell their labels, which epsilon is to hide: leave out data.weight "
                "and data.class_weights in party.toml, or epsilon in run.toml"
            )
        classes = max(2, len(self.names))
        self.train, self.validation = (
            answers(part, drawn, classes, epsilon)
            for part, drawn in zip((labels.train, labels.validation), labels.draws, strict=True)
        )
        self.task.check(self.validation, self.names)
        targets, judged = (debiased(part, classes, epsilon) for part in (self.train, self.validation))
        # Both losses are linear in the targets, so these may be shares, even negative ones.
        self._targets = targets if self.names else targets[:, 1]
        self._judged = judged if self.names else None

    def loss(self, logits: Tensor, examples: Tensor) -> Tensor:
        """The mean weighted loss, a scalar. logits: [b, outputs], of these training examples (int64 [b])."""
        targets = self._targets[examples]
        if self._weights is None:  # not the mean of losses one by one: its gradient has another last bit
            return self.task.losses(logits, targets, "mean")
        return (self.task.losses(logits, targets, "none") * self._weights[examples]).mean()

    def scores(self, logits: Tensor) -> Tensor:
        """As `scores_of` has them."""
        return scores_of(self.task, logits, self.location, self.scale)

    def metrics(self, labels: Tensor, scores: Tensor, lists: Tensor | None = None) -> dict[str, float]:
        """lists: one of `self.lists`, of these examples, for the ranking metrics."""
        found = self.task.metrics(labels, scores, self.names, None)
        if lists is None or self.task.ranking is None:
            return found
        return found | self.task.ranking(labels, scores, lists, self.lists.at, self.names)

    def judged_by(self, labels: Tensor, logits: Tensor) -> dict[str, float]:
        """Of the metrics only the one that decides, `stop_on`: together they take longer than the scoring."""
        value = self.task.metrics(labels, self.scores(logits), self.names, self.task.stop_on)
        return {self.task.stop_on: value[self.task.stop_on]}

    def verdict(self, logits: Tensor) -> dict[str, float]:
        """`judged_by` of the validation examples, [n, outputs].

        Where labels lie, the AUC is that of the answers: nearer to .5, and on average in the same order. A
        log loss is debiased like the training loss: the answers' own would prefer scores that are less sure.
        """
        if self._judged is None:
            return self.judged_by(self.validation, logits)
        self.scores(logits)  # finite, or a TrainingError
        return {self.task.stop_on: self.task.losses(logits, self._judged, "mean").item()}

    def lost(self, before: float, after: float) -> float:
        """How much worse the metric that decides is: so much lower (AUC), or higher by this part of it (a
        loss, the unit of which may be the label's)."""
        return before - after if self.task.sign > 0 else (after - before) / max(before, 1e-12)


def scores_of(task: Task, logits: Tensor, location: float, scale: float) -> Tensor:
    """Probabilities, or numbers in the label's own unit: [n], or [n, outputs] where there are names.

    Raises TrainingError for a logit that is not finite, whose probability would be."""
    if not torch.isfinite(logits).all():
        raise TrainingError("a score is not finite: the model diverged, lower learning_rate in run.toml")
    scores = task.link(logits)
    if (location, scale) == (0.0, 1.0):
        return scores
    return location + scale * scores.to(torch.float64)


def _is_of(task: str, labels: Tensor, names: int) -> bool:
    """As the table of `Labels` says, in any float."""
    if task == "multiclass":
        within = labels.dtype == torch.int64 and labels.min() >= 0 and labels.max() < names
        return labels.ndim == 1 and bool(within)
    if not labels.is_floating_point() or labels.shape[1:] != ((names,) if task == "multilabel" else ()):
        return False
    return task == "regression" or bool(((labels == 0) | (labels == 1)).all())


def _mean_one(weights: Tensor, targets: Tensor) -> Tensor:
    """With mean 1 over the training examples, of each target: the step size stays what it was.

    Not over each batch: the gradient would be biased, and a batch of weights 0 would divide by 0.
    """
    weights = weights.to(torch.float64).reshape(len(weights), *([-1] if targets.ndim == 2 else []))
    mean = weights.mean(0)
    if not (mean > 0).all():
        raise TrainingError("the weights of all training examples are 0: nothing to learn")
    return (weights / mean).to(torch.float32)


def _as_they_are(labels: Tensor) -> tuple[float, float]:
    return 0.0, 1.0


def _mean_and_deviation(labels: Tensor) -> tuple[float, float]:
    return labels.mean().item(), labels.std(correction=0).item()


def _median_and_deviation(labels: Tensor) -> tuple[float, float]:
    """Robust, as a few huge labels must not set the threshold: 1.4826 times the median deviation, which is
    the standard deviation of normal labels. Where half of the labels are equal, the standard deviation."""
    median = labels.median()
    deviation = 1.4826 * (labels - median).abs().median().item()
    return median.item(), deviation or labels.std(correction=0).item()


def _none_and_mean(labels: Tensor) -> tuple[float, float]:
    """Counts keep their zero. Scaling them scales the Poisson loss, up to a constant."""
    if labels.min() < 0:
        raise TrainingError("a label is negative: the Poisson loss is for counts and amounts")
    return 0.0, labels.mean().item()


def _first(loss: Callable[[Tensor, Tensor, str], Tensor]) -> Callable[[Tensor, Tensor, str], Tensor]:
    """For one output: logits [b, 1]."""
    return lambda logits, targets, reduction: loss(logits.squeeze(1), targets, reduction)


_classes = Task(
    _first(lambda z, y, reduction: binary_cross_entropy_with_logits(z, y, reduction=reduction)),
    lambda logits: torch.sigmoid(logits.squeeze(1)),
    _as_they_are,
    metrics.check_classes,
    metrics.binary,
    stop_on="auc",
    sign=1,
    ranking=ranking.binary,
)
_one_of_many = Task(
    lambda z, y, reduction: cross_entropy(z, y, reduction=reduction),
    lambda logits: torch.softmax(logits, 1),
    _as_they_are,
    metrics.check_classes,
    metrics.multiclass,
    stop_on="log_loss",
    sign=-1,
)
_several = Task(
    lambda z, y, reduction: binary_cross_entropy_with_logits(z, y, reduction=reduction),
    torch.sigmoid,
    _as_they_are,
    metrics.check_targets,
    metrics.multilabel,
    stop_on="auc",
    sign=1,
    ranking=ranking.multilabel,
)
_squared = Task(
    _first(lambda z, y, reduction: mse_loss(z, y, reduction=reduction)),
    lambda logits: logits.squeeze(1),
    _mean_and_deviation,
    metrics.check_numbers,
    metrics.regression,
    stop_on="rmse",
    sign=-1,
)
_huber = Task(
    _first(lambda z, y, reduction: huber_loss(z, y, reduction=reduction, delta=ROBUST)),
    lambda logits: logits.squeeze(1),
    _median_and_deviation,
    metrics.check_numbers,
    metrics.regression,
    stop_on="mae",
    sign=-1,
)
_poisson = Task(
    _first(lambda z, y, reduction: poisson_nll_loss(z, y, log_input=True, reduction=reduction)),
    lambda logits: torch.exp(logits.squeeze(1)),
    _none_and_mean,
    metrics.check_numbers,
    metrics.counts,
    stop_on="deviance",
    sign=-1,
)

TASKS: dict[str, dict[str, Task]] = {
    "binary": {"cross-entropy": _classes},
    "multiclass": {"cross-entropy": _one_of_many},
    "multilabel": {"cross-entropy": _several},
    "regression": {"squared": _squared, "huber": _huber, "poisson": _poisson},
}
"""By task and loss; each task's first loss is its default."""
