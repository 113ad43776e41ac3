"""What all parties agreed on about the model and its training."""

from dataclasses import dataclass, field

from splitnn.crossing import Codecs
from splitnn.optimizers import OPTIMIZERS
from splitnn.tasks import TASKS


@dataclass(frozen=True)
class Plan:
    """The agreed model and schedule; the same at every party. Raises ValueError for what cannot be trained.

    task, loss: an entry of `splitnn.tasks.TASKS`. cut: width of each party's activation.
    bottom_hidden, top_hidden: widths of the hidden layers.
    weight_decay: decoupled from the gradient (Loshchilov and Hutter 2019), on weights and embeddings.
    batch: examples a step. patience: epochs without a better validation score before training stops.
    codec: how activations and gradients are written where they cross.
    seed: public; orders the rows. Nothing private may be drawn from it.
    """

    seed: bytes
    task: str = "binary"
    loss: str = "cross-entropy"
    cut: int = 32
    bottom_hidden: tuple[int, ...] = (128,)
    top_hidden: tuple[int, ...] = (64,)
    dropout: float = 0.2
    optimizer: str = "adam"
    learning_rate: float = 1e-3
    weight_decay: float = 1e-4
    batch: int = 256
    epochs: int = 50
    patience: int = 8
    codec: Codecs = field(default_factory=Codecs)

    def __post_init__(self) -> None:
        if self.task not in TASKS:
            raise ValueError(f"unknown task {self.task!r}: choose one of {', '.join(TASKS)}")
        if self.loss not in TASKS[self.task]:
            fitting = ", ".join(TASKS[self.task])
            raise ValueError(f"the loss {self.loss!r} does not fit task {self.task!r}: choose {fitting}")
        if self.loss not in TASKS[self.task]:
            fitting = ", ".join(TASKS[self.task])
            raise ValueError(f"the loss {self.loss!r} does not fit task {self.task!r}: choose {fitting}")
        if self.optimizer not in OPTIMIZERS:
            raise ValueError(f"unknown optimizer {self.optimizer!r}: choose one of {', '.join(OPTIMIZERS)}")
        widths = {"cut": self.cut, "batch": self.batch, "epochs": self.epochs, "patience": self.patience}
        for name, value in widths.items():
            if value < 1:
                raise ValueError(f"{name} must be at least 1, not {value}")
        if any(width < 1 for width in (*self.bottom_hidden, *self.top_hidden)):
            raise ValueError("a hidden layer must be at least 1 wide")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must be in [0, 1), not {self.dropout:g}")
        if not self.learning_rate > 0 or not self.weight_decay >= 0:
            raise ValueError("learning_rate must be positive and weight_decay not negative")
        if self.codec.keep is not None and self.codec.keep > self.cut:
            raise ValueError(f"codec.keep must be at most cut, {self.cut}, not {self.codec.keep}")
