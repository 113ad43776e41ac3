"""The sections of run.toml that say what is trained, how, and how it is judged."""

import re
from itertools import pairwise
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, PlainValidator, ValidationInfo, field_validator, model_validator

from parties.document import Section

CLASS = re.compile(r"[A-Za-z_][\w.]{0,127}:[A-Za-z_]\w{0,127}", re.ASCII)
"""A class of the user's, `module:Class`."""


def _top(name: str) -> str:
    if name not in ("mlp", "deepfm") and not CLASS.fullmatch(name):
        raise ValueError("must be 'mlp', 'deepfm', or a class such as my_lab.models:MyTop")
    return name


def _every(value: object) -> object:
    if value == "auto" or (type(value) is int and 1 <= value <= 100_000):
        return value
    raise ValueError("must be 'auto', or 1 to 100000")


def _run(version: str) -> str:
    if not re.fullmatch("[0-9a-f]{64}", version):
        raise ValueError("must be a whole run id, 64 hex digits, as `party models show VERSION` prints it")
    return version


Widths = Annotated[
    tuple[Annotated[int, Field(strict=True, ge=1, le=65536)], ...], Field(strict=False, max_length=16)
]
Fraction = Annotated[float, Field(gt=0, lt=1)]

HAS_EFFECT_WITH = {
    "in_flight": ("schedule", ("pipelined", "celu")),
    "local_steps": ("schedule", ("fedbcd",)),
    "cache": ("schedule", ("celu",)),
    "reuse": ("schedule", ("celu",)),
    "similarity": ("schedule", ("celu",)),
    "decay": ("learning_rate_schedule", ("step",)),
    "decay_epochs": ("learning_rate_schedule", ("step",)),
}
"""Keys of training that do nothing, so must be left as they are, unless another has one of these values."""

LOSSES = {
    "binary": ("cross-entropy",),
    "multiclass": ("cross-entropy",),
    "multilabel": ("cross-entropy",),
    "regression": ("squared", "huber", "poisson"),
}
"""Those that fit each task; `splitnn.tasks` has them."""


class Model(Section):
    """The split network; splitnn.plan says what each number shapes."""

    task: Literal["binary", "multiclass", "multilabel", "regression"] = "binary"
    loss: Literal["cross-entropy", "squared", "huber", "poisson"] = Field(default=None, validate_default=True)
    """Where nothing is said, the first of LOSSES."""
    cut: int = Field(default=32, ge=1, le=4096)
    bottom_hidden: Widths = (128,)
    top_hidden: Widths = (64,)
    dropout: float = Field(default=0.2, ge=0, lt=1)
    norm: Literal["none", "layer"] = "none"
    residual: bool = False
    """Hidden layers as wide as the one before are added to their input."""
    fusion: Literal["bi-interaction", "concat", "sum", "mean", "attention", "secure-sum"] = "bi-interaction"
    top: Annotated[str, AfterValidator(_top)] = "mlp"
    party_dropout: float = Field(default=0.0, ge=0, lt=1)
    """How probably a feature holder is left out of an example in training, so that it may be absent later."""

    @field_validator("residual")
    @classmethod
    def _some_layers_can_be_added(cls, residual: bool, info: ValidationInfo) -> bool:
        hidden = [info.data.get(name, (1, 1)) for name in ("bottom_hidden", "top_hidden")]
        if residual and all(a != b for widths in hidden for a, b in pairwise(widths)):
            raise ValueError("needs two neighbouring hidden layers of one width")
        return residual

    @field_validator("loss", mode="before")
    @classmethod
    def _loss_fits_the_task(cls, loss: object, info: ValidationInfo) -> object:
        fitting = LOSSES.get(info.data.get("task", ""), ())
        if loss is None:
            return fitting[0] if fitting else "cross-entropy"  # a bad task is a fault of its own
        if fitting and loss not in fitting and any(loss in losses for losses in LOSSES.values()):
            raise ValueError(f"must be {' or '.join(map(repr, fitting))} for this model.task")
        return loss


