"""Calibration: scores that can be read as probabilities, fitted on rows that no weight was fitted to.

Temperature scaling divides logits by a number, fitted by log loss (Guo et al. 2017, "On Calibration of Modern
Neural Networks", section 4.2). It keeps the order of a target's scores, and which class is the likeliest.
Isotonic regression fits any rising curve from logit to probability (Zadrozny and Elkan 2002, "Transforming
Classifier Scores into Accurate Multiclass Probability Estimates"), so it undoes a shift too, such as class
weights make. It needs more rows, and makes ties.

logits: [n, outputs] of the top model. labels: [n] or [n, outputs], as `splitnn.tasks.Labels` has them.
"""

import math
from dataclasses import dataclass
from typing import ClassVar, TypeAlias

import numpy as np
import torch
from sklearn.isotonic import IsotonicRegression
from torch import Tensor
from torch.nn.functional import one_hot

HOTTEST = 100.0
"""The highest temperature, and one over the lowest: logits that tell nothing, or all, have no best one."""
HALVINGS = 50
"""Of the range of the temperature's logarithm: what is left of it is below the precision of a float64."""


@dataclass(frozen=True)
class Temperature:
    """temperatures: of each target its own; of a multi-class task one for all classes."""

    method: ClassVar[str] = "temperature"
    task: str
    temperatures: tuple[float, ...]

    @classmethod
    def fit(cls, task: str, logits: Tensor, labels: Tensor) -> "Temperature":
        """Those of the least mean log loss."""
        z, shared = logits.to(torch.float64), task == "multiclass"
        truth = one_hot(labels, z.shape[1]) if shared else labels.reshape(z.shape)
        high = torch.full((1 if shared else z.shape[1],), math.log(HOTTEST), dtype=torch.float64)
        low = -high
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            # The loss is convex in 1 / temperature; this is its slope there.
            slope = (z * (_probabilities(task, z / middle.exp()) - truth)).mean(0)
            cold = (slope.sum(0, keepdim=True) if shared else slope) > 0
            low, high = torch.where(cold, middle, low), torch.where(cold, high, middle)
        return cls(task, tuple(((low + high) / 2).exp().tolist()))

    @property
    def at_bound(self) -> bool:
        """Whether some target has no best temperature: its logits tell all of the rows, or nothing."""
        return any(not 1.001 / HOTTEST < one < HOTTEST / 1.001 for one in self.temperatures)

    def scores(self, logits: Tensor) -> Tensor:
        """Probabilities, float64 of the shape that `Objective.scores` has."""
        warm = logits.to(torch.float64) / torch.tensor(self.temperatures, dtype=torch.float64)
        return _shaped(self.task, _probabilities(self.task, warm))


@dataclass(frozen=True)
class Isotonic:
    """curves: of each target, logits and their probabilities: straight between two, level beyond the ends."""

    method: ClassVar[str] = "isotonic"
    at_bound: ClassVar[bool] = False
    task: str
    curves: tuple[tuple[tuple[float, ...], tuple[float, ...]], ...]

    @classmethod
    def fit(cls, task: str, logits: Tensor, labels: Tensor) -> "Isotonic":
        """Least squares. No probability is nearer to 0 or 1 than n rows can tell: the rule of succession."""
        least = 1 / (len(logits) + 2)
        regression = IsotonicRegression(y_min=least, y_max=1 - least)
        curves = []
        for z, y in zip(_columns(logits), _columns(labels.reshape(logits.shape)), strict=True):
            fitted = regression.fit(z, y)
            curves.append((tuple(fitted.X_thresholds_.tolist()), tuple(fitted.y_thresholds_.tolist())))
        return cls(task, tuple(curves))

    def scores(self, logits: Tensor) -> Tensor:
        """Probabilities, float64 of the shape that `Objective.scores` has."""
        columns = [np.interp(z, *curve) for z, curve in zip(_columns(logits), self.curves, strict=True)]
        return _shaped(self.task, torch.from_numpy(np.stack(columns, 1)))


Calibration: TypeAlias = Temperature | Isotonic

CALIBRATIONS: dict[str, dict[str, type[Calibration]]] = {
    "binary": {"temperature": Temperature, "isotonic": Isotonic},
    "multiclass": {"temperature": Temperature},
    "multilabel": {"temperature": Temperature, "isotonic": Isotonic},
}
"""By task: the methods that fit it."""


def _probabilities(task: str, logits: Tensor) -> Tensor:
    return torch.softmax(logits, 1) if task == "multiclass" else torch.sigmoid(logits)


def _shaped(task: str, scores: Tensor) -> Tensor:
    return scores.squeeze(1) if task == "binary" else scores


def _columns(tensor: Tensor) -> list[np.ndarray]:
    return [column.to(torch.float64).numpy() for column in tensor.unbind(1)]
