"""What all parties agreed on about the model and its training."""

from collections.abc import Collection
from dataclasses import dataclass, field
from itertools import pairwise

from splitnn.crossing import Codecs
from splitnn.embedding_dp import EmbeddingDP
from splitnn.fixed_point import FixedPoint
from splitnn.fusion import FUSIONS
from splitnn.label_defence import LabelDefence
from splitnn.optimizers import OPTIMIZERS
from splitnn.rates import RATES
from splitnn.secure_sum import SECURE_SUM
from splitnn.tasks import TASKS

NORMS = ("none", "layer")
TOPS = ("mlp", "deepfm")
IMPORTANCE = ("none", "parties", "columns")


@dataclass(frozen=True)
class Plan:
    """The agreed model and schedule; the same at every party. Raises ValueError for what cannot be trained.

    task, loss: an entry of `splitnn.tasks.TASKS`. cut: width of each party's activation.
    bottom_hidden, top_hidden: widths of the hidden layers.
    norm: of each hidden layer before its ReLU. residual: a hidden layer as wide as the one before it is added
    to its input. fusion: an entry of `splitnn.fusion`. top: of `splitnn.models`, or `module:Class`.
    party_dropout: how probably a feature holder is left out of an example in training.
    learning_rate_schedule: an entry of `splitnn.rates`. warmup: steps. clip_norm: the longest gradient of
    one party's weights; None: any.
    weight_decay: decoupled from the gradient (Loshchilov and Hutter 2019), on weights and embeddings.
    batch: examples a step. patience: epochs without a better validation score before training stops.
    every: epochs from one scoring of the validation rows to the next; None: as `splitnn.stopping` reckons.
    importance: what is measured of the trained network, of `splitnn.importance`.
    schedule: an entry of `splitnn.schedules`. in_flight: of `pipelined` and `celu`, batches under way.
    local_steps: of `fedbcd`, steps on a batch, the exchange's included. cache, reuse, similarity: of `celu`,
    batches kept for local steps, how often each is used again, and how like it a row must still be.
    codec: how activations and gradients are written where they cross.
    label_defence: what keeps the labels from the gradients that cross.
    fixed_point: of the fusion `secure-sum`, how activations are written in its place.
    embedding: what is done to activations before they leave a feature holder.
    seed: public; orders the rows. Nothing private may be drawn from it.
    """

    seed: bytes
    task: str = "binary"
    loss: str = "cross-entropy"
    cut: int = 32
    bottom_hidden: tuple[int, ...] = (128,)
    top_hidden: tuple[int, ...] = (64,)
    dropout: float = 0.2
    norm: str = "none"
    residual: bool = False
    fusion: str = "bi-interaction"
    top: str = "mlp"
    party_dropout: float = 0.0
    optimizer: str = "adam"
    learning_rate: float = 1e-3
    learning_rate_schedule: str = "constant"
    warmup: int = 0
    decay: float = 0.1
    decay_epochs: int = 10
    clip_norm: float | None = None
    weight_decay: float = 1e-4
    batch: int = 256
    epochs: int = 50
    patience: int = 8
    every: int | None = None
    importance: str = "parties"
    schedule: str = "exact"
    in_flight: int = 8
    local_steps: int = 5
    cache: int = 5
    reuse: int = 5
    similarity: float = 0.5
    codec: Codecs = field(default_factory=Codecs)
    label_defence: LabelDefence = field(default_factory=LabelDefence)
    fixed_point: FixedPoint = field(default_factory=FixedPoint)
    embedding: EmbeddingDP = field(default_factory=EmbeddingDP)

    def __post_init__(self) -> None:
        if self.task not in TASKS:
            raise ValueError(f"unknown task {self.task!r}: choose one of {', '.join(TASKS)}")
        if self.loss not in TASKS[self.task]:
            fitting = ", ".join(TASKS[self.task])
            raise ValueError(f"the loss {self.loss!r} does not fit task {self.task!r}: choose {fitting}")
        known: dict[str, Collection[str]] = {"fusion": FUSIONS, "norm": NORMS, "top": TOPS}
        known |= {"importance": IMPORTANCE}
        known |= {"optimizer": OPTIMIZERS, "learning_rate_schedule": RATES}
        for name, entries in known.items():
            value = getattr(self, name)
            if value not in entries and not (name == "top" and ":" in value):
                raise ValueError(f"unknown {name} {value!r}: choose one of {', '.join(entries)}")
        widths = {"cut": self.cut, "batch": self.batch, "epochs": self.epochs, "patience": self.patience}
        widths |= {"in_flight": self.in_flight, "local_steps": self.local_steps, "cache": self.cache}
        widths["decay_epochs"] = self.decay_epochs
        if self.every is not None:
            widths["every"] = self.every
        for name, value in widths.items():
            if value < 1:
                raise ValueError(f"{name} must be at least 1, not {value}")
        if any(width < 1 for width in (*self.bottom_hidden, *self.top_hidden)):
            raise ValueError("a hidden layer must be at least 1 wide")
        if self.residual and not any(map(_steady, (self.bottom_hidden, self.top_hidden))):
            raise ValueError("residual needs two neighbouring hidden layers of one width")
        if not 0 < self.decay <= 1 or self.warmup < 0:
            raise ValueError("decay must be in (0, 1] and warmup not negative")
        if self.reuse < 0 or not 0 <= self.similarity <= 1:
            raise ValueError("reuse must not be negative and similarity in [0, 1]")
        if self.clip_norm is not None and not self.clip_norm > 0:
            raise ValueError(f"clip_norm must be positive, not {self.clip_norm:g}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must be in [0, 1), not {self.dropout:g}")
        if not 0 <= self.party_dropout < 1:
            raise ValueError(f"party_dropout must be in [0, 1), not {self.party_dropout:g}")
        if not self.learning_rate > 0 or not self.weight_decay >= 0:
            raise ValueError("learning_rate must be positive and weight_decay not negative")
        if self.codec.keep is not None and self.codec.keep > self.cut:
            raise ValueError(f"codec.keep must be at most cut, {self.cut}, not {self.codec.keep}")
        self.label_defence.check(self.task)
        if self.embedding.on and self.schedule != "exact":
            raise ValueError(f"noise on embeddings needs schedule 'exact', not {self.schedule!r}")
        if self.fusion == SECURE_SUM:
            self._check_secure_sum()

    def _check_secure_sum(self) -> None:
        """What needs one party's own activation, or would give it away, is refused."""
        for name, value, only, why in (
            ("schedule", self.schedule, "exact", "the others know no sums"),
            ("top", self.top, "mlp", "others look at single activations"),
            ("importance", self.importance, "none", "it is measured on single activations"),
            ("codec.activations", self.codec.activations, "fp32", "masked numbers are written whole"),
            (
                "party_dropout",
                self.party_dropout,
                0,
                "the sum without a party, beside that with it, is that party's",
            ),
        ):
            if value != only:
                raise ValueError(f"fusion {SECURE_SUM} needs {name} = {only!r}, not {value!r}: {why}")


def _steady(hidden: tuple[int, ...]) -> bool:
    return any(before == after for before, after in pairwise(hidden))
