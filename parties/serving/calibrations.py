"""What logits mean, for each set of feature holders that were there: each set's scores have a spread of
their own, so one calibration for all would be wrong for most."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from parties.target import Target
from splitnn.calibration import Calibration
from splitnn.tasks import TASKS, scores_of


class Calibrations:
    """fitted: by who was there, a bool a feature holder. A set that is not among them has scores that are not
    calibrated."""

    def __init__(self, target: Target, fitted: Mapping[tuple[bool, ...], Calibration]) -> None:
        self._target, self._fitted = target, fitted

    @classmethod
    def of(cls, target: Target, feature_holders: Sequence[str]) -> "Calibrations":
        fitted = {
            tuple(name in names.split(",") for name in feature_holders): one
            for names, one in target.fewer.items()
        }
        if target.calibration is not None:
            fitted[(True,) * len(feature_holders)] = target.calibration
        return cls(target, fitted)

    def scores(self, logits: Tensor, among: tuple[bool, ...]) -> Tensor:
        """[n, outputs], float64. Raises TrainingError for a logit that is not finite."""
        target, fitted = self._target, self._fitted.get(among)
        scores = scores_of(TASKS[target.task][target.loss], logits, target.location, target.scale)
        if fitted is not None:
            scores = fitted.scores(logits)
        return scores.reshape(len(logits), -1).to(torch.float64)

    def is_fitted(self, among: tuple[bool, ...]) -> bool:
        return among in self._fitted
