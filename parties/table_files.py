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

import pyarrow as pa
import pyarrow.parquet as pq

from parties.errors import DataError

Columns = dict[str, Any]
"""Name to pyarrow.ChunkedArray, all of one length; pyarrow has no types to check."""

BLOCK: Final = 1 << 16
"""CSV rows held as Python objects at a time; those before are in Arrow arrays, about as large as the file."""
LISTED: Final = 8


def read_columns(file: Path, named: Sequence[str], others: bool) -> Columns:
    """The `named` columns, and all `others` if asked. CSV cells are text as written, null where empty."""
    try:
        columns = _parquet(file, named, others) if _is_parquet(file) else _csv(file, named, others)
    except FileNotFoundError:
        raise DataError(f"{file}: no such file; mend data.file") from None
    except OSError as fault:
        raise DataError(f"{file}: cannot be read: {fault.strerror or 'not a file'}") from None
    if not columns or not len(next(iter(columns.values()))):
        raise DataError(f"{file}: a header, but no rows")
    return columns


def _is_parquet(file: Path) -> bool:
    return file.suffix.lower() in (".parquet", ".pq")


def _parquet(file: Path, named: Sequence[str], others: bool) -> Columns:
    try:
        with pq.ParquetFile(file) as parquet:
            names = parquet.schema_arrow.names
            _check_header(file, names, named)
            table = parquet.read(columns=[name for name in names if others or name in named])
    except pa.ArrowException:
        raise DataError(f"{file}: not a whole Parquet file; write or copy it again") from None
    return {name: _plain(file, name, table.column(name)) for name in table.column_names}


def _plain(file: Path, name: str, column: Any) -> Any:
    """Without dictionary, extension and view, and whole: Parquet itself does not check that text is UTF-8."""
    if isinstance(column.type, pa.BaseExtensionType):
        column = pa.chunked_array([chunk.storage for chunk in column.chunks], column.type.storage_type)
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    try:
        column.validate(full=True)
    except pa.ArrowException:
        raise DataError(
            f"{file}: column {name!r}: holds text that is not UTF-8, or damaged values; write the file again"
        ) from None
    return column.cast(pa.large_string()) if pa.types.is_string_view(column.type) else column


def _csv(file: Path, named: Sequence[str], others: bool) -> Columns:
    try:
        with _opened(file) as text:
            records = _records(file, text)
            header = next(records, [])
            if not header:
                raise DataError(f"{file}: the file is empty")
            _check_header(file, header, named)
            kept = [place for place, name in enumerate(header) if others or name in named]
            blocks: list[list[Any]] = [[] for _ in kept]
            while block := list(itertools.islice(records, BLOCK)):
                cells = list(zip(*block, strict=True))
                for arrays, place in zip(blocks, kept, strict=True):
                    arrays.append(pa.array([cell or None for cell in cells[place]], pa.large_string()))
    except UnicodeDecodeError:
        raise DataError(f"{file}: {_undecodable(file)}: not UTF-8 text; save the file as UTF-8") from None
    except (gzip.BadGzipFile, EOFError, zlib.error):
        raise DataError(f"{file}: not a whole gzip file; write or copy it again") from None
    names = [header[place] for place in kept]
    return {
        name: pa.chunked_array(arrays, pa.large_string()) for name, arrays in zip(names, blocks, strict=True)
    }


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
                'write " inside quotes as ""'
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
