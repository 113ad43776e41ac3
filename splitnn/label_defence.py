"""What the parties agreed on to keep the label holder's labels from the gradients that it sends."""

import math
from dataclasses import dataclass

from splitnn.randomised_response import MOST

NOISES = ("none", "max_norm", "iso", "marvell")
"""`splitnn.label_noise` has the first two, `splitnn.marvell` the last."""


@dataclass(frozen=True)
class LabelDefence:
    """Part of the plan. Raises ValueError for what defends nothing, or cannot be meant.

    noise: of NOISES, added to each gradient before it is encoded. strength: of the noise, as there; 0: none.
    epsilon: of `splitnn.randomised_response`; infinite: every label is what it is.
    max_leak: the AUC of an attack on the gradients from which on nothing leaves any more; None: any.
    max_strength: up to which strength may be doubled where the leak is too much; None: not at all.
    window: batches over which the leak is measured, see `splitnn.leak_gate`.
    """

    noise: str = "none"
    strength: float = 0.0
    epsilon: float = math.inf
    max_strength: float | None = None
    max_leak: float | None = None
    window: int = 20

    def __post_init__(self) -> None:
        if self.noise not in NOISES:
            raise ValueError(f"unknown noise {self.noise!r}: choose one of {', '.join(NOISES)}")
        if not 0 <= self.strength < math.inf:
            raise ValueError(f"strength must be a number of at least 0, not {self.strength:g}")
        if self.noise == "none" and (self.strength or self.max_strength is not None):
            raise ValueError("strength goes with noise: choose max_norm, iso or marvell")
        if self.max_strength is not None:
            if self.max_leak is None:
                raise ValueError("max_strength goes with max_leak: set both, or neither")
            if not self.strength < self.max_strength < math.inf:
                raise ValueError(f"max_strength must be above strength, not {self.max_strength:g}")
        if self.noise == "max_norm" and max(self.strength, self.max_strength or 0) > 1:
            raise ValueError("max_norm's strength is at most 1: then all rows are as long as the longest")
        if not (0 < self.epsilon <= MOST or self.epsilon == math.inf):
            raise ValueError(
                f"epsilon must be above 0 and at most {MOST:g}, or infinite, not {self.epsilon:g}"
            )
        if self.max_leak is not None and not 0.5 < self.max_leak <= 1:
            raise ValueError(f"max_leak must be above .5, a mere guess, and at most 1, not {self.max_leak:g}")
        if self.window < 1:
            raise ValueError(f"window must be at least 1, not {self.window}")

    def check(self, task: str) -> None:
        """Raises ValueError where it does not fit the task."""
        if self.noise == "marvell" and task != "binary":
            raise ValueError(f"marvell is for binary labels, not for a {task} task: choose max_norm or iso")
        if self.epsilon < math.inf and task not in ("binary", "multiclass"):
            raise ValueError(
                f"epsilon is for one class a row, not for a {task} task: choose the noise max_norm or iso"
            )
        if self.max_leak is not None and task != "binary":
            raise ValueError(f"max_leak is measured on binary labels, not on a {task} task: leave it out")

    @property
    def noisy(self) -> bool:
        """Whether what leaves may be something else than what the loss says."""
        return self.strength > 0 or self.max_strength is not None
