"""target.json: what the top model's outputs mean, written by a run and read to score with its model."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from numpy.typing import NDArray
from torch import Tensor

from parties.errors import DataError
from splitnn.calibration import CALIBRATIONS, Calibration, Isotonic
from splitnn.tasks import TASKS, scores_of


@dataclass(frozen=True)
class Target:
    """names: classes or targets, in the outputs' order; () for one. location, scale: as of `Objective`.

    calibration: of scores by everyone. fewer: of those by fewer feature holders, whose names, joined by
    commas, are the key; "" is the label holder alone.
    """

    task: str
    loss: str
    names: tuple[str, ...]
    location: float
    scale: float
    calibration: Calibration | None
    fewer: Mapping[str, Calibration] = field(default_factory=dict)

    @property
    def outputs(self) -> int:
        return max(1, len(self.names))

    def fitted(self, among: str | None = None) -> Calibration | None:
        """among: by which feature holders a score is, as a key of `fewer`; None: by everyone."""
        return self.calibration if among is None else self.fewer.get(among)

    def scores(self, logits: Tensor, among: str | None = None) -> Tensor:
        """Of [n, outputs], calibrated where the run was: [n], or [n, outputs] where there are names.

        among: as of `fitted`. Raises TrainingError for a logit that is not finite."""
        scores = scores_of(TASKS[self.task][self.loss], logits, self.location, self.scale)
        fitted = self.fitted(among)
        return scores if fitted is None else fitted.scores(logits)

    def columns(self, what: str, numbers: Tensor) -> dict[str, NDArray[Any]]:
        """Scores, or logits, by the names of their columns: `score`, or `score.<name>` each."""
        if not self.names:
            return {what: numbers.reshape(-1).numpy()}
        each = zip(self.names, numbers.unbind(1), strict=True)
        return {f"{what}.{name}": column.numpy() for name, column in each}

    def as_dict(self) -> dict[str, Any]:
        kept = {
            "names": [*self.names],
            "calibration": None if self.calibration is None else _kept(self.calibration),
            "fewer": {among: _kept(fitted) for among, fitted in self.fewer.items()},
        }
        return {**vars(self), **kept}

    @classmethod
    def from_dict(cls, kept: Mapping[str, Any]) -> "Target":
        """Raises DataError for what `as_dict` did not give."""
        try:
            fitted = kept["calibration"]
            calibration = None if fitted is None else _fitted(kept["task"], fitted)
            fewer = {
                str(among): _fitted(kept["task"], one) for among, one in dict(kept.get("fewer", {})).items()
            }
            task, loss, names = kept["task"], kept["loss"], tuple(map(str, kept["names"]))
            if loss not in TASKS[task]:
                raise ValueError("a loss of another task")
            return cls(task, loss, names, float(kept["location"]), float(kept["scale"]), calibration, fewer)
        except (LookupError, TypeError, ValueError):
            raise DataError("target.json is damaged; restore it, or train again") from None


def _kept(fitted: Calibration) -> dict[str, Any]:
    return {"method": fitted.method, **asdict(fitted)}


def _fitted(task: str, kept: Mapping[str, Any]) -> Calibration:
    method = CALIBRATIONS[task][kept["method"]]
    return method(kept["task"], _frozen(kept["curves" if method is Isotonic else "temperatures"]))


def _frozen(value: Any) -> Any:
    return tuple(map(_frozen, value)) if isinstance(value, list) else value
