"""Levels of a category that may be one and the same: `party check` tells how many, and no cell."""

from collections.abc import Iterator
from typing import Final

import pandas as pd

from parties.columns.cells import NO_NUMBER
from parties.table import Table

LOOKED_AT: Final = 100_000
"""Levels of a column that are held against each other."""


def spellings(table: Table) -> Iterator[str]:
    """A line for each column that has such levels."""
    for name, cells in table.categorical.items():
        levels = pd.Series(cells.dropna().unique()[:LOOKED_AT], dtype="str")
        plain = levels.str.split().str.join(" ").str.casefold()
        again = int(plain.duplicated().sum())
        words = int(cells.isin(NO_NUMBER).sum())
        told = []
        if again:
            told.append(
                f"{again:,} of {len(levels):,} levels differ from another only in blanks or case, and are "
                "learned apart; write each in one way"
            )
        if words and len(levels) > 1:
            told.append(
                f"{words:,} cells are a word for a missing value, which in a category is a level like any; "
                "empty them, unless it is meant"
            )
        if told:
            yield f"{table.source}: column {str(name)!r}: {'; '.join(told)}"
