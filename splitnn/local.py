"""What each party brings for its own half of the network, and nobody else needs to know."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from splitnn.optimizers import OPTIMIZERS

if TYPE_CHECKING:
    from torch import Tensor

    from splitnn.plan import Plan

MLP = "mlp"
"""As a bottom model: the one of `splitnn.models`. Any other name is a class of the user's, `module:Class`."""

DEVICES = ("cpu", "cuda")
PRECISIONS = ("float32", "bf16")


@dataclass(frozen=True)
class Local:
    """One party's private choices. Raises ValueError for one that is not known.

    bottom: `mlp` or `module:Class`, see `splitnn.custom`. optimizer, learning_rate: None for the plan's.
    device: where its models compute; tensors cross the cut from and to main memory.
    keep_activations: at the label holder, whether its result has what arrived of the test rows.
    precision: `bf16` multiplies matrices in bfloat16 (autocast); weights and what crosses stay float32.
    warm: initial weights in place of drawn ones, `bottom.<name>` and `top.<name>` of an earlier training with
    models of the same shapes; of the optimisers nothing is taken over. Empty: drawn.
    """

    bottom: str = MLP
    optimizer: str | None = None
    learning_rate: float | None = None
    device: str = "cpu"
    precision: str = "float32"
    keep_activations: bool = False
    warm: "Mapping[str, Tensor]" = field(default_factory=dict, compare=False)

    def __post_init__(self) -> None:
        known = {"device": DEVICES, "precision": PRECISIONS, "optimizer": (None, *OPTIMIZERS)}
        for name, values in known.items():
            if getattr(self, name) not in values:
                raise ValueError(f"unknown {name} {getattr(self, name)!r}: choose one of {values[-2:]}")
        if self.bottom != MLP and ":" not in self.bottom:
            raise ValueError(f"bottom must be {MLP} or module:Class, not {self.bottom!r}")
        if self.learning_rate is not None and not self.learning_rate > 0:
            raise ValueError("learning_rate must be positive")

    def descent(self, plan: "Plan") -> tuple[str, float]:
        """The optimiser and the learning rate of this party's weights."""
        rate = plan.learning_rate if self.learning_rate is None else self.learning_rate
        return self.optimizer or plan.optimizer, rate


DEFAULTS = Local()
