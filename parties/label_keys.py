"""The keys of party.toml that say what the label is and how examples are weighed, held against the task."""

import math
from collections.abc import Iterator
from typing import Annotated, Any, Final, Literal, TypeAlias

from pydantic import PlainValidator


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


LabelColumns: TypeAlias = Annotated[tuple[str, ...], PlainValidator(_columns)]
"""party.toml's `data.label`; several columns are the targets of a multi-label task."""

ClassWeights: TypeAlias = Annotated[Literal["balanced"] | dict[str, float], PlainValidator(_weights)]
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


OF_LABEL_HOLDER = ("label", "positive", "weight", "class_weights", "rank_within", "ndcg_at")
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
