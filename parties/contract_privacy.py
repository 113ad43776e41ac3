"""The section [privacy] of run.toml: what is done so that less is learned, and what the run is for."""

from datetime import date
from typing import Annotated, Literal, Self

from pydantic import (
    Field,
    PlainSerializer,
    PlainValidator,
    ValidationInfo,
    field_validator,
    model_validator,
)

from parties.document import Section

LABEL_DEFENCES = {
    "max_norm": ("binary", "multiclass", "multilabel", "regression"),
    "iso": ("binary", "multiclass", "multilabel", "regression"),
    "marvell": ("binary",),
}
"""The tasks that each fits; `splitnn.label_defence` says the same."""

RANDOMISED = ("binary", "multiclass")
"""The tasks that have one class a row, which randomised response can change."""

WITHOUT = {
    "label_strength": 'for no noise choose label_defence = "none"',
    "max_label_strength": "where it is to stay, leave it out",
    "embedding_clip": "for no noise leave it and embedding_sigma out",
    "embedding_sigma": "for no noise leave it and embedding_clip out",
    "embedding_budget": "for no budget leave it out",
    "label_budget": "for no budget leave it out",
}
"""What to do in place of a number that asks for nothing, or for less."""

LARGEST_DELTA = 1e-3

STRONGEST = 1e6
"""Of a defence. By far more, and gradients are noise of any size."""


def _one_line(text: object) -> str:
    if not isinstance(text, str) or not text.strip() or not text.isprintable() or len(text) > 200:
        raise ValueError("must be one line of text, of at most 200 characters")
    return text


def _date(value: object) -> date:
    if type(value) is not date:  # a time of day is a date to Python
        raise ValueError("must be a date without quotes, such as 2027-01-31")
    return value


