"""Row numbers on disk, as Parquet: what an alignment gives. A file that was changed is not read."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from parties.storage import writing

Rows = NDArray[np.int64]


def write(path: Path, rows: Rows, described: Mapping[str, str]) -> None:
    """described: goes into the metadata, beside a digest over all. Raises StorageError."""
    metadata = {**described, "sha256": _digest(rows, described)}
    table = pa.table({"row": rows}).replace_schema_metadata(metadata)
    with writing(path) as file:
        pq.write_table(table, file)


def read(path: Path) -> tuple[Rows, dict[str, str]] | None:
    """None where there is no such file, or not as it was written."""
    try:
        table = pq.read_table(path)
        described = {key.decode(): value.decode() for key, value in table.schema.metadata.items()}
        rows: Rows = table.column("row").to_numpy().astype(np.int64)
    except (AttributeError, LookupError, OSError, TypeError, ValueError, pa.ArrowException):
        return None
    digest = described.pop("sha256", "")
    return (rows, described) if digest == _digest(rows, described) else None


def _digest(rows: Rows, described: Mapping[str, str]) -> str:
    whole = hashlib.sha256(json.dumps(described, sort_keys=True).encode() + b"\0")
    whole.update(np.ascontiguousarray(rows, "<i8").data)
    return whole.hexdigest()
