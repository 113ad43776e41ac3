"""Columns of categories, and entries of bags, as codes: fitted on training rows, applied to any."""

import hashlib
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from parties.bags import Bags

RARE: Final = 10
"""Occurrences below which a level shares one code with all unseen ones: too few to learn from."""
LEVELS_AT_MOST: Final = 10_000
"""Levels with a code of their own. Beyond, a step over all embeddings would take longer than all the rest."""
MISSING, OTHER = 0, 1
"""Codes of every categorical column; its own levels follow."""


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

    @property
    def told(self) -> str:
        """For people."""
        if self.buckets:
            return f"embeddings of two hashed codes, each one of {self.buckets:,}"
        return f"embeddings of {len(self.names):,} levels and of rare ones"

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


def fit_categorical(cells: "pd.Series[Any]") -> Categorical | None:
    """None for a constant column."""
    return _levels(str(cells.name), cells.value_counts(), bool(cells.isna().any()))


def fit_bags(name: str, column: Bags, rows: NDArray[np.int64]) -> Categorical | None:
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
