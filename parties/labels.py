"""The label holder's labels as its task needs them, and how the training examples are weighed.

Errors name the column and the row (numbered from 1, a header not counted), never what a cell holds.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from parties.columns.cells import LARGEST, NO_NUMBER
from parties.errors import DataError
from parties.table import Table

if TYPE_CHECKING:
    from parties.config import Config
    from parties.contract_training import Model
    from parties.party_toml import Data
    from splitnn.schedule import Split
    from splitnn.tasks import Labels

MOST_CLASSES: Final = 1000
"""More are a number or a key that was named as the label by mistake."""
BOOLEANS: Final = {"true": 1.0, "1": 1.0, "false": 0.0, "0": 0.0}
NO_AND_YES: Final = ("no", "yes")
"""The classes of a binary label, as `data.class_weights` calls them."""


@dataclass(frozen=True)
class OwnLabels:
    """Of every row of the table. values, names: as `splitnn.tasks.Labels` has them.

    weights: float64 [rows], at least 0; None where there is no such column.
    class_weights: float64, of each class; of a multi-label task, of each target's yes. None: all alike;
    "balanced": from the training rows.
    lists: int64 [rows], in which list each is ranked; None where there is no such column. ndcg_at: the k of
    NDCG@k.
    """

    values: NDArray[Any]
    names: tuple[str, ...] = ()
    weights: NDArray[np.float64] | None = None
    class_weights: NDArray[np.float64] | str | None = None
    lists: NDArray[np.int64] | None = None
    ndcg_at: int = 10

    def of(self, rows: NDArray[np.int64], split: "Split", entities: "Split | None" = None) -> "Labels":
        """The labels of these rows of the table, split. split: places in `rows`, repeats allowed.

        entities: where there are several examples an entity, that of each; an entity is then a list, unless
        `lists` says otherwise. Of the training part nothing is ranked.
        """
        import torch  # `party check` needs no network

        from splitnn.ranking import Lists
        from splitnn.tasks import Labels

        of_part = [rows[part.numpy()] for part in split]
        train = of_part[0]
        factors = self._class_factors(self.values[train])
        if self.weights is not None:
            own = self.weights[train]
            own = own[:, None] if self.values.ndim == 2 else own
            factors = own if factors is None else factors * own
        training, validation, test = (torch.from_numpy(self.values[part]) for part in of_part)
        weights = None if factors is None else torch.from_numpy(factors)
        lists = Lists(at=self.ndcg_at)
        if self.lists is not None:
            judged, tested = (torch.from_numpy(self.lists[part]) for part in of_part[1:])
            lists = Lists(judged, tested, self.ndcg_at)
        elif entities is not None:
            lists = Lists(entities.validation, entities.test, self.ndcg_at)
        return Labels(training, validation, test, self.names, weights, lists)

    def _class_factors(self, train: NDArray[Any]) -> NDArray[np.float64] | None:
        """[n], or [n, targets]: the weight of each label's class."""
        if self.class_weights is None:
            return None
        balanced = isinstance(self.class_weights, str)
        if train.ndim == 2:
            share = train.mean(0, dtype=np.float64)
            # A target with one class only has nothing to balance; the task says so where that matters.
            yes = (1 - share) / np.where(share > 0, share, 1) if balanced else self.class_weights
            return np.where(train == 1, yes, 1.0)
        codes = train.astype(np.int64)
        if balanced:
            count = np.bincount(codes)
            return np.asarray(len(codes) / np.maximum(count, 1))[codes]
        return np.asarray(self.class_weights)[codes]


