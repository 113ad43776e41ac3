"""One party's columns, ready for its bottom model; row i is an entity, or an example of one."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from splitnn.bags import Bag
from splitnn.schedule import chunks


class Group(NamedTuple):
    """Places of columns that say one thing together, such as a value and its flag for missing."""

    numeric: tuple[int, ...] = ()
    categorical: tuple[int, ...] = ()
    bags: tuple[int, ...] = ()


@dataclass(frozen=True)
class Features:
    """numeric: float32 [n, d], standardised; categorical: int64 [n, c], column j with codes 0..levels[j]-1.

    bags: the columns that hold a list of codes a row, [n] each. groups: for `splitnn.importance`; () makes
    each column one.
    Raises ValueError for another dtype or shape, a value that is not finite, and a code outside its levels.
    """

    numeric: Tensor
    categorical: Tensor
    levels: Sequence[int]
    bags: Sequence[Bag] = ()
    groups: Sequence[Group] = ()

    def __post_init__(self) -> None:
        if self.numeric.dtype != torch.float32 or self.categorical.dtype != torch.int64:
            raise ValueError("numeric features must be float32 and categorical features int64")
        if self.numeric.ndim != 2 or self.categorical.ndim != 2 or len(self.numeric) != len(self.categorical):
            raise ValueError("numeric and categorical features must be two tables with the same rows")
        if self.categorical.shape[1] != len(self.levels):
            raise ValueError(
                f"{len(self.levels)} level counts for {self.categorical.shape[1]} categorical columns"
            )
        for some in chunks(self.numeric):
            if not (finite := torch.isfinite(some)).all():
                column = int(finite.all(0).int().argmin())
                raise ValueError(f"numeric column {column} is not finite: impute missing values first")
        for column, levels in enumerate(self.levels):
            codes = self.categorical[:, column]
            if len(codes) and (int(codes.min()) < 0 or int(codes.max()) >= levels):
                raise ValueError(f"categorical column {column} has a code outside 0..{levels - 1}")
        if any(len(bag) != len(self.numeric) for bag in self.bags):
            raise ValueError(f"a bag has other rows than the {len(self.numeric)} of the numeric features")
        object.__setattr__(self, "numeric", self.numeric.contiguous())
        object.__setattr__(self, "categorical", self.categorical.contiguous())
        object.__setattr__(self, "levels", tuple(self.levels))
        object.__setattr__(self, "bags", tuple(self.bags))
        kinds = self.numeric.shape[1], len(self.levels), len(self.bags)
        alone = [
            Group(**{kind: (place,)})
            for kind, count in zip(Group._fields, kinds, strict=True)
            for place in range(count)
        ]
        object.__setattr__(self, "groups", tuple(self.groups or alone))

    def __len__(self) -> int:
        return len(self.numeric)

    @property
    def bag_levels(self) -> tuple[int, ...]:
        return tuple(bag.levels for bag in self.bags)

    def batch(self, entities: Tensor) -> tuple[Any, ...]:
        """(numeric [b, d], categorical [b, c]) of these entities (int64 [b], repeats allowed), then of each
        bag its (codes [k], offsets [b + 1]): what a bottom model takes."""
        numeric, codes = self.numeric.index_select(0, entities), self.categorical.index_select(0, entities)
        return numeric, codes, *(bag.batch(entities) for bag in self.bags)

    def mixed(self, entities: Tensor, others: Tensor, group: int) -> tuple[Any, ...]:
        """As `batch`, but for one group's columns, which are those of `others` (int64 [b])."""
        (numeric, codes, *bags), theirs, mine = self.batch(entities), self.batch(others), self.groups[group]
        numeric[:, list(mine.numeric)] = theirs[0][:, list(mine.numeric)]
        codes[:, list(mine.categorical)] = theirs[1][:, list(mine.categorical)]
        for place in mine.bags:
            bags[place] = theirs[2 + place]
        return numeric, codes, *bags