class Training(Section):
    """How the network is trained."""

    schedule: Literal["exact", "pipelined", "fedbcd", "celu"] = "exact"
    in_flight: int = Field(default=8, ge=1, le=64)
    """Of the schedules `pipelined` and `celu`: batches under way at once."""
    local_steps: int = Field(default=5, ge=1, le=1024)
    """Of the schedule `fedbcd`: steps on each batch, the first included."""
    cache: int = Field(default=5, ge=1, le=64)
    """Of the schedule `celu`: exchanged batches that are kept for local steps."""
    reuse: int = Field(default=5, ge=0, le=1024)
    """Of the same: local steps after each exchange, and on each batch that is kept."""
    similarity: float = Field(default=0.5, ge=0, le=1)
    """Of the same: the least cosine of a row's activation, or gradient, to the one that crossed."""
    optimizer: Literal["adam", "sgd"] = "adam"
    learning_rate: float = Field(default=1e-3, gt=0, le=100)
    learning_rate_schedule: Literal["constant", "cosine", "step"] = "constant"
    warmup: int = Field(default=0, ge=0, le=1_000_000)
    """Steps in which the learning rate rises from near 0."""
    decay: float = Field(default=0.1, gt=0, le=1)
    """Of the schedule `step`: the factor after every `decay_epochs` epochs."""
    decay_epochs: int = Field(default=10, ge=1, le=100_000)
    clip_norm: float | None = Field(default=None, gt=0, le=1e9)
    """The longest gradient of one party's weights, as a 2-norm."""
    weight_decay: float = Field(default=1e-4, ge=0, le=100)
    batch: int = Field(default=256, ge=1, le=1 << 20)
    epochs: int = Field(default=50, ge=1, le=100_000)
    patience: int = Field(default=8, ge=1, le=100_000)
    warm_start: Annotated[str, AfterValidator(_run)] | None = None
    """The run whose weights, and whose way from columns to features, training begins with."""

    @model_validator(mode="after")
    def _every_key_has_an_effect(self) -> Self:
        for name, (decider, values) in HAS_EFFECT_WITH.items():
            changed = getattr(self, name) != type(self).model_fields[name].default
            if changed and getattr(self, decider) not in values:
                needs = " or ".join(map(repr, values))
                raise ValueError(f"{name} has an effect with {decider} = {needs} only; remove it")
        return self


class Codec(Section):
    """How what crosses the cut is written; splitnn.codecs says what each does."""

    activations: Literal["fp32", "bf16", "int8", "randtopk"] = "fp32"
    gradients: Literal["fp32", "bf16", "int8"] = "fp32"
    keep: int | None = Field(default=None, ge=1, le=4096, validate_default=True)
    """Numbers of each row that randtopk keeps."""
    explore: float = Field(default=0.1, ge=0, lt=1)
    """The share of randtopk's draws that go to numbers which are not among the largest."""

    @field_validator("explore")
    @classmethod
    def _explore_is_drawn(cls, explore: float) -> float:
        if 0 < explore < 1e-6:  # splitnn.crossing.LEAST_EXPLORE
            raise ValueError("must be 0, or at least 1e-6")
        return explore

    @field_validator("keep")
    @classmethod
    def _keep_goes_with_randtopk(cls, keep: int | None, info: ValidationInfo) -> int | None:
        activations = info.data.get("activations")
        if activations == "randtopk" and keep is None:
            raise ValueError("is required where codec.activations is randtopk")
        if activations not in ("randtopk", None) and keep is not None:
            raise ValueError(f"has no use where codec.activations is {activations}; remove it")
        return keep


class Examples(Section):
    """How many examples may point at one entity."""

    per_entity: Literal["one", "several"] = "one"
    """With several, all parties learn how many examples each common user has."""
    at_most: int = Field(default=10_000_000, ge=1, le=1 << 27)
    """Of several: most examples of common users."""


class Evaluation(Section):
    """Which fractions of the aligned rows are kept out of training, and what is done with them."""

    validation: Fraction = 0.15
    test: Fraction = Field(default=0.15, validate_default=True)
    every: Annotated[int | Literal["auto"], PlainValidator(_every)] = "auto"
    """Epochs from one scoring of the validation rows to the next."""
    importance: Literal["none", "parties", "columns"] = "parties"
    """What the label holder measures of the trained network on the test rows."""

    @field_validator("test")
    @classmethod
    def _rows_are_left_to_train_on(cls, test: float, info: ValidationInfo) -> float:
        if test + info.data.get("validation", 0.0) >= 1:
            raise ValueError("evaluation.validation and evaluation.test must add up to less than 1")
        return test
