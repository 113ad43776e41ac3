"""The keys of party.toml that say what the label is and how examples are weighed, held against the task."""

import math
import re
from collections.abc import Iterator
from datetime import UTC, date, datetime, time
from typing import Annotated, Any, Final, Literal, TypeAlias

from pydantic import Field, PlainValidator


def _columns(value: object) -> tuple[str, ...]:
    columns = [value] if isinstance(value, str) else value
    if not isinstance(columns, list) or not columns or not all(isinstance(c, str) and c for c in columns):
        raise ValueError("must be a column, or a list of columns")
    return tuple(columns)


HEAVIEST: Final = 1e9
"""Of a class beside another. By far more, and the others weigh nothing in a float32."""


def _weights(value: object) -> Literal["balanced"] | dict[str, float]:
    if value == "balanced":
        return "balanced"
    numbers = list(value.values()) if isinstance(value, dict) else []
    if not numbers or not all(type(n) in (int, float) and 0 < n < math.inf for n in numbers):
        raise ValueError('must be "balanced", or a table with a number above 0 for a class')
    if not all(1 / HEAVIEST <= n <= HEAVIEST for n in numbers):
        raise ValueError(f"holds a weight that is not from {1 / HEAVIEST:g} to {HEAVIEST:g}")
    assert isinstance(value, dict)
    return {name: float(weight) for name, weight in value.items()}


LabelColumns: TypeAlias = Annotated[
    tuple[str, ...], PlainValidator(_columns), Field(description="a column, or a list of columns")
]
"""party.toml's `data.label`; several columns are the targets of a multi-label task."""

ClassWeights: TypeAlias = Annotated[
    Literal["balanced"] | dict[str, float],
    PlainValidator(_weights),
    Field(description="`balanced`, or a table of numbers, 1e-9 to 1e9"),
]
"""party.toml's `data.class_weights`: of each class; of a multi-label task, of the yes of each target."""


CALIBRATED = {"temperature": ("binary", "multiclass", "multilabel"), "isotonic": ("binary", "multilabel")}
"""The tasks that each method of calibration fits; `splitnn.calibration` has them."""


def faults_of_calibration(method: object, task: object) -> Iterator[str]:
    """What `evaluation.calibration` and the contract's `model.task` only say together."""
    fitting = CALIBRATED.get(str(method))
    if fitting and task not in fitting:
        yield (
            f'evaluation.calibration: "{method}" is for model.task = {" or ".join(fitting)} of run.toml; '
            'set it to "none"'
        )


def faults_of_examples(data: dict[str, Any], per_entity: object) -> Iterator[str]:
    """What `data.duplicates` and the contract's `examples.per_entity` only say together."""
    if per_entity == "several" and data.get("duplicates") == "refuse":
        yield (
            'data.duplicates: with examples.per_entity = "several" of run.toml, rows of one id are its '
            "examples; remove it"
        )


UNITS: Final = {"m": 60, "h": 3_600, "d": 86_400}


def seconds(duration: str) -> int:
    """Of a text such as `36h` or `7d`."""
    return int(duration[:-1]) * UNITS[duration[-1]]


def _duration(value: object) -> str:
    if isinstance(value, str) and re.fullmatch(r"[1-9][0-9]{0,5}[mhd]", value):
        return value
    raise ValueError("must be a text such as 90m, 36h or 7d")


def _moment(value: object) -> datetime:
    """UTC, without a zone. A date is its first moment."""
    if isinstance(value, datetime):
        return (value if value.tzinfo is None else value.astimezone(UTC)).replace(tzinfo=None)
    if isinstance(value, date):
        return datetime.combine(value, time())
    raise ValueError("must be a date or a time without quotes, such as 2026-11-20 or 2026-11-20T08:30:00Z")


Duration: TypeAlias = Annotated[
    str,
    PlainValidator(_duration),
    Field(description="`90m`, `36h`, `7d` and the like, up to 999,999 of a unit"),
]
"""party.toml's `data.window` and `data.maturity`."""

Moment: TypeAlias = Annotated[
    datetime, PlainValidator(_moment), Field(description="a date or a time, without quotes")
]
"""party.toml's `data.as_of`."""

DELAY = ("event_time", "window", "label_time", "maturity", "as_of")
"""Keys of `data` that say when a label is final (`parties.delay`): the first two go together, the others
need them."""


def faults_of_delay(data: dict[str, Any]) -> Iterator[str]:
    """What they only say together (a raw table)."""
    given = [key for key in DELAY if key in data]
    for key in DELAY[:2]:
        if given and key not in given:
            yield f"data.{key}: missing, beside data.{given[0]}; give both, or remove it"
    try:
        shorter = seconds(_duration(data["maturity"])) < seconds(_duration(data["window"]))
    except (KeyError, ValueError):
        return  # a fault of its own
    if shorter:
        yield "data.maturity: shorter than data.window, within which a no may become a yes; raise it"


def told_of_delay(facts: dict[str, Any]) -> str:
    """What came of these keys, as `parties.delay.Delay.facts` has it, in words."""
    return (
        f"labels as of {facts['as_of']}: {facts['immature']:,} row(s) too young to be final take no part, "
        f"{facts['late']:,} yes after the window count as no"
    )


OF_LABEL_HOLDER = ("label", "positive", "weight", "class_weights", "rank_within", "ndcg_at", *DELAY)
"""Keys of party.toml's `data` that no other party has."""

WEIGHTS = ("weight", "class_weights")
"""Of these keys: what may tell a row's label by how much the row counts."""


def faults_of_privacy(data: dict[str, Any], label_epsilon: object) -> Iterator[str]:
    """What they and the contract's `privacy.label_epsilon` only say together."""
    for key in WEIGHTS:
        if key in data and label_epsilon is not None:
            yield f"data.{key}: may tell the label, which privacy.label_epsilon of run.toml hides; remove it"


NOT_FOR = {
    "positive": ("multiclass", "regression"),
    "class_weights": ("regression",),
    "rank_within": ("multiclass", "regression"),
    "ndcg_at": ("multiclass", "regression"),
    "label_time": ("multiclass", "multilabel", "regression"),
}
"""Of these the tasks in which they have no meaning."""


def faults_of_task(data: dict[str, Any], task: object) -> Iterator[str]:
    """What the label's keys (a raw table) and the contract's `model.task` only say together."""
    label = data.get("label")
    if task != "multilabel" and isinstance(label, list) and len(label) > 1:
        yield 'data.label: several columns are for model.task = "multilabel" of run.toml; name one'
    if task == "multilabel" and (isinstance(label, str) or (isinstance(label, list) and len(label) == 1)):
        yield 'data.label: model.task = "multilabel" of run.toml is for several columns; list them'
    for key, without in NOT_FOR.items():
        if key in data and task in without:
            yield f'data.{key}: not for model.task = "{task}" of run.toml; remove it'
