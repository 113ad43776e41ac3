"""Estimators of scikit-learn over split training, for cross-validation, searches and pipelines.

They train by the schedules of `splitnn`, all parties in this process: to the bit what the parties would train
over the wire on these rows, with this split and these seeds. What comes before it is left out: rows are
aligned by their places, so nobody meets and nothing is intersected.
"""

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.model_selection import train_test_split
from sklearn.utils import check_consistent_length, check_random_state, column_or_1d
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from parties.contract import Contract
from parties.document import check
from parties.errors import ConfigError, DataError
from parties.features import Pipeline
from parties.network import Network, Part
from parties.phases import features_of, plan_of
from parties.sources.memory import InMemory
from parties.table import read_table
from parties.target import Target
from protos.memory import together
from splitnn.plan import Plan
from splitnn.schedule import Split
from splitnn.schedules import SCHEDULES
from splitnn.secure_sum import SECURE_SUM
from splitnn.tasks import Labels
from splitnn.threads import single_threaded

SECTIONS: Final = ("model", "training", "codec", "privacy")
"""Of run.toml, that say how a network is trained."""
BETWEEN: Final = "__"
"""A party's name and a column's, in the name of a column of X."""
ALONE: Final = "party"
"""What the label holder is called where columns do not tell."""


class _Federated(BaseEstimator):  # type: ignore[misc]
    """See `FederatedClassifier`."""

    def __init__(
        self,
        label_holder: str | None = None,
        parties: Mapping[str, Sequence[Any]] | None = None,
        contract: Mapping[str, Any] | None = None,
        validation: float = 0.15,
        random_state: Any = None,
    ) -> None:
        self.label_holder = label_holder
        self.parties = parties
        self.contract = contract
        self.validation = validation
        self.random_state = random_state

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.string = tags.input_tags.categorical = True
        return tags

    def _train(
        self, X: Any, labels: NDArray[Any], task: str, classes: Sequence[str], strata: NDArray[np.int64]
    ) -> None:
        draw = check_random_state(self.random_state)
        if not 0 < self.validation < 1:
            raise ValueError(f"validation must be a share of the rows between 0 and 1, not {self.validation}")
        columns = self._columns(X)
        names = [*columns]
        plan = self._plan(task, draw.randint(1 << 31))
        split = _split(strata, self.validation, draw)
        rows = split.train.numpy()
        features, pipelines = {}, {}
        for name in names:
            table = read_table(_source(X, name, columns[name]), ())
            pipelines[name] = Pipeline.fit(table, rows)
            for line in (*table.warnings, *pipelines[name].warnings):
                warnings.warn(line, stacklevel=3)
            features[name] = features_of(pipelines[name], table, np.arange(len(X)))
        train, held, tested = (torch.from_numpy(labels[part.numpy()]) for part in split)
        told = Labels(train, held, tested, classes)
        schedule, (hub, *others) = SCHEDULES[plan.schedule], names
        seeds = {name: draw.bytes(32) for name in names}
        parties: dict[str, Any] = {
            name: schedule.feature_holder(plan, split, features[name], hub, seeds[name]) for name in others
        }
        parties[hub] = schedule.label_holder(plan, split, features[hub], told, others, seeds[hub])
        with single_threaded():
            results = together(parties, transcript=False).results
        leading = results[hub]
        scale = leading.objective.location, leading.objective.scale
        self.columns_ = columns
        self.history_ = leading.history
        self.n_iter_ = leading.epochs
        self.network_ = Network(
            {name: Part(pipelines[name], results[name].bottom, {}) for name in names},
            leading.top,
            Target(task, plan.loss, leading.objective.names, *scale, None),
        )

    def _scores(self, X: Any) -> NDArray[Any]:
        check_is_fitted(self)
        X = self._checked(X, reset=False)
        return self.network_.scores(
            {name: _source(X, name, columns) for name, columns in self.columns_.items()}
        )

    def _checked(self, X: Any, reset: bool) -> Any:
        """A DataFrame, with the columns as text."""
        if isinstance(X, pd.DataFrame):
            if (twice := X.columns.duplicated()).any():
                raise DataError(f"X: column {X.columns[twice][0]!r} stands there twice; rename one of them")
            if isinstance(X.columns, pd.MultiIndex):
                raise DataError("X: its columns have several levels; give each one name")
            validate_data(self, X, reset=reset, skip_check_array=True)
            if not len(X):
                raise ValueError("Found array with 0 sample(s) while a minimum of 1 is required.")
            return X.set_axis(X.columns.astype(str), axis="columns")
        array = validate_data(self, X, reset=reset, ensure_all_finite="allow-nan")
        return pd.DataFrame(array, columns=[f"x{place}" for place in range(array.shape[1])])

    def _columns(self, X: pd.DataFrame) -> dict[str, list[str]]:
        """Of each party, the label holder's first."""
        found: dict[str, list[str]] = {}
        if self.parties is not None:
            if not isinstance(self.parties, Mapping) or not self.parties:
                raise ValueError("parties must be a dict of columns by the party's name")
            found = {name: [*columns] for name, columns in self.parties.items()}
            for name, columns in found.items():
                if absent := [column for column in columns if column not in X.columns]:
                    raise ValueError(f"parties: {name} has no column {absent[0]!r} in X")
            named = [column for columns in found.values() for column in columns]
            if len({*named}) < len(named):
                twice = next(column for column in named if named.count(column) > 1)
                raise ValueError(f"parties: column {twice!r} is named twice; one party has it")
        else:
            for column in X.columns:
                party, between, _ = str(column).partition(BETWEEN)
                found.setdefault(party if between else self.label_holder or ALONE, []).append(column)
        hub = self.label_holder if self.label_holder is not None else next(iter(found))
        if hub not in found:
            raise ValueError(f"label_holder: {hub!r} has no columns; there are {', '.join(sorted(found))}")
        return {hub: found[hub]} | {name: found[name] for name in sorted(found) if name != hub}

    def _plan(self, task: str, seed: int) -> Plan:
        """By the contract's rules: an unknown key is a ConfigError that names the nearest one."""
        asked, faults = dict(self.contract or {}), list[str]()
        where = Path("contract")
        for key in asked:
            if not isinstance(asked[key], Mapping):
                raise ConfigError(f"contract: {key}: must be a dict, as its section of run.toml")
        if other := [key for key in asked if key not in SECTIONS]:
            raise ConfigError(
                f"contract: {other[0]}: an estimator takes {', '.join(SECTIONS)}; `simulate` takes all"
            )
        tables = {
            "version": 1,
            "name": "estimator",
            "seed": seed,
            "label_holder": "a",
            "parties": {name: {"key": f"sha256:{name * 64}"} for name in "abc"},
            "ids": {"type": "integer"},
            "evaluation": {"importance": "none"},
        }
        model = {"task": task, **asked.get("model", {})}
        contract = check(Contract, tables | asked | {"model": model}, where, faults)
        if contract is None:
            raise ConfigError("\n".join(faults))
        if contract.model.task != task:
            raise ConfigError(f"contract: model.task: the labels are those of a {task} task; remove it")
        if contract.is_summed or contract.privacy.label_epsilon is not None:
            key = f"model.fusion = {SECURE_SUM!r}" if contract.is_summed else "privacy.label_epsilon"
            raise ConfigError(f"contract: {key}: needs parties who meet; use `simulate`")
        if contract.training.warm_start is not None or contract.privacy.expires is not None:
            raise ConfigError("contract: training.warm_start and privacy.expires are of runs; use `simulate`")
        return plan_of(contract)