class Privacy(Section):
    """Every key is optional, and what is left out asks for nothing; see splitnn.label_defence."""

    label_defence: Literal["none", "max_norm", "iso", "marvell"] = "none"
    """Noise that the label holder adds to gradients before they leave: docs/label-privacy.md. `marvell`: of
    the binary task only."""
    label_strength: float | None = Field(default=None, gt=0, le=STRONGEST)
    """How much noise: of `iso` and `marvell`, and required there."""
    label_epsilon: float | None = Field(default=None, ge=0.01, le=30)
    """Labels of training and validation rows lie now and then: randomised response. Binary and multi-class
    tasks, `examples.per_entity = "one"`, `evaluation.importance` not `columns`; refused beside `data.weight`
    and `data.class_weights` of party.toml. By less, labels are noise."""
    max_label_leak: float | None = Field(default=None, gt=0.5, le=1)
    """The AUC of an attack on the gradients that is too much (with `label_epsilon`, of the labels that lie):
    nothing of such a step leaves, and training ends with exit code 17. Binary task only."""
    max_label_strength: float | None = Field(default=None, gt=0, le=STRONGEST)
    """What the strength may be doubled up to before training ends: above `label_strength`, with
    `max_label_leak`."""
    embedding_clip: float | None = Field(default=None, gt=0, le=1e9)
    """The longest row (2-norm) of an activation that leaves a feature holder; longer ones are shortened:
    docs/splitnn.md#embedding-dp. With `embedding_sigma`, schedule `exact` only."""
    embedding_sigma: float | None = Field(default=None, ge=0, le=1e6)
    """Gaussian noise on each of its numbers, in units of the clip; 0: none. With `embedding_clip`."""
    embedding_budget: float | None = Field(default=None, gt=0, le=1e6)
    """The epsilon that each feature holder may spend with the label holder in all runs, at least what
    `training.epochs` may spend; needs noise. A run that would exceed it is refused with exit code 16:
    docs/accounts.md#the-privacy-ledger"""
    label_budget: float | None = Field(default=None, gt=0, le=1e6)
    """The same of the label holder with each feature holder, at least `label_epsilon`."""
    delta: float = Field(default=1e-5, gt=0)
    """At which epsilons are reckoned: the chance that they do not hold; at most 0.001."""
    sum_bound: float = Field(default=32.0, gt=0, le=1 << 31)
    """Of `secure-sum`: the largest magnitude of an activation; what is beyond is clipped. Times
    2^`sum_fraction` times the feature holders below 2^31."""
    sum_fraction: int = Field(default=20, ge=0, le=30)
    """Of `secure-sum`: bits behind the point."""
    purpose: (
        Annotated[str, PlainValidator(_one_line), Field(description="one line, at most 200 characters")]
        | None
    ) = None
    """What the model may be used for: signed by all parties, for people to read."""
    expires: (
        Annotated[
            date,
            PlainValidator(_date),
            PlainSerializer(date.isoformat, return_type=str),
            Field(description="a date without quotes: `2027-01-31`"),
        ]
        | None
    ) = None
    """The last day, in UTC, on which a run, an alignment or a prediction may begin; afterwards each party
    refuses it with exit code 5: when it is started, and again when all have met. A run under way is not
    ended."""

    @field_validator(*WITHOUT, mode="before")
    @classmethod
    def _asks_for_something(cls, value: object, info: ValidationInfo) -> object:
        name = str(info.field_name)
        few = "at least" if name == "embedding_sigma" else "above"
        if isinstance(value, int | float) and (value < 0 or (value == 0 and few == "above")):
            raise ValueError(f"must be {few} 0 ({WITHOUT[name]})")
        return value

    @field_validator("delta")
    @classmethod
    def _delta_is_small(cls, delta: float) -> float:
        if delta > LARGEST_DELTA:
            raise ValueError(
                f"must be at most {LARGEST_DELTA:g}, not {delta:g}: it is the chance that epsilon does not "
                "hold, and with a large one any noise would pass any budget"
            )
        return delta

    @field_validator("sum_fraction")
    @classmethod
    def _something_is_left(cls, fraction: int, info: ValidationInfo) -> int:
        if info.data.get("sum_bound", 1.0) * 2**fraction < 1:
            raise ValueError("is too small for privacy.sum_bound: nothing of an activation would be left")
        return fraction

    @model_validator(mode="after")
    def _keys_fit_one_another(self) -> Self:
        if self.label_defence in ("none", "max_norm"):
            for name in ("label_strength", "max_label_strength"):
                if getattr(self, name) is not None:
                    raise ValueError(f'{name} has an effect with label_defence = "iso" or "marvell" only')
        elif self.label_strength is None:
            raise ValueError(f'label_defence = "{self.label_defence}" needs label_strength; add it')
        elif self.max_label_strength is not None:
            if self.max_label_leak is None:
                raise ValueError("max_label_strength has an effect with max_label_leak only; set both")
            if self.max_label_strength <= self.label_strength:
                raise ValueError(
                    f"max_label_strength must be above label_strength, {self.label_strength:g}, "
                    f"not {self.max_label_strength:g}"
                )
        if (self.embedding_clip is None) != (self.embedding_sigma is None):
            raise ValueError("embedding_clip and embedding_sigma go together; set both, or neither")
        if self.embedding_budget is not None and not self.embedding_sigma:
            raise ValueError(
                "embedding_budget needs embedding_clip, and embedding_sigma above 0: without noise no budget "
                "holds"
            )
        if self.label_budget is not None and self.label_epsilon is None:
            raise ValueError("label_budget needs label_epsilon: true labels have no epsilon")
        if self.label_budget is not None and self.label_budget < (self.label_epsilon or 0.0):
            raise ValueError("label_budget must be at least label_epsilon: one run spends as much")
        return self

    def check_one_training(self) -> None:
        """Raises ValueError for a defence that holds for one training of a run, not for several."""
        for name in ("label_defence", "label_epsilon", "max_label_leak", "embedding_sigma"):
            if getattr(self, name) not in (None, "none", 0.0):
                raise ValueError(
                    f"{name} is reckoned for one training, and evaluation.contribution = 'retrain' asks for "
                    "several: leave out one or the other"
                )

    def check(self, task: str) -> None:
        """Raises ValueError where it does not fit the task."""
        fitting = LABEL_DEFENCES.get(self.label_defence)
        if fitting is not None and task not in fitting:
            others = [name for name, tasks in LABEL_DEFENCES.items() if task in tasks]
            raise ValueError(
                f'label_defence = "{self.label_defence}" is for model.task = "binary"; choose '
                f'{" or ".join(others)} for "{task}"'
            )
        if self.label_epsilon is not None and task not in RANDOMISED:
            raise ValueError(
                f'label_epsilon is for model.task = {" or ".join(RANDOMISED)}; for "{task}" choose '
                "label_defence = max_norm or iso"
            )
        if self.max_label_leak is not None and task != "binary":
            raise ValueError(
                f'max_label_leak is measured with model.task = "binary" only; for "{task}" choose '
                "label_defence = max_norm or iso, and leave it out"
            )
