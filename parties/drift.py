"""Have this party's columns drifted from those that a model was trained on? Reckoned here, nothing leaves.

A run keeps, beside its pipeline, how its training rows are distributed over bins of each column
(statistics.json). `party drift` counts a newer table into the same bins and compares:

- PSI, the population stability index: the sum of (q - p) ln(q / p) over bins, p and q the shares of training
  and now; below .1 stable, above .25 a shift (Siddiqi 2006, "Credit Risk Scorecards", chapter 8).
- KS, the largest difference of the two distribution functions, of numbers; missing ones left out.

With few rows shares differ by chance: of one population, PSI is (1/n + 1/m) times a chi-square of bins - 1
degrees of freedom (Yurdakul 2018, "Statistical Properties of Population Stability Index"). Below the 95 %
quantile of that nothing is told.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from parties.columns.dates import Date
from parties.columns.levels import MISSING, Categorical
from parties.columns.numbers import Numeric
from parties.errors import DataError
from parties.features import Pipeline
from parties.sources.source import BLOCK
from parties.table import Table

VERSION: Final = 1
QUANTILES: Final = 100
"""Of a column of numbers: KS is exact to 1 / QUANTILES."""
BINS: Final = 10
"""Of such a column, for its PSI; as many as scorecards have."""
LEVELS: Final = 20
"""Codes of a categorical column with a bin of their own: more bins tell more of chance."""
ORDERED: Final = ("numeric", "date")
"""Kinds of columns whose bins are parted by edges; a truth value is 0 or 1."""
WATCH, ALERT = 0.1, 0.25
"""From which PSI on."""
NORMAL_95: Final = 1.6449


@dataclass(frozen=True)
class Column:
    """counts: of missing values, then of each bin. edges: rising, of numbers and dates: bin i holds what is
    above edges[i - 1] and at most edges[i]; the last what is above all. () of codes: bin i is code i, the
    last one all further ones. Of a bag each entry counts, and an empty one as a missing value."""

    name: str
    kind: str
    edges: tuple[float, ...]
    counts: tuple[int, ...]


class Drift(NamedTuple):
    """Of one column. missing: the share in training, and now. by_chance: the PSI that one column in twenty
    has without any drift. state: stable, watch or alert."""

    name: str
    kind: str
    psi: float
    by_chance: float
    ks: float | None
    missing: tuple[float, float]
    state: str


@dataclass(frozen=True)
class Statistics:
    """rows: counted. columns: in the pipeline's order."""

    rows: int
    columns: tuple[Column, ...]

    @classmethod
    def of(cls, pipeline: Pipeline, table: Table, rows: NDArray[np.int64]) -> "Statistics":
        """Of these rows, the training rows of a run, with bins of their own quantiles."""
        edges = {
            column.name: _edges(table.numeric[column.name].to_numpy()[rows]) for column in pipeline.ordered
        }
        return count(pipeline, table, rows, edges)

    def again(self, pipeline: Pipeline, table: Table, rows: NDArray[np.int64]) -> "Statistics":
        """Other rows, counted into these bins. DataError if the table lacks a column."""
        return count(pipeline, table, rows, {column.name: column.edges for column in self.columns})

    def drift(self, now: "Statistics", watch: float = WATCH, alert: float = ALERT) -> list[Drift]:
        """From these to `now`, the largest first."""
        pairs = zip(self.columns, now.columns, strict=True)
        found = [_drift(then, later, watch, alert) for then, later in pairs]
        return sorted(found, key=lambda one: -one.psi)

    def to_json(self) -> bytes:
        return json.dumps({"version": VERSION, **asdict(self)}).encode() + b"\n"

    @classmethod
    def from_json(cls, text: bytes) -> "Statistics":
        """DataError for what `to_json` of this version did not write."""
        try:
            held = json.loads(text)
            columns = tuple(
                Column(str(one["name"]), str(one["kind"]), tuple(one["edges"]), tuple(one["counts"]))
                for one in held["columns"]
            )
            whole = held["version"] == VERSION and all(_is_whole(column) for column in columns)
            if whole:
                return cls(int(held["rows"]), columns)
        except (KeyError, TypeError, ValueError, RecursionError):
            pass
        raise DataError("statistics of training that are none, or of another release; train again")


def count(
    pipeline: Pipeline, table: Table, rows: NDArray[np.int64], edges: Mapping[str, Sequence[float]]
) -> Statistics:
    """edges: of each ordered column. A block of rows at a time: memory holds the counts and one block."""
    totals = {
        (kind, one.name): np.zeros(len(edges[one.name]) + 2, np.int64) for kind, one in _ordered(pipeline)
    }
    totals |= {("categorical", one.name): _no_codes(one) for one in pipeline.categorical}
    totals |= {("bag", one.name): _no_codes(one) for one in pipeline.bags}
    for start in range(0, len(rows), BLOCK):
        for key, counts in _block(pipeline, table, rows[start : start + BLOCK], edges):
            totals[key] += counts
    columns = (
        Column(name, kind, tuple(edges[name]) if kind in ORDERED else (), tuple(counts.tolist()))
        for (kind, name), counts in totals.items()
    )
    return Statistics(len(rows), tuple(columns))


