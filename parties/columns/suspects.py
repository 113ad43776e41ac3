"""Columns that a party may not want to learn from: those that tell the label alone, and ids.

A column that ranks the label nearly perfectly by itself was mostly written after the label was known. It is
measured by out-of-fold means (Micci-Barreca 2001, "A Preprocessing Scheme for High-Cardinality Categorical
Attributes", with each row scored by the others' labels only), so that a column of many levels is no suspect
for having learned its own labels by heart. No message shows a cell.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from parties.columns.kinds import DATE, looks_like_keys, never_recurs
from parties.columns.written import elsewhere

if TYPE_CHECKING:
    from parties.labels import OwnLabels
    from parties.own import OwnData
    from parties.table import Table

LATE: Final = "is it known only when the label is? then put it into data.exclude"
ALONE: Final = 0.98
"""AUC beyond which a column is told; of numbers as labels, rank correlation."""
SAMPLE: Final = 100_000
"""Rows that are looked at; of a binary label, half of them a yes where there are so many."""
LEAST: Final = 20
"""Rows of either class, and of a bin: with fewer, chance could do it."""
BINS: Final = 256
FOLDS: Final = 5
CLASSES: Final = 10
"""Of a label with more, the most frequent ones are looked at."""
COMPARED: Final = 2_000
"""Rows that are held against the ids."""
SAME: Final = 0.9
"""Share of the rows whose cell is that of an id column."""


def suspects(data: "OwnData") -> list[str]:
    """A line for each. Only rows that may take part in a run are looked at."""
    table, labels = data.table, data.labels
    usable = np.zeros(table.rows, dtype=bool)
    for ids in data.ids.values():
        usable[ids.rows] = usable[ids.repeats] = True
    rows = np.flatnonzero(usable)
    found = [] if labels is None else [*_telling(table, labels, rows)]
    return [f"{table.source}: column {name!r} {why}" for name, why in [*found, *_ids(table, rows)]]


def _telling(table: "Table", labels: "OwnLabels", rows: NDArray[np.int64]) -> Iterator[tuple[str, str]]:
    asked = [*_asked(labels, rows)]
    for name in [*map(str, table.numeric), *map(str, table.categorical)]:
        best = max((_tells(table, name, *each) for each in asked), default=0.0)
        if best > ALONE:
            measure = "rank correlation" if labels.values.dtype == np.float64 else "AUC"
            yield name, f"alone tells the label ({measure} {best:.3f}): {LATE}"


def _asked(
    labels: "OwnLabels", rows: NDArray[np.int64]
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float64], bool]]:
    """Rows, what is to be told of each, and whether that is a yes or no: of each target and class."""
    random = np.random.default_rng(0)
    values = labels.values[rows]
    if values.dtype == np.float64:  # of a regression
        at = _some(random, np.arange(len(rows)), SAMPLE)
        yield rows[at], np.asarray(pd.Series(values[at]).rank(), np.float64), False
        return
    targets = [*values.T] if values.ndim == 2 else [values]
    for target in targets[:CLASSES]:
        classes, counts = np.unique(target, return_counts=True)
        often = classes[np.argsort(-counts)][:CLASSES] if len(classes) > 2 else classes[-1:]
        for one in often:
            yes, no = np.flatnonzero(target == one), np.flatnonzero(target != one)
            if min(len(yes), len(no)) >= LEAST:
                at = np.concatenate((_some(random, yes, SAMPLE // 2), _some(random, no, SAMPLE // 2)))
                random.shuffle(at)
                yield rows[at], (target[at] == one).astype(np.float64), True


def _tells(
    table: "Table", name: str, rows: NDArray[np.int64], wanted: NDArray[np.float64], yes_or_no: bool
) -> float:
    from sklearn.metrics import roc_auc_score  # only who checks a table

    codes = _codes(table, name, rows)
    fold = np.arange(len(rows)) % FOLDS
    place, cells = fold * (codes.max() + 1) + codes, FOLDS * (codes.max() + 1)
    shape = FOLDS, -1
    count = np.bincount(place, minlength=cells).reshape(shape)
    total = np.bincount(place, wanted, minlength=cells).reshape(shape)
    others, summed = count.sum(0) - count, total.sum(0) - total
    means = (summed + wanted.mean()) / (others + 1)  # one more row, of the mean label
    scores = means[fold, codes]
    if yes_or_no:
        return float(roc_auc_score(wanted, scores))
    spread = float(((wanted - wanted.mean()) ** 2).sum())
    return float(max(0.0, 1 - ((wanted - scores) ** 2).sum() / spread)) ** 0.5 if spread else 0.0


def _codes(table: "Table", name: str, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Of a category its levels, of numbers up to BINS of about equal shares; missing ones are the last."""
    if name in table.categorical:
        found = np.array(pd.factorize(table.categorical[name].iloc[rows])[0], np.int64)
        found[found < 0] = found.max(initial=0) + 1
        return found
    values = table.numeric[name].to_numpy()[rows]
    there = ~np.isnan(values)
    bins = min(BINS, int(there.sum()) // LEAST)
    if bins < 2:
        return np.asarray(~there, np.int64)
    edges = np.unique(np.quantile(values[there], np.arange(1, bins) / bins))
    return np.asarray(np.where(there, np.searchsorted(edges, values), len(edges) + 1), np.int64)


def _ids(table: "Table", rows: NDArray[np.int64]) -> Iterator[tuple[str, str]]:
    at = _some(np.random.default_rng(0), rows, SAMPLE)
    few = at[:: max(1, len(at) // COMPARED)]
    ids = [(str(name), _spelled(table.ids[name].iloc[few])) for name in table.ids]
    for name, kind in table.kinds.items():
        if kind == "number":
            cells, keys = table.numeric[name].iloc[few], never_recurs(table.numeric[name].to_numpy()[at])
        elif kind == "category":
            cells, whole = table.categorical[name].iloc[few], table.categorical[name]
            distinct = pa.array(whole.iloc[at].dropna().unique(), pa.large_string())
            many = len(distinct) > max(LEAST, len(at) / 2) and whole.nunique() > len(whole) / 2
            dates = looks_like_keys(distinct, (DATE,))
            keys = (many or looks_like_keys(distinct)) and not (dates or elsewhere(distinct))
        elif kind == "bag":
            names = pa.array(table.bags[name].names, pa.large_string())
            if len(names) and looks_like_keys(names):
                yield name, _advice("holds what looks like ids of people")
            continue
        else:
            continue
        spelled = _spelled(cells)
        same = next((of for of, own in ids if len(own) >= LEAST and (own == spelled).mean() >= SAME), None)
        if same is not None:
            yield name, _advice(f"is the id column {same!r} again")
        elif keys:
            yield name, _advice("looks like an id")


def _advice(what: str) -> str:
    return f"{what}, which tells rows apart and nothing about new ones: put it into data.exclude"


def _spelled(cells: "pd.Series[Any]") -> NDArray[np.object_]:
    """As text that is the same for 7, 7.0 and " 7 "; missing ones are equal to none, not even themselves."""
    numbers = pd.to_numeric(cells, errors="coerce")
    texts = cells.astype("str").str.strip().str.casefold()
    plain = numbers.map(lambda one: f"{one:.0f}" if abs(one) < 1e15 and one == one // 1 else None)
    return plain.where(plain.notna(), texts).where(cells.notna(), np.nan).to_numpy(dtype=object)


def _some(random: np.random.Generator, rows: NDArray[np.int64], at_most: int) -> NDArray[np.int64]:
    return rows if len(rows) <= at_most else np.sort(random.choice(rows, at_most, replace=False))
