"""A source of rows, and what is read from any of them: whole columns, batches, single rows.

All that reads a party's rows goes through this. A column has one type from its first batch to its last; what
would have to be guessed about somebody's data is a DataError that names the source and the column.
"""

import difflib
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from parties.errors import DataError
from parties.scratch import as_table

Columns = dict[str, Any]
"""Name to pyarrow.Array or ChunkedArray, all of one length; pyarrow has no types to check."""

BLOCK: Final = 1 << 16
"""Rows of a batch."""
GATHERED: Final = 1 << 23
"""Rows that are put into another order at a time."""
LISTED: Final = 8


class Source(Protocol):
    """`str(source)` names it to people. Every method raises DataError where it cannot be read."""

    def schema(self) -> pa.Schema:
        """All columns with their types, as `batches` yields them; in CSV all is text."""

    def batches(self, named: Sequence[str], others: bool) -> Iterator[Columns]:
        """The `named` columns, and all `others` if asked: at most BLOCK rows at a time, in an order that is
        the same whenever it is read. Cells that are empty or unknown are null."""

    def fingerprint(self) -> str:
        """SHA-256 in hex of all that it holds: another one where a single cell is another."""

    def state(self) -> object:
        """What is another one, most likely, when somebody has written to it; asked for every second. None
        where it is not there."""


def read_columns(source: Source, named: Sequence[str], others: bool, scratch: Path | None = None) -> Columns:
    """The `named` columns, and all `others` if asked.

    scratch: the folder of `parties.scratch`. Raises DataError, StorageError.
    """
    batches = (pa.RecordBatch.from_pydict(batch) for batch in read_batches(source, named, others))
    table = as_table(scratch, batches)
    return {name: table.column(name) for name in table.column_names}


def read_batches(source: Source, named: Sequence[str], others: bool = False) -> Iterator[Columns]:
    """The same, some rows at a time and in their order, so that a source may be larger than memory."""
    rows = 0
    for batch in source.batches(named, others):
        rows += len(next(iter(batch.values())))
        yield batch
    if not rows:
        raise DataError(f"{source}: a header, but no rows")


def read_rows(source: Source, named: Sequence[str], rows: NDArray[np.int64]) -> Iterator[Columns]:
    """The cells of these distinct rows, in their order, at most `GATHERED` at a time.

    The source is read once for each: memory holds what is gathered, and not all of it.
    """
    if not len(rows):
        yield {name: column.slice(0, 0) for name, column in next(read_batches(source, named)).items()}
    for start in range(0, len(rows), GATHERED):
        order = np.argsort(rows[start : start + GATHERED])
        wanted = rows[start : start + GATHERED][order]
        found: list[Columns] = []
        first = 0
        for batch in read_batches(source, named):
            size = len(next(iter(batch.values())))
            low, high = np.searchsorted(wanted, (first, first + size))
            if high > low:
                places = pa.array(wanted[low:high] - first)
                found.append({name: column.take(places) for name, column in batch.items()})
            first += size
        if not len(wanted) or wanted[-1] >= first:
            raise DataError(f"{source}: has fewer rows than before; do not change it while it is used")
        back = np.empty(len(order), np.int64)
        back[order] = np.arange(len(order))
        joined = {name: pa.concat_arrays([one[name] for one in found]) for name in named}
        found.clear()
        yield {name: column.take(pa.array(back)) for name, column in joined.items()}


def is_text(kind: Any) -> bool:
    """Of an Arrow type."""
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def plain_type(kind: Any) -> Any:
    """Without dictionary, extension and view."""
    if isinstance(kind, pa.BaseExtensionType):
        kind = kind.storage_type
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return pa.large_string() if pa.types.is_string_view(kind) else kind


def plain(source: object, name: str, column: Any) -> Any:
    """The column in its plain type, and whole: Parquet, say, does not check that text is UTF-8."""
    if isinstance(column.type, pa.BaseExtensionType):
        column = column.storage
    try:
        if pa.types.is_dictionary(column.type):
            column = column.cast(column.type.value_type)
        column.validate(full=True)
    except pa.ArrowException:
        raise DataError(
            f"{source}: column {name!r}: holds text that is not UTF-8, or damaged values; write it again"
        ) from None
    return column.cast(plain_type(column.type))


def check_header(source: object, header: Sequence[str], named: Sequence[str]) -> None:
    """Is each column there once? Raises DataError that names the nearest one."""
    seen: set[str] = set()
    twice = [name for name in header if name in seen or seen.add(name)]  # type: ignore[func-returns-value]
    if twice:
        raise DataError(f"{source}: column {twice[0]!r} stands in the header twice; rename one of them")
    if absent := [name for name in dict.fromkeys(named) if name not in seen]:
        faults = ", ".join(repr(name) + nearest(name, seen) for name in absent)
        shown = [name if name.isprintable() else repr(name) for name in header[:LISTED]]
        first = ", ".join(shown) + (", ..." if len(header) > LISTED else "")
        raise DataError(f"{source}: no column {faults}; it has {first}")


def nearest(name: str, known: Collection[str]) -> str:
    """In words; nothing where none is."""
    folded = {other.strip().casefold(): other for other in sorted(known)}
    close = difflib.get_close_matches(name.strip().casefold(), folded, n=1, cutoff=0.6)
    return f" (did you mean {folded[close[0]]!r}?)" if close else ""
