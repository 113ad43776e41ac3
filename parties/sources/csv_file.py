"""A CSV file as a source; its cells are text as written, null where empty.

The reader is strict where pandas is kind: a short row, a stray quote and a repeated column name are errors
that name the line, because what they would be repaired to is a guess about somebody's data.
"""

import codecs
import csv
import gzip
import io
import itertools
import json
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final

import pyarrow as pa

from parties.errors import DataError
from parties.sources import source
from parties.sources.csv_chunk import parsed
from parties.sources.file_state import State, digest_of, readable, shown, state_of
from parties.sources.source import Columns, check_header

if TYPE_CHECKING:
    from _csv import Reader

UTF_8: Final = "utf-8"
AT_ONCE: Final = 1 << 23
"""Characters."""


@dataclass(frozen=True)
class CsvFile:
    """encoding: as Python names it. separator: one character."""

    file: Path
    encoding: str = UTF_8
    separator: str = ","

    def __str__(self) -> str:
        return shown(self.file)

    def schema(self) -> pa.Schema:
        with self._opened() as text:
            header = self._header(self._records(self._reader(text)), ())
            return pa.schema([(name, pa.large_string()) for name in header])

    def batches(self, named: Sequence[str], others: bool) -> Iterator[Columns]:
        with self._opened() as text:
            reader = self._reader(text)
            header = self._header(self._records(reader), named)
            kept = {name: place for place, name in enumerate(header) if others or name in named}
            before = reader.line_num
            while chunk := text.read(AT_ONCE):
                chunk += text.readline()
                table = parsed(chunk, self.separator, header, [*kept])
                if table is None:  # from here on line by line, which also tells what is wrong
                    reader = self._reader(itertools.chain(io.StringIO(chunk, newline=""), text))
                    records = self._records(reader, before, len(header))
                    while block := list(itertools.islice(records, source.BLOCK)):
                        yield {
                            name: pa.array([record[place] or None for record in block], pa.large_string())
                            for name, place in kept.items()
                        }
                    return
                for batch in table.to_batches(max_chunksize=source.BLOCK):
                    yield {name: batch.column(name) for name in kept}
                before += chunk.count("\n")

    def fingerprint(self) -> str:
        return digest_of(self.file)

    def state(self) -> State | None:
        return state_of(self.file)

    @contextmanager
    def _opened(self) -> Iterator[IO[str]]:
        """utf-8-sig: spreadsheets put a byte order mark before the first column's name."""
        encoding = "utf-8-sig" if self.encoding == UTF_8 else self.encoding
        opened = gzip.open if self._is_gzip else open
        with readable(self.file):
            try:
                with opened(self.file, "rt", encoding=encoding, newline="") as text:
                    yield text
            except UnicodeError:
                known, place = self.encoding.upper(), self._undecodable()
                raise DataError(
                    f"{self}: {place}: not {known} text; save the file as {known}, or name its encoding "
                    "in data.encoding"
                ) from None
            except (gzip.BadGzipFile, EOFError, zlib.error):
                raise DataError(f"{self}: not a whole gzip file; write or copy it again") from None

    @property
    def _is_gzip(self) -> bool:
        return self.file.suffix.lower() == ".gz"

    def _header(self, records: Iterator[list[str]], named: Sequence[str]) -> list[str]:
        header = next(records, [])
        if not header:
            raise DataError(f"{self}: the file is empty")
        if len(header) == 1 and not {*named} <= {*header}:
            for other in (",", ";", "\t", "|"):
                if other in header[0]:
                    raise DataError(
                        f"{self}: line 1: one column only; say what separates the cells: "
                        f"data.separator = {json.dumps(other)}"
                    )
        check_header(self, header, named)
        return header

    def _reader(self, lines: Iterable[str]) -> "Reader":
        return csv.reader(lines, delimiter=self.separator, strict=True)

    def _records(self, reader: "Reader", before: int = 0, width: int = 0) -> Iterator[list[str]]:
        """Rows (RFC 4180), the header first; blank lines are skipped. A row is named by its first line.
        before: lines before those of the reader. width: cells of a row, where the header is among these."""
        while True:
            line = before + reader.line_num + 1
            try:
                record = next(reader, None)
            except csv.Error as error:
                if "field limit" in str(error):
                    raise DataError(
                        f"{self}: line {line}: a cell of more than {csv.field_size_limit():,} characters, "
                        "or a quote that is not closed before; shorten it, or close the quote"
                    ) from None
                raise DataError(
                    f"{self}: line {line}: a quote is opened and not closed, or stands inside a quoted "
                    f'cell; write " inside quotes as ""'
                ) from None
            if record is None:
                return
            if record:
                width = width or len(record)
                if len(record) != width:
                    raise DataError(
                        f"{self}: line {line}: {len(record)} cells where the header has {width}; "
                        f"quote cells that hold {'commas' if self.separator == ',' else 'separators'} or "
                        "line breaks"
                    )
                yield record

    def _undecodable(self) -> str:
        """The first line that is not text. Only read after a failure, so line by line is fast enough."""
        decoder, number = codecs.getincrementaldecoder(self.encoding)(), 1
        with gzip.open(self.file) if self._is_gzip else self.file.open("rb") as lines:
            for line in lines:
                try:
                    number += decoder.decode(line).count("\n")
                except UnicodeError:
                    return f"line {number}"
        return "the last line"
