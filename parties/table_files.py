"""CSV and Parquet files as Arrow columns, or a DataError that names the line.

The CSV reader is strict where pandas is kind: a short row, a stray quote and a repeated column name are
errors, because what they would be repaired to is a guess about somebody's data.
"""

import csv
import difflib
import gzip
import itertools
import zlib
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import IO, Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from parties.errors import DataError
from parties.scratch import as_table

Columns = dict[str, Any]
"""Name to pyarrow.Array or ChunkedArray, all of one length; pyarrow has no types to check."""

BLOCK: Final = 1 << 16
"""Rows of a batch."""
GATHERED: Final = 1 << 23
"""Rows of a file that are put into another order at a time."""
READ_AT_ONCE: Final = 1 << 20
"""Bytes of each column of a Parquet file."""
LISTED: Final = 8


def read_columns(file: Path, named: Sequence[str], others: bool, scratch: Path | None = None) -> Columns:
    """The `named` columns, and all `others` if asked. CSV cells are text as written, null where empty.

    scratch: the folder of `parties.scratch`. Raises DataError, StorageError.
    """
    batches = (pa.RecordBatch.from_pydict(batch) for batch in read_batches(file, named, others))
    table = as_table(scratch, batches)
    return {name: table.column(name) for name in table.column_names}


def read_batches(file: Path, named: Sequence[str], others: bool = False) -> Iterator[Columns]:
    """The same, some rows at a time and in their order, so that a file may be larger than memory."""
    batches = _parquet(file, named, others) if _is_parquet(file) else _csv(file, named, others)
    rows = 0
    try:
        for batch in batches:
            rows += len(next(iter(batch.values())))
            yield batch
    except FileNotFoundError:
        raise DataError(f"{file}: no such file; mend data.file") from None
    except OSError as fault:
        raise DataError(f"{file}: cannot be read: {fault.strerror or 'not a file'}") from None
    if not rows:
        raise DataError(f"{file}: a header, but no rows")


def read_rows(file: Path, named: Sequence[str], rows: NDArray[np.int64]) -> Iterator[Columns]:
    """The cells of these distinct rows, in their order, at most `GATHERED` at a time.

    The file is read once for each: memory holds what is gathered, and not the file.
    """
    if not len(rows):
        yield {name: column.slice(0, 0) for name, column in next(read_batches(file, named)).items()}
    for start in range(0, len(rows), GATHERED):
        order = np.argsort(rows[start : start + GATHERED])
        wanted = rows[start : start + GATHERED][order]
        found: list[Columns] = []
        first = 0
        for batch in read_batches(file, named):
            size = len(next(iter(batch.values())))
            low, high = np.searchsorted(wanted, (first, first + size))
            if high > low:
                places = pa.array(wanted[low:high] - first)
                found.append({name: column.take(places) for name, column in batch.items()})
            first += size
        if not len(wanted) or wanted[-1] >= first:
            raise DataError(f"{file}: has fewer rows than before; do not change it while it is used")
        back = np.empty(len(order), np.int64)
        back[order] = np.arange(len(order))
        joined = {name: pa.concat_arrays([one[name] for one in found]) for name in named}
        found.clear()
        yield {name: column.take(pa.array(back)) for name, column in joined.items()}


def is_text(kind: Any) -> bool:
    """Of an Arrow type."""
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _is_parquet(file: Path) -> bool:
    return file.suffix.lower() in (".parquet", ".pq")


def _parquet(file: Path, named: Sequence[str], others: bool) -> Iterator[Columns]:
    try:
        # Its own way keeps the whole file's bytes until the end.
        with pq.ParquetFile(file, buffer_size=READ_AT_ONCE, pre_buffer=False) as parquet:
            names = parquet.schema_arrow.names
            _check_header(file, names, named)
            kept = [name for name in names if others or name in named]
            for batch in parquet.iter_batches(BLOCK, columns=kept):
                yield {name: _plain(file, name, batch.column(name)) for name in kept}
    except pa.ArrowException:
        raise DataError(f"{file}: not a whole Parquet file; write or copy it again") from None


