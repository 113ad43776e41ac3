"""From one party's columns to numbers for its bottom model.

Everything is learned from the rows given to `fit`, the party's own aligned training rows: nothing is asked of
other parties, and nothing is taken from validation or test rows. `docs/data.md` says the rules in prose.

A fitted pipeline holds level names and statistics of the party's data: it stays in the party's own folder.
"""

import json
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from parties.errors import DataError
from parties.table import Table

VERSION: Final = 1
HEAVY_TAIL: Final = 1.0
"""Absolute skewness from which a column is put on a log scale."""
FARTHEST: Final = 8.0
"""Standard deviations; what lies beyond counts as that far, so that one odd value cannot swamp a batch."""
RARE: Final = 10
"""Occurrences below which a level shares one code with all unseen ones: too few to learn from."""
MISSING, OTHER = 0, 1
"""Codes of every categorical column; its own levels follow."""


@dataclass(frozen=True)
class Numeric:
    """value -> ((log scale of value) - mean) / deviation; missing -> 0, the mean.

    unit: 0 for a linear scale; otherwise sign(x) log(1 + |x| / unit). flagged: some values were missing at
    fit, so a column of its own says 1 where the value is missing. A column that is missing for the first time
    when scoring has no flag: the mean is all that the model knows.
    """

    name: str
    unit: float
    mean: float
    deviation: float
    flagged: bool


@dataclass(frozen=True)
class Categorical:
    """Code 0: missing; 1: unseen, or rarer than RARE at fit; 2 and on: `names`, the most frequent first."""

    name: str
    names: tuple[str, ...]


@dataclass(frozen=True)
class Pipeline:
    """A fitted pipeline. warnings: one line for each column of the table that it leaves out."""

    numeric: tuple[Numeric, ...]
    categorical: tuple[Categorical, ...]
    warnings: tuple[str, ...] = ()

    @classmethod
    def fit(cls, table: Table, rows: NDArray[np.int64]) -> "Pipeline":
        """Learn from these rows of the table. DataError if none of its columns tells them apart."""
        numeric = {
            name: _fit_numeric(str(name), table.numeric[name].to_numpy()[rows]) for name in table.numeric
        }
        categorical = {
            name: _fit_categorical(table.categorical[name].iloc[rows]) for name in table.categorical
        }
        constant = [name for name, fitted in [*numeric.items(), *categorical.items()] if fitted is None]
        if len(constant) == len(numeric) + len(categorical):
            raise DataError(
                f"{table.file}: every column is the same in all {len(rows)} training rows; add columns"
            )
        return cls(
            tuple(fitted for fitted in numeric.values() if fitted),
            tuple(fitted for fitted in categorical.values() if fitted),
            tuple(
                f"{table.file}: column {name!r} is left out: constant in the training rows"
                for name in constant
            ),
        )

    @property
    def levels(self) -> tuple[int, ...]:
        """How many codes each categorical column has."""
        return tuple(len(column.names) + 2 for column in self.categorical)

    @property
    def width(self) -> int:
        """Columns of the numeric output: the values, then the flags."""
        return len(self.numeric) + sum(column.flagged for column in self.numeric)

    def transform(
        self, table: Table, rows: NDArray[np.int64]
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """These rows, in this order: numeric float32 [n, width] and codes int64 [n, categorical columns].

        DataError if the table lacks a column of the fit, or holds it as another kind.
        """
        for wanted, have in ((self.numeric, table.numeric), (self.categorical, table.categorical)):
            if absent := [column.name for column in wanted if column.name not in have]:
                raise DataError(
                    f"{table.file}: the model was trained with column {absent[0]!r}, which is not here"
                )
        numbers = np.zeros((len(rows), self.width), dtype=np.float32)
        flag = len(self.numeric)
        for place, column in enumerate(self.numeric):
            values = table.numeric[column.name].to_numpy()[rows]
            standard = (_scaled(values, column.unit) - column.mean) / column.deviation
            numbers[:, place] = np.nan_to_num(np.clip(standard, -FARTHEST, FARTHEST), nan=0.0)
            if column.flagged:
                numbers[:, flag] = np.isnan(values)
                flag += 1
        codes = np.zeros((len(rows), len(self.categorical)), dtype=np.int64)
        for place, level in enumerate(self.categorical):
            cells = table.categorical[level.name].iloc[rows]
            found = pd.Index(level.names, dtype=object).get_indexer(pd.Index(cells, dtype=object)) + 2
            codes[:, place] = np.where(cells.isna(), MISSING, np.maximum(found, OTHER))
        return numbers, codes

    def to_json(self) -> str:
        return json.dumps(
            {
                "version": VERSION,
                "numeric": [vars(column) for column in self.numeric],
                "categorical": [vars(column) for column in self.categorical],
            },
            indent=1,
        )

    @classmethod
    def from_json(cls, text: str) -> "Pipeline":
        """DataError for what `to_json` of this version did not write."""
        try:
            kept: dict[str, Any] = json.loads(text)
            if kept["version"] != VERSION:
                raise DataError(
                    f"the feature pipeline has version {kept['version']}, not {VERSION}; train again"
                )
            return cls(
                tuple(Numeric(**column) for column in kept["numeric"]),
                tuple(Categorical(column["name"], tuple(column["names"])) for column in kept["categorical"]),
            )
        except (ValueError, KeyError, TypeError):
            raise DataError("the feature pipeline is damaged; restore it, or train again") from None


def _fit_numeric(name: str, values: NDArray[np.float64]) -> Numeric | None:
    """None for a constant column."""
    present = values[~np.isnan(values)]
    flagged = len(present) < len(values)
    if not len(present) or (_constant(present) and not flagged):
        return None
    unit = 0.0 if _constant(present) else _unit(present)
    scaled = _scaled(present, unit)
    deviation = 1.0 if _constant(scaled) else float(scaled.std())
    return Numeric(name, unit, float(scaled.mean()), deviation, flagged)


def _unit(values: NDArray[np.float64]) -> float:
    """The unit of the log scale if the values have a heavy tail and a log scale shortens it; otherwise 0.

    It is the median size, so that nothing depends on whether minutes or seconds were written.
    """
    size = np.abs(values[values != 0])
    unit = max(float(np.median(size)), 1e-30 * float(size.max()))
    skewness = abs(_skewness(values))
    return unit if skewness > HEAVY_TAIL and abs(_skewness(_scaled(values, unit))) < skewness else 0.0


def _scaled(values: NDArray[np.float64], unit: float) -> NDArray[np.float64]:
    return np.sign(values) * np.log1p(np.abs(values) / unit) if unit else values


def _constant(values: NDArray[np.float64]) -> bool:
    """Up to rounding: a deviation this small against the values is noise of the sum itself."""
    return bool(values.std() <= 1e-12 * np.abs(values).max())


def _skewness(values: NDArray[np.float64]) -> float:
    standard = (values - values.mean()) / values.std()
    return float(np.mean(standard**3))


def _fit_categorical(cells: "pd.Series[Any]") -> Categorical | None:
    """None for a constant column."""
    counts = cells.value_counts()
    frequent = sorted(((-int(count), str(name)) for name, count in counts.items() if count >= RARE))
    rest = int(cells.isna().sum() > 0) + int(len(frequent) < len(counts))
    return (
        Categorical(str(cells.name), tuple(name for _, name in frequent))
        if len(frequent) + rest > 1
        else None
    )