def own_labels(
    table: Table, model: "Model", data: "Data", takes_part: NDArray[np.bool_] | None = None
) -> OwnLabels:
    """The table's labels for the contract's task. takes_part: [rows]; nothing is read of the others, which
    have zeros. None: all do. DataError for labels or weights that do not fit the task, and where no row takes
    part."""
    if takes_part is not None and not takes_part.any():
        raise DataError("no row takes part: each has an id of data.exclude_ids")

    def read(column: "pd.Series[Any]") -> "pd.Series[Any]":
        return column if takes_part is None else column[takes_part]

    def whole(values: NDArray[Any]) -> NDArray[Any]:
        if takes_part is None:
            return values
        found = np.zeros((len(takes_part), *values.shape[1:]), values.dtype)
        found[takes_part] = values
        return found

    columns = [read(table.labels[name]) for name in table.labels]
    names: tuple[str, ...] = ()
    values: NDArray[Any]
    if model.task == "multiclass":
        values, names = classes(columns[0])
    elif model.task == "multilabel":
        values = np.stack([yes_or_no(column, data.positive) for column in columns], axis=1)
        names = tuple(str(column.name) for column in columns)
    elif model.task == "regression":
        values = numbers(columns[0], counts=model.loss == "poisson")
    else:
        values = yes_or_no(columns[0], data.positive)
    weights = None if table.weight is None else whole(example_weights(read(table.weight)))
    given: Any = data.class_weights
    if given is not None and not isinstance(given, str):
        given = _named_weights(given, names or NO_AND_YES)
    lists = None if table.rank_within is None else whole(list_of(read(table.rank_within)))
    return OwnLabels(whole(values), names, weights, given, lists, data.ndcg_at)


def facts_of(labels: OwnLabels, config: "Config") -> dict[str, Any]:
    """For `party check`. How many classes there are, not which: their names are cells."""
    own, model = config.party.data, config.contract.model
    return {
        "columns": [*own.label],
        "task": model.task,
        "loss": model.loss,
        "classes": len(labels.names) if model.task == "multiclass" else None,
        "weight": own.weight,
        "class_weights": labels.class_weights is not None,
        "rank_within": own.rank_within,
    }


def told_of(facts: dict[str, Any]) -> str:
    """The same in words."""
    classes = f", {facts['classes']:,} classes" if facts["classes"] else ""
    by = [f"the column {facts['weight']}"] if facts["weight"] else []
    by += ["class"] if facts["class_weights"] else []
    weighed = f"; rows are weighed by {' and by '.join(by)}" if by else ""
    ranked = f"; ranked within each {facts['rank_within']}" if facts["rank_within"] else ""
    return f"{', '.join(facts['columns'])}: {facts['task']}{classes}, {facts['loss']} loss{weighed}{ranked}"


def yes_or_no(column: "pd.Series[Any]", positive: Sequence[Any] = ()) -> NDArray[np.float32]:
    """A label as 0 and 1, float32 [rows].

    Without `positive`, cells must be true / false or 0 / 1; with it, cells equal to one of its values are 1
    and all others 0. 1, 1.0 and "1" are equal, and so are true and "True". DataError for empty cells, for a
    class that is neither, and for a column of one class only.
    """
    name = f"label column {str(column.name)!r}"
    codes, spelled = _spelled(column, name)
    if positive:
        wanted = {_spelling(value) for value in positive}
        target = [float(text in wanted) for text in spelled]
    elif all(text in BOOLEANS for text in spelled):
        target = [BOOLEANS[text] for text in spelled]
    else:
        task = "regression" if all(map(_is_number, spelled)) else "multiclass"
        raise DataError(
            f"{name}: neither true / false nor 0 / 1; name the values that mean yes in data.positive, or "
            f'agree on another model.task in run.toml, such as "{task}"'
        )
    values = np.array(target, dtype=np.float32)[codes]
    if values.min() == values.max():
        only = "yes" if values[0] else "no"
        raise DataError(
            f"{name}: every row is a {only}: nothing to learn; check data.label and the spelling in "
            "data.positive"
        )
    return values


def classes(column: "pd.Series[Any]") -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """A label as places int64 [rows] among its classes, and these: numbers by size, or texts in order.

    DataError for empty cells, for one class only, and for more than MOST_CLASSES.
    """
    name = f"label column {str(column.name)!r}"
    codes, spelled = _spelled(column, name)
    distinct = set(spelled)
    if len(distinct) < 2:
        raise DataError(f"{name}: every row is of one class: nothing to learn; check data.label")
    if len(distinct) > MOST_CLASSES:
        raise DataError(
            f"{name}: {len(distinct):,} classes, of at most {MOST_CLASSES:,}; for numbers, agree on "
            'model.task = "regression" in run.toml'
        )
    names = (
        sorted(distinct, key=lambda text: (float(text), text))
        if all(map(_is_number, distinct))
        else sorted(distinct)
    )
    place = {text: code for code, text in enumerate(names)}
    return np.array([place[text] for text in spelled], dtype=np.int64)[codes], tuple(names)


