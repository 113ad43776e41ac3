"""target.json: what the top model's outputs mean, written by a run and read to score with its model."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from numpy.typing import NDArray
from torch import Tensor

from parties.errors import DataError
from splitnn.calibration import CALIBRATIONS, Calibration, Isotonic
from splitnn.tasks import TASKS, scores_of


@dataclass(frozen=True)
class Target:
    """names: classes or targets, in the outputs' order; () for one. location, scale: as of `Objective`."""

    task: str
    loss: str
    names: tuple[str, ...]
    location: float
    scale: float
    calibration: Calibration | None

    @property
    def outputs(self) -> int:
        return max(1, len(self.names))

    def scores(self, logits: Tensor) -> Tensor:
        """Of [n, outputs], calibrated where the run was: [n], or [n, outputs] where there are names.

        Raises TrainingError for a logit that is not finite."""
        scores = scores_of(TASKS[self.task][self.loss], logits, self.location, self.scale)
        return scores if self.calibration is None else self.calibration.scores(logits)

    def columns(self, what: str, numbers: Tensor) -> dict[str, NDArray[Any]]:
        """Scores, or logits, by the names of their columns: `score`, or `score.<name>` each."""
        if not self.names:
            return {what: numbers.reshape(-1).numpy()}
        each = zip(self.names, numbers.unbind(1), strict=True)
        return {f"{what}.{name}": column.numpy() for name, column in each}

    def as_dict(self) -> dict[str, Any]:
        fitted = self.calibration
        kept = None if fitted is None else {"method": fitted.method, **asdict(fitted)}
        return {**vars(self), "names": [*self.names], "calibration": kept}

    @classmethod
    def from_dict(cls, kept: Mapping[str, Any]) -> "Target":
        """Raises DataError for what `as_dict` did not give."""
        try:
            fitted = kept["calibration"]
            calibration = None
            if fitted is not None:
                method = CALIBRATIONS[kept["task"]][fitted["method"]]
                name = "curves" if method is Isotonic else "temperatures"
                calibration = method(fitted["task"], _frozen(fitted[name]))
            task, loss, names = kept["task"], kept["loss"], tuple(map(str, kept["names"]))
            if loss not in TASKS[task]:
                raise ValueError("a loss of another task")
            return cls(task, loss, names, float(kept["location"]), float(kept["scale"]), calibration)
        except (LookupError, TypeError, ValueError):
            raise DataError("target.json is damaged; restore it, or train again") from None


def _frozen(value: Any) -> Any:
    return tuple(map(_frozen, value)) if isinstance(value, list) else value