class FederatedClassifier(ClassifierMixin, _Federated):  # type: ignore[misc]
    """A split network that tells classes apart.

    label_holder: the party that has y; by default the one of the first column. parties: which columns of X
    each party has; by default by their names, `party__column`, and columns without a party are the label
    holder's. contract: the sections model, training, codec and privacy of run.toml, as nested dicts.
    validation: the share of the rows by which the best epoch is chosen. random_state: as in scikit-learn; all
    that is drawn.

    X: a DataFrame, of whose columns numbers, texts and lists are told apart as in a table of `party run`; or
    numbers alone, as an array. y: anything that scikit-learn takes as classes.

    After `fit`: classes_, n_features_in_, feature_names_in_, n_iter_ (epochs), history_ (an entry an epoch),
    columns_ (by party) and network_.
    """

    def fit(self, X: Any, y: Any) -> Self:
        """Raises ValueError, as scikit-learn's do, and what reading a table and training raise."""
        X = self._checked(X, reset=True)
        y = _targets(X, y)
        check_classification_targets(y)
        self.classes_, codes = np.unique(y, return_inverse=True)
        count = len(self.classes_)
        if count < 2:
            raise ValueError(f"y has {count} class; at least 2 classes are needed")
        if count == 2:
            self._train(X, codes.astype(np.float32), "binary", (), codes)
        else:
            self._train(X, codes.astype(np.int64), "multiclass", [*map(str, range(count))], codes)
        return self

    def predict_proba(self, X: Any) -> NDArray[Any]:
        """[n, classes], in the order of classes_."""
        scores = self._scores(X).astype(np.float64)
        return np.stack([1 - scores, scores], axis=1) if scores.ndim == 1 else scores

    def predict(self, X: Any) -> NDArray[Any]:
        """[n], of classes_."""
        check_is_fitted(self)
        return np.asarray(self.classes_[self.predict_proba(X).argmax(axis=1)])


class FederatedRegressor(RegressorMixin, _Federated):  # type: ignore[misc]
    """The same for numbers, by `model.loss`: squared, huber or poisson."""

    def fit(self, X: Any, y: Any) -> Self:
        """Raises as `FederatedClassifier.fit`."""
        X = self._checked(X, reset=True)
        y = _targets(X, y).astype(np.float64)
        if not np.isfinite(y).all():
            raise ValueError("y contains NaN or infinity")
        self._train(X, y, "regression", (), (y > y.mean()).astype(np.int64))
        return self

    def predict(self, X: Any) -> NDArray[Any]:
        """[n], in the unit of y."""
        return self._scores(X).astype(np.float64)


def _source(X: pd.DataFrame, name: str, columns: list[str]) -> InMemory:
    return InMemory(X[columns], f"columns of {name}")


def _targets(X: pd.DataFrame, y: Any) -> NDArray[Any]:
    if y is None:
        raise ValueError("requires y to be passed, but the target y is None")
    y = column_or_1d(y, warn=True)
    check_consistent_length(X, y)
    return np.asarray(y)


def _split(strata: NDArray[np.int64], validation: float, draw: Any) -> Split:
    """Validation rows have the shares of the strata where there are enough of each. There are no test rows:
    whoever evaluates an estimator keeps his own; the schedule is shown the validation rows as those, too."""
    counts = np.bincount(strata)
    rows, kinds = len(strata), len(counts)
    size = max(round(rows * validation), kinds)
    if rows - size < kinds:
        raise ValueError(f"n_samples = {rows}: too few to train on some and to judge by others; use more")
    stratify = strata if counts.min() >= 2 else None
    train, held = train_test_split(np.arange(rows), test_size=size, random_state=draw, stratify=stratify)
    parts = torch.from_numpy(train), torch.from_numpy(held)
    return Split(*parts, parts[1])
