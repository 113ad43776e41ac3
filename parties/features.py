"""From one party's columns to numbers for its bottom model.

Everything is learned from the rows given to `fit`, the party's own aligned training rows: nothing is asked of
other parties, and nothing is taken from validation or test rows. `docs/data.md` says the rules in prose.

A fitted pipeline holds level names and statistics of the party's data: it stays in the party's own folder.
"""

import hashlib
import json
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from statistics import NormalDist
from typing import Any, Final, TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from parties.bags import Bags
from parties.errors import DataError
from parties.scratch import empty
from parties.table import Table

VERSION: Final = 2
HEAVY_TAIL: Final = 1.0
"""Absolute skewness beyond which a column is replaced by its normal scores."""
KNOTS: Final = 200
"""Quantiles kept of such a column."""
FARTHEST: Final = 8.0
"""Standard deviations; what lies beyond counts as that far, so that one odd value cannot swamp a batch."""
RARE: Final = 10
"""Occurrences below which a level shares one code with all unseen ones: too few to learn from."""
LEVELS_AT_MOST: Final = 10_000
"""Levels with a code of their own. Beyond, a step over all embeddings would take longer than all the rest."""
Places: TypeAlias = tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]
"""Of columns in the numeric output, in the categorical one, and among the bags."""
MISSING, OTHER = 0, 1
"""Codes of every categorical column; its own levels follow."""


