"""A query to a database as a source, through SQLAlchemy.

It is run once, when its rows are first asked for, in a transaction that may only read; from then on they lie
in a file of the storage that has no name (`parties.scratch`). So all that reads them sees the same rows in
the same order, whatever happens in the database meanwhile.

Drivers and SQLAlchemy quote URLs, parameters and cells in their errors: none of their texts is passed on.
"""

import hashlib
import mmap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from types import NoneType
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from uuid import UUID

import pyarrow as pa

from parties.errors import ConfigError, DataError
from parties.scratch import unnamed
from parties.sources import source
from parties.sources.database import Database
from parties.sources.source import Columns, check_header
from parties.sources.types import cast, one_type, would_lose_times

if TYPE_CHECKING:
    from sqlalchemy import Connection, CursorResult

KNOWN: Final = {NoneType, str, int, float, bool, bytes, datetime, date, time, timedelta, list, dict}
"""Types of Python that Arrow has, too."""


class Fetched(NamedTuple):
    """schema: one type a column. batches: as they came, each with types of its own."""

    schema: pa.Schema
    batches: list[pa.RecordBatch]
    fingerprint: str


class SqlQuery:
    """scratch: the folder of `parties.scratch`. Every method also raises ConfigError, where the database is
    not named as it should be, and StorageError."""

    def __init__(self, query: str, database: Database, scratch: Path) -> None:
        self._query, self._database, self._scratch = query, database, scratch

    def __str__(self) -> str:
        return "data.query"

    def schema(self) -> pa.Schema:
        return self._fetched.schema

    def batches(self, named: Sequence[str], others: bool) -> Iterator[Columns]:
        schema = self._fetched.schema
        check_header(self, schema.names, named)
        kept = [name for name in schema.names if others or name in named]
        for batch in self._fetched.batches:
            yield {name: cast(self, name, batch.column(name), schema.field(name).type) for name in kept}

    def fingerprint(self) -> str:
        return self._fetched.fingerprint

    def state(self) -> object:
        """What it gave is kept: nobody can write to it."""
        return ()

    @property
    def _fetched(self) -> Fetched:
        if isinstance(self._outcome, Fetched):
            return self._outcome
        raise self._outcome

    @cached_property
    def _outcome(self) -> Fetched | ConfigError | DataError:
        """A failure is kept, too: who logs in again and again with a wrong password is locked out."""
        try:
            return self._fetch()
        except (ConfigError, DataError) as error:
            return error

    def _fetch(self) -> Fetched:
        with unnamed(self._scratch) as file:
            starts = [0]
            with self._connected() as connection:
                for batch in self._rows(connection):
                    with pa.ipc.new_stream(file, batch.schema) as writer:
                        writer.write_batch(batch)
                    starts.append(file.tell())
            file.flush()
            memory = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        held = pa.py_buffer(memory)
        parts = [held[start:end] for start, end in pairwise(starts)]
        batches = [next(pa.ipc.open_stream(part)) for part in parts]
        places = [
            f"rows {at * source.BLOCK + 1:,} to {at * source.BLOCK + len(one):,}"
            for at, one in enumerate(batches)
        ]
        fields = []
        for name in batches[0].schema.names:
            pieces = zip(places, (one.schema.field(name).type for one in batches), strict=True)
            fields.append((name, one_type(self, name, pieces)))
        return Fetched(pa.schema(fields), batches, hashlib.sha256(memory).hexdigest())

    def _rows(self, connection: "Connection") -> Iterator[pa.RecordBatch]:
        """At least one batch, which may be empty. no_parameters: a % in the query is a %."""
        with self._mapped("is refused by the database", "try it in the database's own client"):
            result: CursorResult[Any] = connection.execution_options(
                stream_results=True, yield_per=source.BLOCK, no_parameters=True, postgresql_readonly=True
            ).exec_driver_sql(self._query)
        if not result.returns_rows:
            raise DataError(f"{self}: gives no rows; it must be a SELECT")
        names = [*map(str, result.keys())]
        check_header(self, names, ())
        first = True
        with self._mapped("broke off", "start again"):
            for rows in result.partitions(source.BLOCK):
                cells = zip(*rows, strict=True)
                yield pa.record_batch(
                    [self._column(name, each) for name, each in zip(names, cells, strict=True)], names
                )
                first = False
        if first:
            yield pa.record_batch([pa.nulls(0) for _ in names], names)

    def _column(self, name: str, cells: Sequence[Any]) -> Any:
        """Arbitrary precision becomes a float, as its text in a CSV would."""
        kinds = {*map(type, cells)}
        if Decimal in kinds:
            cells = [float(cell) if isinstance(cell, Decimal) else cell for cell in cells]
        elif UUID in kinds:
            cells = [str(cell) if isinstance(cell, UUID) else cell for cell in cells]
        try:
            if kinds <= KNOWN | {Decimal, UUID} and not would_lose_times(cells):
                return pa.array(cells)
        except (pa.ArrowException, OverflowError, TypeError, ValueError):
            pass
        raise DataError(
            f"{self}: column {name!r}: holds values of several types, or of none that is known; cast it in "
            "the query"
        )

    @contextmanager
    def _connected(self) -> Iterator["Connection"]:
        try:
            from sqlalchemy import create_engine
            from sqlalchemy.pool import NullPool
        except ImportError:
            raise ConfigError(
                f"{self}: needs SQLAlchemy; install it: pip install 'vertical-parties[sql]'"
            ) from None
        url = self._database.url()
        try:
            engine = create_engine(url, poolclass=NullPool, hide_parameters=True)
        except Exception:
            raise ConfigError(f"{self._database}: no driver for this kind of database is installed") from None
        with self._mapped(
            f"{self._database}: the database cannot be reached, or does not let us in",
            "is it up, and is the URL right?",
        ):
            connection = engine.connect()
        with connection:
            yield connection

    @contextmanager
    def _mapped(self, what: str, advice: str) -> Iterator[None]:
        try:
            yield
        except (DataError, GeneratorExit):
            raise
        except Exception as error:
            raise DataError(f"{self}: {what} ({_kind(error)}); {advice}") from None


def _kind(error: Exception) -> str:
    """The error's class and code, which quote nothing."""
    error = getattr(error, "orig", None) or error
    code = getattr(error, "sqlstate", None) or getattr(error, "sqlite_errorname", None)
    return f"{type(error).__name__} {code}" if isinstance(code, str) else type(error).__name__