def _plain(file: Path, name: str, column: Any) -> Any:
    """Without dictionary, extension and view, and whole: Parquet itself does not check that text is UTF-8."""
    if isinstance(column.type, pa.BaseExtensionType):
        column = column.storage
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    try:
        column.validate(full=True)
    except pa.ArrowException:
        raise DataError(
            f"{file}: column {name!r}: holds text that is not UTF-8, or damaged values; write the file again"
        ) from None
    return column.cast(pa.large_string()) if pa.types.is_string_view(column.type) else column


def _csv(file: Path, named: Sequence[str], others: bool) -> Iterator[Columns]:
    try:
        with _opened(file) as text:
            records = _records(file, text)
            header = next(records, [])
            if not header:
                raise DataError(f"{file}: the file is empty")
            _check_header(file, header, named)
            kept = {name: place for place, name in enumerate(header) if others or name in named}
            while block := list(itertools.islice(records, BLOCK)):
                yield {
                    name: pa.array([record[place] or None for record in block], pa.large_string())
                    for name, place in kept.items()
                }
    except UnicodeDecodeError:
        raise DataError(f"{file}: {_undecodable(file)}: not UTF-8 text; save the file as UTF-8") from None
    except (gzip.BadGzipFile, EOFError, zlib.error):
        raise DataError(f"{file}: not a whole gzip file; write or copy it again") from None


def _opened(file: Path) -> IO[str]:
    """utf-8-sig: spreadsheets put a byte order mark before the first column's name."""
    if file.suffix.lower() == ".gz":
        return gzip.open(file, "rt", encoding="utf-8-sig", newline="")
    return file.open(encoding="utf-8-sig", newline="")


def _records(file: Path, text: IO[str]) -> Iterator[list[str]]:
    """The rows (RFC 4180), the header first; blank lines are skipped. A row is named by its first line."""
    reader = csv.reader(text, strict=True)
    width = 0
    while True:
        line = reader.line_num + 1
        try:
            record = next(reader, None)
        except csv.Error:
            raise DataError(
                f"{file}: line {line}: a quote is opened and not closed, or stands inside a quoted cell; "
                f'write " inside quotes as "", and at most {csv.field_size_limit():,} characters in a cell'
            ) from None
        if record is None:
            return
        if record:
            width = width or len(record)
            if len(record) != width:
                raise DataError(
                    f"{file}: line {line}: {len(record)} cells where the header has {width}; "
                    "quote cells that hold commas or line breaks"
                )
            yield record


def _undecodable(file: Path) -> str:
    """The first line that is not UTF-8. Only read after a failure, so line by line is fast enough."""
    with gzip.open(file) if file.suffix.lower() == ".gz" else file.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            try:
                line.decode()
            except UnicodeDecodeError:
                return f"line {number}"
    return "the last line"


def _check_header(file: Path, header: Sequence[str], named: Sequence[str]) -> None:
    seen: set[str] = set()
    twice = [name for name in header if name in seen or seen.add(name)]  # type: ignore[func-returns-value]
    if twice:
        raise DataError(f"{file}: column {twice[0]!r} stands in the header twice; rename one of them")
    if absent := [name for name in dict.fromkeys(named) if name not in seen]:
        if len(header) == 1 and any(separator in header[0] for separator in ";\t|"):
            raise DataError(f"{file}: line 1: one column only; separate the cells with commas")
        faults = ", ".join(repr(name) + _nearest(name, seen) for name in absent)
        shown = [name if name.isprintable() else repr(name) for name in header[:LISTED]]
        first = ", ".join(shown) + (", ..." if len(header) > LISTED else "")
        raise DataError(f"{file}: no column {faults}; the file has {first}")


def _nearest(name: str, known: Collection[str]) -> str:
    folded = {other.strip().casefold(): other for other in sorted(known)}
    close = difflib.get_close_matches(name.strip().casefold(), folded, n=1, cutoff=0.6)
    return f" (did you mean {folded[close[0]]!r}?)" if close else ""
