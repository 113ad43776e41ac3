"""Columns of dates as features: how long ago, and where in the year, the month, the week and the day.

Parts that go round are a sine and a cosine: the 31st is next to the 1st, two numbers do for any of them, and
a month that the training rows have not seen lies between its neighbours, where a code of its own would mean
nothing. Steps, such as a weekend, are learned less well by it: docs/data.md has figures. All in UTC.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from parties.columns.cells import EARLIEST, LATEST
from parties.columns.numbers import Numeric, fit_numeric, is_constant

DAY: Final = 86_400
PARTS: Final = ("year", "month", "week", "day")
"""Of each, where in it a time lies."""
NAMES: Final = {"year": "time of year", "month": "day of month", "week": "weekday", "day": "time of day"}


@dataclass(frozen=True)
class Date:
    """Seconds since 1970-01-01 UTC -> the trend, then two numbers of each of `parts`; missing -> zeros.

    trend: the seconds as a number, against those of the training rows; None where all of these are equal.
    parts: those of PARTS that vary in the training rows. flagged: as of `Numeric`.
    """

    name: str
    trend: Numeric | None
    parts: tuple[str, ...]
    flagged: bool

    @property
    def values(self) -> int:
        """How many numbers it makes of a cell, a flag not counted."""
        return int(self.trend is not None) + 2 * len(self.parts)

    @property
    def told(self) -> str:
        """For people."""
        told = ["trend"] * (self.trend is not None) + [NAMES[part] for part in self.parts]
        return ", ".join([*told, *["flag where missing"] * self.flagged])

    def features(self, cells: NDArray[np.float64]) -> NDArray[np.float64]:
        """[n, values], finite. cells: [n], seconds, NaN where missing; beyond the years 1 to 9999 as at their
        ends."""
        cells = np.clip(cells, EARLIEST, LATEST)
        columns = [] if self.trend is None else [self.trend.features(cells)]
        columns += [_round(cells, part) for part in self.parts]
        return np.concatenate([np.zeros((len(cells), 0)), *columns], axis=1)


def fit_date(name: str, cells: NDArray[np.float64]) -> Date | None:
    """None for a constant column."""
    present = np.clip(cells[~np.isnan(cells)], EARLIEST, LATEST)
    flagged = len(present) < len(cells)
    trend = None if not len(present) or is_constant(present) else fit_numeric(name, present)
    if trend is None:
        return Date(name, None, (), flagged) if flagged and len(present) else None
    turning = ((part, _round(present, part)) for part in PARTS)
    parts = tuple(part for part, both in turning if not all(is_constant(one) for one in both.T))
    return Date(name, trend, parts, flagged)


def _round(seconds: NDArray[np.float64], part: str) -> NDArray[np.float64]:
    """[n, 2]: sine and cosine of where in this part of the calendar each time lies; zeros for NaN."""
    there = ~np.isnan(seconds)
    known = np.where(there, seconds, 0.0)
    days = np.floor(known / DAY).astype(np.int64)
    if part == "day":
        share = known / DAY - days
    elif part == "week":
        share = (days + 3) % 7 / 7  # 1970-01-01 was a Thursday; weeks begin on Monday
    else:
        unit = "M" if part == "month" else "Y"
        begin = days.astype("datetime64[D]").astype(f"datetime64[{unit}]")
        first, after = (one.astype("datetime64[D]").astype(np.int64) for one in (begin, begin + 1))
        share = (days - first) / (after - first)
    angle = 2 * np.pi * share
    return np.stack((np.sin(angle), np.cos(angle)), axis=1) * there[:, None]