def numbers(column: "pd.Series[Any]", *, counts: bool) -> NDArray[np.float64]:
    """A label as numbers, float64 [rows]. counts: none may be negative.

    DataError for cells that are empty, no number, infinite, or beyond LARGEST, and for one value only.
    """
    name = f"label column {str(column.name)!r}"
    values = _numbers(column, name)
    if counts:
        _refuse(
            values < 0, column.index, name, "negative", 'model.loss = "poisson" is for counts and amounts'
        )
    if values.min() == values.max():
        raise DataError(f"{name}: every row has one value: nothing to learn; check data.label")
    return values


def example_weights(column: "pd.Series[Any]") -> NDArray[np.float64]:
    """DataError for cells that are empty, no number, infinite or negative, and where all are 0."""
    name = f"weight column {str(column.name)!r}"
    values = _numbers(column, name)
    _refuse(values < 0, column.index, name, "negative", "0 is the least that a row can weigh")
    if not values.any():
        raise DataError(f"{name}: every row weighs 0: nothing to learn; check data.weight")
    return values


def list_of(column: "pd.Series[Any]") -> NDArray[np.int64]:
    """A number for each distinct cell, int64 [rows]. DataError for empty cells."""
    codes, distinct = pd.factorize(column)
    empty = np.array([*(value == "" for value in distinct), True])[codes]
    _refuse(empty, column.index, f"column {str(column.name)!r}", "empty", "fill or remove them")
    return np.asarray(codes, dtype=np.int64)


def _named_weights(given: dict[str, float], names: Sequence[str]) -> NDArray[np.float64]:
    """Of each class, 1 where none is given."""
    place = {name: code for code, name in enumerate(names)}
    found = np.ones(len(names))
    for name, weight in given.items():
        spelled = name if name in place else _spelling(name)
        if spelled not in place:
            known = "; a binary label's classes are called no and yes" if names is NO_AND_YES else ""
            raise DataError(
                f"data.class_weights: the label has no {ascii(name)[:80]}; correct or remove it{known}"
            )
        found[place[spelled]] = weight
    return found


def _spelled(column: "pd.Series[Any]", name: str) -> tuple[NDArray[np.int64], list[str]]:
    """Of each row the place of its cell in a list of distinct cells, spelled one way. None is empty."""
    codes, distinct = pd.factorize(column)
    spelled = [*(_spelling(value) for value in distinct), ""]  # factorize gives a missing cell the code -1
    empty = np.array([not text or text in NO_NUMBER for text in spelled])[codes]
    _refuse(empty, column.index, name, "empty", "fill or remove them")
    return codes, spelled[:-1]


def _numbers(column: "pd.Series[Any]", name: str) -> NDArray[np.float64]:
    if column.dtype.kind in "mM":
        raise DataError(f"{name}: holds times, not numbers")
    missing = column.isna() | column.isin(["", *NO_NUMBER])
    _refuse(missing.to_numpy(), column.index, name, "empty", "fill or remove them")
    values = pd.to_numeric(column, errors="coerce").to_numpy(dtype=np.float64)
    _refuse(np.isnan(values), column.index, name, "non-numeric", "mend them, or name another column")
    _refuse(np.abs(values) > LARGEST, column.index, name, "infinite or absurdly large", "mend them")
    return values


def _refuse(bad: NDArray[np.bool_], rows: "pd.Index[Any]", name: str, kind: str, advice: str) -> None:
    """rows: of the table."""
    if bad.any():
        first = int(rows[int(np.argmax(bad))]) + 1
        raise DataError(f"{name}: {int(bad.sum())} {kind} cell(s), the first in row {first}; {advice}")


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _spelling(value: Any) -> str:
    """One text for values that a CSV and a TOML file would write differently."""
    text = str(value).strip()
    try:
        number = float(text)
    except ValueError:
        return text.lower() if text.lower() in BOOLEANS else text
    if abs(number) >= 1 << 53:  # as a float, it might be another class
        return text
    return str(int(number)) if number.is_integer() else str(number)
