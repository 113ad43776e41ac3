"""A pandas DataFrame, or a PyArrow table, as a source: for Python programs."""

import hashlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from parties.errors import DataError
from parties.sources import source
from parties.sources.source import Columns, check_header, plain, plain_type
from parties.sources.types import would_lose_times

if TYPE_CHECKING:
    import pandas as pd


class InMemory:
    """name: for messages. The table is not copied where it need not be, so it is not to be changed while it
    is used; an index of pandas is no column.

    Raises DataError for a column that stands there twice, whose name is no text, or that holds cells of
    several types.
    """

    def __init__(self, table: "pd.DataFrame | pa.Table", name: str = "the table in memory") -> None:
        import pandas as pd  # a second, that whoever has files alone need not wait for

        self._name = name
        if not isinstance(table, pa.Table | pd.DataFrame):
            raise DataError(f"{name}: is a {type(table).__name__}, no pandas DataFrame and no PyArrow table")
        self._table = table if isinstance(table, pa.Table) else self._of_pandas(table)
        check_header(self, self._table.column_names, ())

    def __str__(self) -> str:
        return self._name

    def schema(self) -> pa.Schema:
        return pa.schema([(field.name, plain_type(field.type)) for field in self._table.schema])

    def batches(self, named: Sequence[str], others: bool) -> Iterator[Columns]:
        names = self._table.column_names
        check_header(self, names, named)
        kept = [name for name in names if others or name in named]
        for batch in self._table.select(kept).to_batches(max_chunksize=source.BLOCK):
            yield {name: plain(self, name, batch.column(name)) for name in kept}

    def fingerprint(self) -> str:
        """Of the columns one by one, each whole: it does not depend on how rows are divided into chunks."""
        digest = hashlib.sha256()
        for name in self._table.column_names:
            chunks = [batch[name] for batch in self.batches([name], False)]
            if chunks:
                whole = pa.record_batch([pa.concat_arrays(chunks)], [name])
                digest.update(whole.schema.serialize())
                digest.update(whole.serialize())
        return digest.hexdigest()

    def state(self) -> object:
        return ()

    def _of_pandas(self, frame: "pd.DataFrame") -> pa.Table:
        names = [*frame.columns]
        for name in names:
            if not isinstance(name, str):
                place = names.index(name) + 1
                raise DataError(f"{self}: the name of column {place} is no text; rename it")
        check_header(self, names, ())
        return pa.table([self._column(name, frame[name]) for name in names], names)

    def _column(self, name: str, cells: "pd.Series[Any]") -> Any:
        sparse: Any = getattr(cells, "sparse", None)
        if sparse is not None:  # Arrow has no such columns
            cells = sparse.to_dense()
        try:
            if cells.dtype != object or not would_lose_times(cells.dropna()):  # NaT is a time to Python
                return pa.array(cells, from_pandas=True)
        except (pa.ArrowException, OverflowError, TypeError, ValueError):
            pass
        raise DataError(
            f"{self}: column {name!r}: holds cells of several types, or of none that is known; make it "
            "one type"
        )
