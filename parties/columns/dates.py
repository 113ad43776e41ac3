"""Columns of dates as features: how long ago, and where in the year, the month, the week and the day.

Each part that goes round is a sine and a cosine, by which what is smooth is learned from few rows (the 31st
is next to the 1st), and codes of months, days, weekdays and hours, for steps such as a weekend. docs/data.md
has figures of one, the other and both. All in UTC.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from parties.columns.cells import EARLIEST, LATEST
from parties.columns.levels import MISSING, OTHER, RARE
from parties.columns.numbers import Numeric, fit_numeric, is_constant

DAY: Final = 86_400
PARTS: Final = ("year", "month", "week", "day")
"""Of each, where in it a time lies."""
UNITS: Final = {"year": 12, "month": 31, "week": 7, "day": 24}
"""Of each, how many there are of what is coded: months, days, weekdays from Monday on, hours."""
NAMES: Final = {"year": "time of year", "month": "day of month", "week": "weekday", "day": "time of day"}


@dataclass(frozen=True)
class Coded:
    """A part of the calendar as codes like those of `Categorical`: 0 is missing, 2 and on are `units`
    (rising, below UNITS), and 1 any other: fewer than RARE training rows had it."""

    part: str
    units: tuple[int, ...]

    @property
    def levels(self) -> int:
        return len(self.units) + 2

    def codes(self, cells: NDArray[np.float64]) -> NDArray[np.int64]:
        """[n]. cells: as of `Date.features`."""
        code = np.full(UNITS[self.part], OTHER, np.int64)
        code[[*self.units]] = range(OTHER + 1, self.levels)
        return np.where(np.isnan(cells), MISSING, code[_place(cells, self.part)[0]])


@dataclass(frozen=True)
class Date:
    """Seconds since 1970-01-01 UTC -> the trend, then two numbers of each of `parts`; missing -> zeros. And a
    code of each of `coded`.

    trend: the seconds as a number, against those of the training rows; None where all of these are equal.
    parts: those of PARTS that vary in the training rows. coded: those of them that have two codes or more
    there. flagged: as of `Numeric`.
    """

    name: str
    trend: Numeric | None
    parts: tuple[str, ...]
    coded: tuple[Coded, ...]
    flagged: bool

    @property
    def values(self) -> int:
        """How many numbers it makes of a cell, a flag not counted."""
        return int(self.trend is not None) + 2 * len(self.parts)

    @property
    def levels(self) -> tuple[int, ...]:
        """How many codes there are of each of `coded`."""
        return tuple(one.levels for one in self.coded)

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

    def codes(self, cells: NDArray[np.float64]) -> NDArray[np.int64]:
        """[n, len(levels)]. cells: as of `features`."""
        cells = np.clip(cells, EARLIEST, LATEST)
        none = np.zeros((len(cells), 0), np.int64)
        return np.column_stack((none, *(one.codes(cells) for one in self.coded)))


def fit_date(name: str, cells: NDArray[np.float64]) -> Date | None:
    """None for a constant column."""
    present = np.clip(cells[~np.isnan(cells)], EARLIEST, LATEST)
    flagged = len(present) < len(cells)
    trend = None if not len(present) or is_constant(present) else fit_numeric(name, present)
    if trend is None:
        return Date(name, None, (), (), flagged) if flagged and len(present) else None
    turning = ((part, _round(present, part)) for part in PARTS)
    parts = tuple(part for part, both in turning if not all(is_constant(one) for one in both.T))
    coded = (_fit_coded(present, part) for part in parts)
    return Date(name, trend, parts, tuple(one for one in coded if one is not None), flagged)


def _fit_coded(present: NDArray[np.float64], part: str) -> Coded | None:
    """None where these rows would have a single code."""
    counts = np.bincount(_place(present, part)[0], minlength=UNITS[part])
    often = tuple(np.flatnonzero(counts >= RARE).tolist())
    codes = len(often) + int(((counts > 0) & (counts < RARE)).any())
    return Coded(part, often) if codes > 1 else None


def _round(seconds: NDArray[np.float64], part: str) -> NDArray[np.float64]:
    """[n, 2]: sine and cosine of where in this part of the calendar each time lies; zeros for NaN."""
    angle = 2 * np.pi * _place(seconds, part)[1]
    return np.stack((np.sin(angle), np.cos(angle)), axis=1) * ~np.isnan(seconds)[:, None]


def _place(seconds: NDArray[np.float64], part: str) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Where in this part of the calendar each time lies: units [n] below UNITS, and shares [n] of 1. Those of
    1970 for NaN."""
    known = np.where(np.isnan(seconds), 0.0, seconds)
    days = np.floor(known / DAY).astype(np.int64)
    if part == "day":
        within = known - days * DAY
        hours = np.clip(within // 3_600, 0, 23)  # a hair before midnight is rounded to it
        return hours.astype(np.int64), within / DAY
    if part == "week":
        weekday = (days + 3) % 7  # 1970-01-01 was a Thursday; weeks begin on Monday
        return weekday, weekday / 7
    months = days.astype("datetime64[D]").astype("datetime64[M]")
    begin = months if part == "month" else months.astype("datetime64[Y]")
    first, after = (one.astype("datetime64[D]").astype(np.int64) for one in (begin, begin + 1))
    share = (days - first) / (after - first)
    return days - first if part == "month" else months.astype(np.int64) % 12, share
