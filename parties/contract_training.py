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
    tuple[Annotated[int, Field(strict=True, ge=1, le=65536)], ...],
    Field(
        strict=False, max_length=16, description="a list of whole numbers, 1 to 65,536, at most 16 of them"
    ),
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
    """What is predicted: docs/splitnn.md#tasks"""
    loss: Literal["cross-entropy", "squared", "huber", "poisson"] = Field(default=None, validate_default=True)
    """By which it is trained: `cross-entropy`; of regression `squared` (the default there), `huber` or
    `poisson`."""
    cut: int = Field(default=32, ge=1, le=4096)
    """Width of each party's activation: numbers a row that cross between companies."""
    bottom_hidden: Widths = (128,)
    """Hidden layers of each party's bottom model."""
    top_hidden: Widths = (64,)
    """Hidden layers of the label holder's top model."""
    dropout: float = Field(default=0.2, ge=0, lt=1)
    """The share of each hidden layer that is left out of a step of training."""
    norm: Literal["none", "layer"] = "none"
    """Layer normalisation of each hidden layer before its ReLU."""
    residual: bool = False
    """Hidden layers as wide as the one before are added to their input. Needs two neighbouring hidden layers
    of one width."""
    fusion: Literal["bi-interaction", "concat", "sum", "mean", "attention", "secure-sum"] = "bi-interaction"
    """How the top model joins the activations: docs/splitnn.md#choices. `secure-sum`: the label holder learns
    their sum only (docs/splitnn.md#secure-sum); with two or more feature holders, `top = "mlp"`,
    `party_dropout = 0`, `training.schedule = "exact"`, `codec.activations = "fp32"`,
    `evaluation.importance = "none"`."""
    top: Annotated[str, AfterValidator(_top), Field(description="`mlp`, `deepfm`, or `module:Class`")] = "mlp"
    """The top model. A class needs to be installed at the label holder only."""
    party_dropout: float = Field(default=0.0, ge=0, lt=1)
    """How probably each feature holder is left out of an example in training, so that the model can do
    without it later: docs/splitnn.md#party-dropout"""

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
    """`exact`: synchronous, the same weights as training in one place; the others are for slow lines
    (docs/splitnn.md#several-batches-under-way-pipelined): `pipelined`: several batches under way at once;
    `fedbcd`: several steps on each batch; `celu`: both, on batches that are kept. The keys of other schedules
    must not be changed."""
    in_flight: int = Field(default=8, ge=1, le=64)
    """Of `pipelined` and `celu`: batches under way, at most those of an epoch; times `batch` and `model.cut`
    at most 2^26. `pipelined` with 1 is `exact`."""
    local_steps: int = Field(default=5, ge=1, le=1024)
    """Of `fedbcd`: steps on each batch, that of its exchange included; 1 is `exact`."""
    cache: int = Field(default=5, ge=1, le=64)
    """Of `celu`: batches that are kept for local steps; times `batch` and `model.cut` at most 2^26."""
    reuse: int = Field(default=5, ge=0, le=1024)
    """Of `celu`: local steps after each exchange, and with each batch; 0 is `pipelined`."""
    similarity: float = Field(default=0.5, ge=0, le=1)
    """Of `celu`: a row counts in a local step from this cosine on between what is now and what crossed."""
    optimizer: Literal["adam", "sgd"] = "adam"
    """By which every party steps its own weights."""
    learning_rate: float = Field(default=1e-3, gt=0, le=100)
    """How far a step goes; where that changes, its highest value."""
    learning_rate_schedule: Literal["constant", "cosine", "step"] = "constant"
    """`cosine`: to 0 at the last of `epochs`; `step`: times `decay` every `decay_epochs` epochs."""
    warmup: int = Field(default=0, ge=0, le=1_000_000)
    """First steps, in which the learning rate rises linearly."""
    decay: float = Field(default=0.1, gt=0, le=1)
    """Of the learning-rate schedule `step`: the factor."""
    decay_epochs: int = Field(default=10, ge=1, le=100_000)
    """Of the same: epochs between two such steps."""
    clip_norm: float | None = Field(default=None, gt=0, le=1e9)
    """Longest gradient (2-norm) of one party's weights; longer ones are shortened to it."""
    weight_decay: float = Field(default=1e-4, ge=0, le=100)
    """How much weights shrink a step, decoupled from the gradient."""
    batch: int = Field(default=256, ge=1, le=1 << 20)
    """Rows a step; times `model.cut` at most 2^26. More than there are to train on makes each epoch one step
    of all of them, which `party check` and the run say."""
    epochs: int = Field(default=50, ge=1, le=100_000)
    """Passes over the training rows, at most."""
    patience: int = Field(default=8, ge=1, le=100_000)
    """Epochs without a better validation score before training stops, at the next that is scored."""
    warm_start: Annotated[str, AfterValidator(_run), Field(description="a run id, 64 hex digits")] | None = (
        None
    )
    """Weights and features of that run to begin with, in place of drawn weights and features fitted anew:
    docs/models.md#warm-start"""

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
    """How activations are written where they cross; all but `fp32` trade exactness for bytes:
    docs/splitnn.md#codecs"""
    gradients: Literal["fp32", "bf16", "int8"] = "fp32"
    """The same of gradients; with `randtopk` of those of the kept numbers."""
    keep: int | None = Field(default=None, ge=1, le=4096, validate_default=True)
    """Numbers of each row that cross, at most `model.cut`: with `randtopk` only, and required there."""
    explore: float = Field(default=0.1, ge=0, lt=1)
    """Of `randtopk`: the share of its draws that go to numbers which are not among the largest; 0, or at
    least 1e-6."""

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
    """`several`: each row of the label holder is an example, and one user may have many
    (docs/data.md#several-rows-a-user). All parties then learn how many each common user has."""
    at_most: int = Field(default=10_000_000, ge=1, le=1 << 27)
    """Of `several`: most examples of common users; more end the run at all parties before training."""


class Evaluation(Section):
    """Which fractions of the aligned rows are kept out of training, and what is done with them."""

    validation: Fraction = 0.15
    """The fraction of the common users that judges when to stop."""
    test: Fraction = Field(default=0.15, validate_default=True)
    """The fraction of the common users that is kept for the test; together with `validation` below 1."""
    every: Annotated[
        int | Literal["auto"], PlainValidator(_every), Field(description="`auto`, or 1 to 100,000")
    ] = "auto"
    """Epochs from one scoring of the validation rows to the next. `auto`: as few as keep it under 5 % of the
    training: docs/splitnn.md#how-often-the-validation-rows-are-scored"""
    importance: Literal["none", "parties", "columns"] = "parties"
    """What the label holder measures of the trained model on the test rows: how much it needs each party, and
    with `columns` each group of columns, for which more crosses: docs/splitnn.md#importance"""
    contribution: Literal["none", "retrain"] = "none"
    """With `retrain` the others train again without each feature holder in turn, so that the label holder
    learns what each brings; more crosses, and a run takes longer: docs/contribution.md"""

    @field_validator("test")
    @classmethod
    def _rows_are_left_to_train_on(cls, test: float, info: ValidationInfo) -> float:
        if test + info.data.get("validation", 0.0) >= 1:
            raise ValueError("evaluation.validation and evaluation.test must add up to less than 1")
        return test
