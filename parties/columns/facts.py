"""What `party check` shows of each column: its kind, features, gaps. Counts and classes, no cell."""

from collections.abc import Iterable
from typing import Any, Final, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from parties.features import fit_column, told_of_constant
from parties.table import Table

CONSTANT: Final = "none: constant"
FITTED: Final = 200_000
"""Rows by which it is seen what is made of numbers and dates: a run fits on all of its training rows."""


class Fact(NamedTuple):
    """missing: the share of all rows. distinct: how many values, entries of a bag; None where they are not
    counted. range: of numbers and dates, a class."""

    name: str
    kind: str
    features: str
    missing: float
    distinct: int | None
    range: str


def facts_of_columns(table: Table, rows: NDArray[np.int64]) -> tuple[list[Fact], list[str]]:
    """One for each column that takes part or was left out, by name; and a line for each that does not vary.

    rows: like those to be trained on; of numbers and dates FITTED of them are looked at for what is made.
    """
    few = rows[:: max(1, -(-len(rows) // FITTED))]
    found, constant = [], []
    for name, kind in table.kinds.items():
        if kind == "bag":
            bags = table.bags[name]
            missing, distinct, ranged = _empty(bags.lists), len(bags.names), ""
        elif kind == "category":
            cells: pd.Series[Any] = table.categorical[name]
            missing, distinct, ranged = float(cells.isna().mean()), int(cells.nunique()), ""
        else:
            values = table.numeric[name].to_numpy()
            missing, distinct = float(np.isnan(values).mean()), int(pd.Series(values).nunique())
            ranged = _range(kind, values[~np.isnan(values)])
        fitted = fit_column(table, name, rows if kind in ("category", "bag") else few)
        if fitted is None:
            constant.append(told_of_constant(table, name))
        made = CONSTANT if fitted is None else f"mean of {fitted.told}" if kind == "bag" else fitted.told
        found.append(Fact(name, kind, made, round(missing, 4), distinct, ranged))
    for name, out in table.left_out.items():
        found.append(Fact(name, out.kind, "left out", round(out.missing, 4), out.distinct, ""))
    return sorted(found), constant


def lines(facts: Iterable[dict[str, Any]]) -> list[str]:
    """The same as a table for people."""
    rows = [("column", "kind", "features", "missing", "distinct", "range")]
    for fact in facts:
        missing = f"{fact['missing']:.1%}" if fact["missing"] else ""
        distinct = "" if fact["distinct"] is None else f"{fact['distinct']:,}"
        rows.append((fact["name"], fact["kind"], fact["features"], missing, distinct, fact["range"]))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]


def _range(kind: str, values: NDArray[np.float64]) -> str:
    if kind == "boolean" or not len(values):
        return ""
    if kind == "date":
        return "days" if (values % 86_400 == 0).all() else "times"
    whole = bool((values == np.floor(values)).all())
    return ("whole numbers" if whole else "numbers") + (" from 0 on" if values.min() >= 0 else "")


def _empty(lists: Any) -> float:
    return float((np.diff(lists.offsets.to_numpy()) == 0).mean()) if len(lists) else 0.0
