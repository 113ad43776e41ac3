"""Parquet as a source: a file, or a folder of files, whose `key=value` folders are a column each (Hive).

Files of a folder come in the order of their paths. All have the same columns of the same types; a column
that is all null in one file may have no type there.
"""

import hashlib
import os
import stat
from collections.abc import Iterator, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.parquet as pq

from parties.errors import DataError
from parties.sources import source
from parties.sources.file_state import State, digest_of, readable, shown, state_of
from parties.sources.source import Columns, check_header, plain, plain_type
from parties.sources.types import cast, one_type

SUFFIXES: Final = (".parquet", ".pq")
READ_AT_ONCE: Final = 1 << 20
"""Bytes of each column."""
NO_VALUE: Final = "__HIVE_DEFAULT_PARTITION__"
"""How Hive and Spark name the folder of rows without a value."""


@dataclass(frozen=True)
class ParquetFile:
    file: Path

    def __str__(self) -> str:
        return shown(self.file)

    def schema(self) -> pa.Schema:
        with self._opened() as parquet:
            check_header(self, parquet.schema_arrow.names, ())
            return pa.schema([(field.name, plain_type(field.type)) for field in parquet.schema_arrow])

    def batches(self, named: Sequence[str], others: bool) -> Iterator[Columns]:
        with self._opened() as parquet:
            names = parquet.schema_arrow.names
            check_header(self, names, named)
            kept = [name for name in names if others or name in named]
            for batch in parquet.iter_batches(source.BLOCK, columns=kept):
                yield {name: plain(self, name, batch.column(name)) for name in kept}

    def fingerprint(self) -> str:
        return digest_of(self.file)

    def state(self) -> State | None:
        return state_of(self.file)

    @contextmanager
    def _opened(self) -> Iterator[pq.ParquetFile]:
        try:
            # pre_buffer: its own way keeps the whole file's bytes until the end
            with (
                readable(self.file),
                pa.OSFile(os.fsencode(self.file)) as file,  # of a path, Arrow wants UTF-8
                pq.ParquetFile(file, buffer_size=READ_AT_ONCE, pre_buffer=False) as parquet,
            ):
                yield parquet
        except pa.ArrowException:
            raise DataError(f"{self}: not a whole Parquet file; write or copy it again") from None


@dataclass(frozen=True)
class ParquetFolder:
    folder: Path

    def __str__(self) -> str:
        return shown(self.folder)

    def schema(self) -> pa.Schema:
        return self._described(self._files())

    def batches(self, named: Sequence[str], others: bool) -> Iterator[Columns]:
        files = self._files()
        schema = self._described(files)
        check_header(self, schema.names, named)
        kept = [name for name in schema.names if others or name in named]
        for file in files:
            parts = self._parts(file)
            held = [name for name in kept if name not in parts] or schema.names[-1:]
            for batch in ParquetFile(file).batches(held, False):
                rows = len(batch[held[0]])
                found = {
                    name: pa.repeat(pa.scalar(value, pa.large_string()), rows)
                    for name, value in parts.items()
                    if name in kept
                }
                found |= {
                    name: cast(shown(file), name, column, schema.field(name).type)
                    for name, column in batch.items()
                }
                yield {name: found[name] for name in kept}

    def fingerprint(self) -> str:
        digest = hashlib.sha256()
        for file in self._files():
            name = os.fsencode(file.relative_to(self.folder))
            digest.update(len(name).to_bytes(8, "big") + name + bytes.fromhex(digest_of(file)))
        return digest.hexdigest()

    def state(self) -> object:
        try:
            return [(file, state_of(file)) for file in self._files()]
        except DataError:
            return None

    def _files(self) -> list[Path]:
        found = sorted(_below(self.folder, frozenset()))
        if not found:
            raise DataError(f"{self}: a folder without a Parquet file; mend data.file")
        return found

    def _parts(self, file: Path) -> dict[str, str | None]:
        """The values that the folders' names say. Raises DataError where two of them say one column's."""
        folders = file.relative_to(self.folder).parts[:-1]
        split = [folder.split("=", 1) for folder in folders if "=" in folder]
        if any(shown(Path(part)) != part for pair in split for part in pair):
            raise DataError(f"{shown(file)}: lies in a folder whose name is not UTF-8; rename it")
        check_header(shown(file), [unquote(key) for key, _ in split], ())
        return {unquote(key): None if value == NO_VALUE else unquote(value) for key, value in split}

    def _described(self, files: Sequence[Path]) -> pa.Schema:
        """Of all files: the folders' columns, then the first file's. Raises DataError where they differ."""
        parts = [*self._parts(files[0])]
        schemas = [ParquetFile(file).schema() for file in files]
        for file, schema in zip(files, schemas, strict=True):
            if [*self._parts(file)] != parts:
                raise DataError(
                    f"{shown(file)}: lies in other folders than {shown(files[0])}; name all folders alike"
                )
            check_header(shown(file), [*parts, *schema.names], ())
            check_header(shown(file), schema.names, schemas[0].names)
            check_header(shown(files[0]), schemas[0].names, schema.names)
        fields: list[Any] = [(name, pa.large_string()) for name in parts]
        for name in schemas[0].names:
            kinds = (schema.field(name).type for schema in schemas)
            where = (shown(file.relative_to(self.folder)) for file in files)
            fields.append((name, one_type(self, name, zip(where, kinds, strict=True))))
        return pa.schema(fields)


def _below(folder: Path, above: Set[tuple[int, int]]) -> Iterator[Path]:
    """The Parquet files of this folder and all below it, through links too. What begins with `_` or `.` is a
    note of who wrote the folder, or not finished.

    above: device and inode of the folders on the way here. Raises DataError for whatever would have to be
    left out: rows would be gone, and nobody would see it.
    """
    with readable(folder):
        own = folder.stat()
        entries = [entry for entry in folder.iterdir() if not entry.name.startswith(("_", "."))]
    here = (own.st_dev, own.st_ino)
    if here in above:
        raise DataError(
            f"{shown(folder)}: leads back, by a link, to a folder that it lies in; remove the link"
        )
    for entry in entries:
        if entry.is_symlink() and not os.path.exists(entry):
            raise DataError(
                f"{shown(entry)}: a link to what is not there, or cannot be reached; mend or remove it"
            )
        with readable(entry):
            mode = entry.stat().st_mode
        if stat.S_ISDIR(mode):
            yield from _below(entry, above | {here})
        elif entry.suffix.lower() in SUFFIXES:
            if not stat.S_ISREG(mode):
                raise DataError(
                    f"{shown(entry)}: is no file, though it is called as one; remove or rename it"
                )
            yield entry
