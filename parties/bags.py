"""Columns with a list of entries in each cell: a Parquet list, or a text parted at a separator."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from parties.errors import DataError
from parties.scratch import empty
from parties.sources.source import Source, is_text

ENTRIES: Final = 1_000
"""Of a row. Of a longer list the last ones count: those of a history, which is written oldest first, are the
newest."""
IN_ALL: Final = 1 << 28
"""Entries of a column: 1 GiB as they are kept here, and in training 2 GiB for each code of an entry."""


@dataclass(frozen=True)
class Bags:
    """One column. names: its distinct entries, text. lists: pyarrow large_list<int32> [rows], of each row its
    entries as places in `names`; empty, never null."""

    names: "pd.Series[Any]"
    lists: Any

    def entries(self, rows: NDArray[np.int64]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """Of these rows, in this order: places [total], and offsets [n + 1] that part them by row."""
        taken = self.lists.take(pa.array(rows))
        return taken.flatten().to_numpy(), taken.offsets.to_numpy().copy()


def read_bags(
    source: Source, name: str, column: Any, separator: str, scratch: Path | None = None
) -> tuple[Bags, list[str]]:
    """The bags of a ChunkedArray of lists or, parted at the separator, of texts; and warnings.

    scratch: the folder of `parties.scratch`.
    An entry without a character, such as that between two separators in a row, is none.
    DataError for cells that are neither, entries that are neither text nor whole numbers, a null inside a
    list, and more than IN_ALL entries.
    """
    if not are_bags(column.type) and not (separator and is_text(column.type)):
        wanted = "lists of text or of whole numbers"
        if is_text(column.type):
            wanted = f'lists, or what separates the entries: data.bags = {{ {name} = " " }}'
        raise DataError(f"{source}: column {name!r} is of type {column.type}; a bag needs {wanted}")
    encoded, counts, longer = [], [], []
    rows = total = 0
    for chunk in column.chunks:
        entries, row = _parted(chunk, separator)
        if entries.null_count:
            first = rows + row[_mask(entries.is_null())][0] + 1
            raise DataError(
                f"{source}: column {name!r}: {entries.null_count} null(s) inside lists, the first in row "
                f"{first}; leave them out"
            )
        if is_text(entries.type):
            there = _mask(pc.not_equal(entries, ""))
            entries, row = entries.filter(pa.array(there)), row[there]
        count = np.bincount(row, minlength=len(chunk))
        if (count > ENTRIES).any():
            longer += (rows + np.flatnonzero(count > ENTRIES)).tolist()
            entries = entries.filter(pa.array(count.cumsum()[row] - np.arange(len(row)) <= ENTRIES))
            count = np.minimum(count, ENTRIES)
        encoded.append(entries.dictionary_encode())
        counts.append(count)
        rows, total = rows + len(chunk), total + len(entries)
        if total > IN_ALL:
            raise DataError(
                f"{source}: column {name!r}: more than {IN_ALL:,} entries in rows 1 to {rows}; shorten lists"
            )
    whole = pa.chunked_array(encoded).unify_dictionaries()
    places = empty(scratch, (total,), np.int32)
    np.concatenate([chunk.indices.to_numpy() for chunk in whole.chunks], out=places)
    offsets = np.concatenate(([0], np.concatenate(counts).cumsum()))
    names = whole.chunk(0).dictionary.cast(pa.large_string()).to_pandas()
    warnings = [
        f"{source}: column {name!r}: {len(longer)} row(s), the first row {longer[0] + 1}, have more than "
        f"{ENTRIES:,} entries, of which the last {ENTRIES:,} count"
        for _ in longer[:1]
    ]
    return Bags(names, pa.LargeListArray.from_arrays(offsets, places)), warnings


def are_bags(kind: Any) -> bool:
    """Is this Arrow type one of lists that `read_bags` takes?"""
    if not (pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)):
        return False
    entry = kind.value_type.value_type if pa.types.is_dictionary(kind.value_type) else kind.value_type
    return is_text(entry) or pa.types.is_integer(entry) or pa.types.is_null(entry)


def _parted(chunk: Any, separator: str) -> tuple[Any, NDArray[np.int64]]:
    """All entries, text or whole numbers, and the row of each."""
    lists = pc.split_pattern(chunk, separator) if is_text(chunk.type) else chunk
    length = pc.list_value_length(lists).fill_null(0).to_numpy()
    entries = pc.list_flatten(lists)
    if pa.types.is_dictionary(entries.type):
        entries = entries.cast(entries.type.value_type)
    if pa.types.is_null(entries.type):
        entries = entries.cast(pa.large_string())
    return entries, np.arange(len(chunk)).repeat(length)


def _mask(column: Any) -> NDArray[np.bool_]:
    mask: NDArray[np.bool_] = column.to_numpy(zero_copy_only=False)
    return mask
