"""From one party's columns to numbers for its bottom model.

Everything is learned from the rows given to `fit`, the party's own aligned training rows: nothing is asked of
other parties, and nothing is taken from validation or test rows. `docs/data.md` says the rules in prose.

A fitted pipeline holds level names and statistics of the party's data: it stays in the party's own folder.
"""

import json
from collections.abc import Container, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import chain
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from parties.columns.dates import PARTS, UNITS, Coded, Date, fit_date
from parties.columns.levels import MISSING, Categorical, fit_bags, fit_categorical
from parties.columns.numbers import Numeric, fit_numeric
from parties.errors import DataError
from parties.scratch import empty, let_go
from parties.table import Table

VERSION: Final = 3
READ: Final = (2, VERSION)
"""2: without dates, truth values and log scales, and otherwise alike: what was trained with it goes on."""
Places: TypeAlias = tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]
"""Of columns in the numeric output, in the categorical one, and among the bags."""


@dataclass(frozen=True)
class Pipeline:
    """A fitted pipeline. bags: coded entry by entry, as the cells of a categorical column; none is missing.

    The numeric output is the numbers of `numeric`, those of `dates`, and then a flag of each of them that is
    flagged; the categorical output the codes of `categorical`, then those of `dates`. warnings: one line for
    each column of the table that it leaves out.
    """

    numeric: tuple[Numeric, ...]
    categorical: tuple[Categorical, ...]
    warnings: tuple[str, ...] = ()
    bags: tuple[Categorical, ...] = ()
    dates: tuple[Date, ...] = ()

    @classmethod
    def fit(cls, table: Table, rows: NDArray[np.int64]) -> "Pipeline":
        """Learn from these rows of the table. DataError if none of its columns tells them apart."""
        names = [*map(str, table.numeric), *map(str, table.categorical), *table.bags]
        fitted = {name: fit_column(table, name, rows) for name in names}
        constant = [name for name, column in fitted.items() if column is None]
        if len(constant) == len(fitted):
            raise DataError(f"{table.source}: no column varies in the {len(rows)} training rows; add others")
        levels = [column for column in fitted.values() if isinstance(column, Categorical)]
        return cls(
            tuple(column for column in fitted.values() if isinstance(column, Numeric)),
            tuple(column for column in levels if column.name not in table.bags),
            tuple(told_of_constant(table, name) for name in constant),
            tuple(column for column in levels if column.name in table.bags),
            tuple(column for column in fitted.values() if isinstance(column, Date)),
        )

    @property
    def ordered(self) -> tuple[Numeric | Date, ...]:
        """The columns that the numeric output is made of, in its order."""
        return *self.numeric, *self.dates

    @property
    def coded(self) -> tuple[Categorical | Date, ...]:
        """The columns that the categorical output is made of, in its order."""
        return *self.categorical, *self.dates

    @property
    def kinds(self) -> dict[str, str]:
        """Of which kind each column is, so that another table can be read as the one of the fit was."""
        return (
            {column.name: "boolean" if column.boolean else "number" for column in self.numeric}
            | {column.name: "date" for column in self.dates}
            | {column.name: "category" for column in self.categorical}
            | {column.name: "bag" for column in self.bags}
        )

    def separators(self, named: Mapping[str, str]) -> dict[str, str]:
        """Of its bags, what separates their entries; named: of any columns."""
        return {column.name: named.get(column.name, "") for column in self.bags}

    @property
    def levels(self) -> tuple[int, ...]:
        """How many codes each column of the categorical output has."""
        return tuple(levels for column in self.coded for levels in column.levels)

    @property
    def bag_levels(self) -> tuple[int, ...]:
        """How many codes each bag has; a hashed column makes two bags."""
        return tuple(levels for column in self.bags for levels in column.levels)

    @property
    def width(self) -> int:
        """Columns of the numeric output: the values, then the flags."""
        return self._values + sum(column.flagged for column in self.ordered)

    def missing(self) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Numeric [width] and codes [len(levels)] of a row in which every cell is missing."""
        numbers = np.zeros(self.width, np.float32)
        numbers[self._values :] = 1.0
        return numbers, np.full(len(self.levels), MISSING, np.int64)

    def groups(self, named: Mapping[str, Sequence[str]]) -> dict[str, Places]:
        """Where each group is in the numeric output, the categorical one and the bags: those `named`, then
        each other column by itself. Flags, all codes of a date, and both of a hashed level, go with their
        column; a group of which no column is left is none.
        """
        places: dict[str, Places] = {name: (numbers, (), ()) for name, numbers in self._numbers().items()}
        code = bag = 0
        for column in self.coded:
            numbers, *_ = places.get(column.name, ((), (), ()))
            places[column.name] = numbers, (*range(code, code + len(column.levels)),), ()
            code += len(column.levels)
        for entries in self.bags:
            places[entries.name] = (), (), (*range(bag, bag + len(entries.levels)),)
            bag += len(entries.levels)
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
        _refuse_absent(table, self.ordered, table.numeric)
        _refuse_absent(table, self.categorical, table.categorical)
        numbers = np.zeros((len(rows), self.width), dtype=np.float32)
        places = self._numbers()
        for column in self.ordered:
            let_go()
            cells = table.numeric[column.name].to_numpy()[rows]
            numbers[:, places[column.name]] = of_cells(column, cells)
        codes = [np.zeros((len(rows), 0), dtype=np.int64)]
        for level in self.categorical:
            let_go()
            codes.append(level.codes(table.categorical[level.name].iloc[rows]))
        for date in self.dates:
            let_go()
            codes.append(date.codes(table.numeric[date.name].to_numpy()[rows]))
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
                "numeric": [asdict(column) for column in self.numeric],
                "categorical": [asdict(column) for column in self.categorical],
                "bags": [asdict(column) for column in self.bags],
                "dates": [asdict(column) for column in self.dates],
            },
            indent=1,
        )

    @classmethod
    def from_json(cls, text: str) -> "Pipeline":
        """DataError for what `to_json` of one of the versions READ did not write."""
        try:
            kept: dict[str, Any] = json.loads(text)
            if kept["version"] not in READ:
                raise DataError(f"the feature pipeline is of version {kept['version']}; train again")
            dates = [] if kept["version"] == 2 else kept["dates"]
            return cls(
                tuple(map(_numeric, kept["numeric"])),
                tuple(Categorical(c["name"], tuple(c["names"]), c["buckets"]) for c in kept["categorical"]),
                (),
                tuple(Categorical(c["name"], tuple(c["names"]), c["buckets"]) for c in kept["bags"]),
                tuple(map(_date, dates)),
            )
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise DataError("the feature pipeline is damaged; restore it, or train again") from None

    @property
    def _values(self) -> int:
        return sum(column.values for column in self.ordered)

    def _numbers(self) -> dict[str, tuple[int, ...]]:
        """Where each column is in the numeric output, its flag last."""
        places: dict[str, tuple[int, ...]] = {}
        value, flag = 0, self._values
        for column in self.ordered:
            places[column.name] = (*range(value, value + column.values), *range(flag, flag + column.flagged))
            value, flag = value + column.values, flag + column.flagged
        return places


def fit_column(table: Table, name: str, rows: NDArray[np.int64]) -> Numeric | Date | Categorical | None:
    """Learn from these rows of the column. None for a constant one."""
    let_go()
    if name in table.bags:
        return fit_bags(name, table.bags[name], rows)
    if name in table.categorical:
        return fit_categorical(table.categorical[name].iloc[rows])
    cells, kind = table.numeric[name].to_numpy()[rows], table.kinds.get(name)
    if kind == "date":
        return fit_date(name, cells)
    return fit_numeric(name, cells, table.scale.get(name), kind == "boolean")


def told_of_constant(table: Table, name: str) -> str:
    """A line for people."""
    return f"{table.source}: column {name!r} is left out: constant in training"


def of_cells(column: Numeric | Date, cells: NDArray[np.float64]) -> NDArray[np.float64]:
    """[n, values, and one more where flagged]. cells: [n], NaN where missing."""
    found = column.features(cells)
    return np.column_stack((found, np.isnan(cells))) if column.flagged else found


def _refuse_absent(
    table: Table, wanted: Sequence[Numeric | Date | Categorical], have: Container[object]
) -> None:
    if absent := [column.name for column in wanted if column.name not in have]:
        raise DataError(f"{table.source}: no column {absent[0]!r}, with which the model was trained")


def _numeric(kept: dict[str, Any]) -> Numeric:
    return Numeric(**kept | {"knots": tuple(kept["knots"]), "scores": tuple(kept["scores"])})


def _is_whole(one: Coded) -> bool:
    return one.units == tuple(unit for unit in range(UNITS[one.part]) if unit in one.units)


def _date(kept: dict[str, Any]) -> Date:
    trend, parts = kept["trend"], tuple(kept["parts"])
    coded = tuple(Coded(one["part"], tuple(one["units"])) for one in kept["coded"])
    if not {*parts} <= {*PARTS} or not all(map(_is_whole, coded)):
        raise ValueError
    return Date(kept["name"], None if trend is None else _numeric(trend), parts, coded, kept["flagged"])