@dataclass(frozen=True)
class Numeric:
    """value -> (value - mean) / deviation; missing -> 0, the mean.

    knots: empty for a linear scale. Otherwise the value is first replaced by its normal score, interpolated
    between `knots` (increasing) and their `scores`: the median becomes 0, and 97.5 % of rows are below 1.96.
    flagged: some values were missing at fit, so a column of its own says 1 where the value is missing. A
    column missing for the first time when scoring has no flag: the mean is all that the model knows.
    """

    name: str
    knots: tuple[float, ...]
    scores: tuple[float, ...]
    mean: float
    deviation: float
    flagged: bool

    def standard(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """[n], NaN where missing."""
        if self.knots:
            values = np.interp(values, self.knots, self.scores)
        return np.clip((values - self.mean) / self.deviation, -FARTHEST, FARTHEST)


@dataclass(frozen=True)
class Categorical:
    """Code 0: missing; 1: unseen, or rarer than RARE at fit; 2 and on: `names`, the most frequent first.

    buckets: 0, or of a column with too many levels: it has no names, and two codes, each 1 + a hash of the
    level modulo `buckets`. Two levels that share one of their embeddings hardly ever share both (Svenstrup
    et al. 2017, section 2), so any number of levels fits into the memory of 2 * buckets.
    """

    name: str
    names: tuple[str, ...]
    buckets: int = 0

    @property
    def levels(self) -> tuple[int, ...]:
        return (self.buckets + 1,) * 2 if self.buckets else (len(self.names) + 2,)

    def codes(self, cells: "pd.Series[Any]") -> NDArray[np.int64]:
        """[n, 1], or [n, 2] where hashed."""
        if not self.buckets:
            found = pd.Index(self.names, dtype=object).get_indexer(pd.Index(cells, dtype=object)) + 2
            return np.where(cells.isna(), MISSING, np.maximum(found, OTHER)).astype(np.int64)[:, None]
        place, uniques = pd.factorize(cells)  # -1: missing
        digests = b"".join(hashlib.blake2b(str(name).encode(), digest_size=16).digest() for name in uniques)
        hashed = np.frombuffer(digests, "<u8").reshape(-1, 2) % np.uint64(self.buckets) + np.uint64(1)
        missing = np.full((1, 2), MISSING, dtype=np.int64)
        return np.concatenate((hashed.astype(np.int64), missing))[place]


@dataclass(frozen=True)
class Pipeline:
    """A fitted pipeline. bags: coded entry by entry, as the cells of a categorical column; none is missing.

    warnings: one line for each column of the table that it leaves out.
    """

    numeric: tuple[Numeric, ...]
    categorical: tuple[Categorical, ...]
    warnings: tuple[str, ...] = ()
    bags: tuple[Categorical, ...] = ()

    @classmethod
    def fit(cls, table: Table, rows: NDArray[np.int64]) -> "Pipeline":
        """Learn from these rows of the table. DataError if none of its columns tells them apart."""
        numbers, texts = table.numeric, table.categorical
        numeric = [(str(name), _fit_numeric(str(name), numbers[name].to_numpy()[rows])) for name in numbers]
        categorical = [(str(name), _fit_categorical(texts[name].iloc[rows])) for name in texts]
        bags = [(name, _fit_bags(name, column, rows)) for name, column in table.bags.items()]
        constant = [name for name, fitted in [*numeric, *categorical, *bags] if fitted is None]
        if len(constant) == len(numeric) + len(categorical) + len(bags):
            raise DataError(f"{table.source}: no column varies in the {len(rows)} training rows; add others")
        return cls(
            tuple(fitted for _, fitted in numeric if fitted),
            tuple(fitted for _, fitted in categorical if fitted),
            tuple(f"{table.source}: column {name!r} is left out: constant in training" for name in constant),
            tuple(fitted for _, fitted in bags if fitted),
        )

    @property
    def levels(self) -> tuple[int, ...]:
        """How many codes each column of the categorical output has."""
        return tuple(levels for column in self.categorical for levels in column.levels)

    @property
    def bag_levels(self) -> tuple[int, ...]:
        """How many codes each bag has; a hashed column makes two bags."""
        return tuple(levels for column in self.bags for levels in column.levels)

    @property
    def width(self) -> int:
        """Columns of the numeric output: the values, then the flags."""
        return len(self.numeric) + sum(column.flagged for column in self.numeric)

    def groups(self, named: Mapping[str, Sequence[str]]) -> dict[str, Places]:
        """Where each group is in the numeric output, the categorical one and the bags: those `named`, then
        each other column by itself. Flags, and both codes of a hashed level, go with their column; a group of
        which no column is left is none.
        """
        places: dict[str, Places] = {}
        flag = len(self.numeric)
        for place, numeric in enumerate(self.numeric):
            places[numeric.name] = (place, *range(flag, flag + numeric.flagged)), (), ()
            flag += numeric.flagged
        code = bag = 0
        for column in self.categorical:
            places[column.name] = (), (*range(code, code + len(column.levels)),), ()
            code += len(column.levels)
        for column in self.bags:
            places[column.name] = (), (), (*range(bag, bag + len(column.levels)),)
            bag += len(column.levels)
        found: dict[str, Places] = {}
        for name, columns in named.items():
            parts = [places.pop(column) for column in columns if column in places]
            if parts:
                numbers, codes, bags = (tuple(chain(*each)) for each in zip(*parts, strict=True))
                found[name] = numbers, codes, bags
        return found | places

    def transform(
        self, table: Table, rows: NDArray[np.int64]
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """These rows, in this order: numeric float32 [n, width] and codes int64 [n, len(levels)].

        DataError if the table lacks a column of the fit, or holds it as another kind.
        """
        _refuse_absent(table, self.numeric, table.numeric)
        _refuse_absent(table, self.categorical, table.categorical)
        numbers = np.zeros((len(rows), self.width), dtype=np.float32)
        flag = len(self.numeric)
        for place, column in enumerate(self.numeric):
            values = table.numeric[column.name].to_numpy()[rows]
            numbers[:, place] = np.nan_to_num(column.standard(values), nan=0.0)
            if column.flagged:
                numbers[:, flag] = np.isnan(values)
                flag += 1
        codes = [np.zeros((len(rows), 0), dtype=np.int64)]
        codes += [level.codes(table.categorical[level.name].iloc[rows]) for level in self.categorical]
        return numbers, np.concatenate(codes, axis=1)

    def bagged(
        self, table: Table, rows: NDArray[np.int64]
    ) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
        """Of each bag, these rows in this order: codes int64 [total], and offsets [n + 1] that part them by
        row; codes on disk, where they are large. Errors as of `transform`, and StorageError."""
        _refuse_absent(table, self.bags, table.bags)
        found = []
        for column in self.bags:
            bags = table.bags[column.name]
            places, offsets = bags.entries(rows)
            for code in column.codes(bags.names).T:
                codes = empty(table.scratch, places.shape, np.int64)
                found.append((np.take(code, places, out=codes, mode="clip"), offsets))
        return found

    def to_json(self) -> str:
        return json.dumps(
            {
                "version": VERSION,
                "numeric": [vars(column) for column in self.numeric],
                "categorical": [vars(column) for column in self.categorical],
                "bags": [vars(column) for column in self.bags],
            },
            indent=1,
        )

    @classmethod
    def from_json(cls, text: str) -> "Pipeline":
        """DataError for what `to_json` of this version did not write."""
        try:
            kept: dict[str, Any] = json.loads(text)
            if kept["version"] != VERSION:
                raise DataError(f"the feature pipeline is of version {kept['version']}; train again")
            return cls(
                tuple(Numeric(**{key: _frozen(value) for key, value in c.items()}) for c in kept["numeric"]),
                tuple(Categorical(c["name"], tuple(c["names"]), c["buckets"]) for c in kept["categorical"]),
                (),
                tuple(Categorical(c["name"], tuple(c["names"]), c["buckets"]) for c in kept["bags"]),
            )
        except (ValueError, KeyError, TypeError, RecursionError):
            raise DataError("the feature pipeline is damaged; restore it, or train again") from None


def _fit_numeric(name: str, values: NDArray[np.float64]) -> Numeric | None:
    """None for a constant column."""
    present = values[~np.isnan(values)]
    flagged = len(present) < len(values)
    if not len(present) or (_constant(present) and not flagged):
        return None
    knots, scores = _normal_scores(present) if _heavy_tailed(present) else ((), ())
    if len(knots) < 2:  # all but a few rows are equal: their difference is all there is to keep
        knots, scores = (), ()
    scaled = np.interp(present, knots, scores) if knots else present
    deviation = 1.0 if _constant(scaled) else float(scaled.std())
    return Numeric(name, knots, scores, float(scaled.mean()), deviation, flagged)


def _normal_scores(values: NDArray[np.float64]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """KNOTS quantiles, at ranks (i - 1/2) / KNOTS, and their scores; equal ones share their mean rank."""
    rank = (np.arange(KNOTS) + 0.5) / KNOTS
    knots, place, times = np.unique(np.quantile(values, rank), return_inverse=True, return_counts=True)
    mean_rank = np.bincount(place, weights=rank) / times
    return tuple(knots.tolist()), tuple(NormalDist().inv_cdf(share) for share in mean_rank)


def _constant(values: NDArray[np.float64]) -> bool:
    """Up to rounding: a deviation this small against the values is noise of the sum itself."""
    return bool(values.std() <= 1e-12 * np.abs(values).max())


def _heavy_tailed(values: NDArray[np.float64]) -> bool:
    if _constant(values):
        return False
    standard = (values - values.mean()) / values.std()
    return bool(abs(np.mean(standard**3)) > HEAVY_TAIL)


def _fit_categorical(cells: "pd.Series[Any]") -> Categorical | None:
    """None for a constant column."""
    return _levels(str(cells.name), cells.value_counts(), bool(cells.isna().any()))


def _fit_bags(name: str, column: Bags, rows: NDArray[np.int64]) -> Categorical | None:
    """None for a column whose bags are all empty, or all of one code."""
    places, offsets = column.entries(rows)
    counts = pd.Series(np.bincount(places, minlength=len(column.names)), column.names)
    return _levels(name, counts[counts > 0], bool((offsets[1:] == offsets[:-1]).any()))


def _levels(name: str, counts: "pd.Series[int]", missing: bool) -> Categorical | None:
    """counts: how often each level occurs. missing: in some rows there is none. None for a single code."""
    often = counts[counts >= RARE]
    if len(often) > LEVELS_AT_MOST:
        return Categorical(name, (), LEVELS_AT_MOST)
    frequent = sorted((-int(count), str(level)) for level, count in often.items())
    codes = len(frequent) + int(len(frequent) < len(counts)) + int(missing)
    return Categorical(name, tuple(level for _, level in frequent)) if codes > 1 else None


def _refuse_absent(table: Table, wanted: Sequence[Numeric | Categorical], have: Container[object]) -> None:
    if absent := [column.name for column in wanted if column.name not in have]:
        raise DataError(f"{table.source}: no column {absent[0]!r}, with which the model was trained")


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