def _block(
    pipeline: Pipeline, table: Table, rows: NDArray[np.int64], edges: Mapping[str, Sequence[float]]
) -> Iterator[tuple[tuple[str, str], NDArray[np.int64]]]:
    for kind, one in _ordered(pipeline):
        values = table.numeric[one.name].to_numpy()[rows]
        places = np.searchsorted(edges[one.name], values, side="left") + 1
        places[np.isnan(values)] = MISSING
        yield (kind, one.name), np.bincount(places, minlength=len(edges[one.name]) + 2)
    for column in pipeline.categorical:
        codes = column.codes(table.categorical[column.name].iloc[rows])[:, 0]
        yield ("categorical", column.name), _counted(column, codes)
    for column in pipeline.bags:
        bags = table.bags[column.name]
        entries, offsets = bags.entries(rows)
        counts = _counted(column, column.codes(bags.names)[:, 0][entries])
        counts[MISSING] += int((np.diff(offsets) == 0).sum())
        yield ("bag", column.name), counts


def _ordered(pipeline: Pipeline) -> Iterator[tuple[str, Numeric | Date]]:
    yield from (("numeric", one) for one in pipeline.numeric)
    yield from (("date", one) for one in pipeline.dates)


def _edges(values: NDArray[np.float64]) -> tuple[float, ...]:
    """Quantiles, and the last number before each: a value that many rows share has a bin of its own, and what
    lies between two quantiles is at most 1 / QUANTILES of the rows."""
    present = values[~np.isnan(values)]
    if not len(present):
        return ()
    ranks = np.arange(1, QUANTILES) / QUANTILES
    quantiles = np.quantile(present, ranks, method="inverted_cdf")
    return tuple(np.unique(np.concatenate((quantiles, np.nextafter(quantiles, -np.inf)))).tolist())


def _no_codes(column: Categorical) -> NDArray[np.int64]:
    return np.zeros(1 + min(LEVELS, column.levels[0] - 1), np.int64)


def _counted(column: Categorical, codes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Hashed codes, of which none is frequent, are parted by their remainder."""
    bins = len(_no_codes(column))
    if column.buckets:
        codes = np.where(codes == MISSING, MISSING, 1 + (codes - 1) % (bins - 1))
    return np.bincount(np.minimum(codes, bins - 1), minlength=bins).astype(np.int64)


def _drift(then: Column, now: Column, watch: float, alert: float) -> Drift:
    p, q = np.array(then.counts), np.array(now.counts)
    missing = float(p[0] / max(p.sum(), 1)), float(q[0] / max(q.sum(), 1))
    ks = _ks(p[1:], q[1:]) if then.kind in ORDERED else None
    if then.kind in ORDERED:
        p, q = _grouped(p, p), _grouped(q, p)
    psi, by_chance = stability(p, q)
    told = psi if psi > by_chance else 0.0
    state = "alert" if told > alert else "watch" if told > watch else "stable"
    return Drift(then.name, then.kind, psi, by_chance, ks, missing, state)


def stability(p: NDArray[np.int64], q: NDArray[np.int64]) -> tuple[float, float]:
    """PSI of two counts over the same bins, and what chance alone may make of it. Half a row is added to each
    bin that is not empty in both, so that an empty one is no infinity."""
    used = (p + q) > 0
    n, m = int(p.sum()), int(q.sum())
    if used.sum() < 2 or not n or not m:
        return 0.0, 0.0
    then, now = ((one[used] + 0.5) / (one.sum() + used.sum() / 2) for one in (p, q))
    free = int(used.sum()) - 1
    spread = 2 / (9 * free)  # of a chi-square's cube root, which is nearly normal (Wilson and Hilferty 1931)
    by_chance = (1 / n + 1 / m) * free * (1 - spread + NORMAL_95 * spread**0.5) ** 3
    return float(((now - then) * np.log(now / then)).sum()), float(by_chance)


def _grouped(counts: NDArray[np.int64], training: NDArray[np.int64]) -> NDArray[np.int64]:
    """The bins of numbers as at most BINS of about equal shares in training; missing ones stay."""
    before = np.cumsum(training[1:]) - training[1:]
    group = BINS * before // max(int(training[1:].sum()), 1)
    return np.concatenate((counts[:1], np.bincount(np.minimum(group, BINS - 1), counts[1:]).astype(np.int64)))


def _ks(p: NDArray[np.int64], q: NDArray[np.int64]) -> float | None:
    """None where all are missing."""
    if not p.sum() or not q.sum():
        return None
    return float(np.abs(np.cumsum(p) / p.sum() - np.cumsum(q) / q.sum()).max())


def _is_whole(column: Column) -> bool:
    ordered = column.kind in ORDERED
    counts = all(type(one) is int and one >= 0 for one in column.counts)
    rising = all(a < b for a, b in zip(column.edges, column.edges[1:], strict=False))
    bins = len(column.counts) == len(column.edges) + 2 if ordered else len(column.counts) >= 2
    return counts and rising and bins and column.kind in (*ORDERED, "categorical", "bag")
