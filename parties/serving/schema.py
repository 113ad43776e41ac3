"""The schema of a party's table, as far as its model takes it: a fresh file must have the same."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as csv
import pyarrow.parquet as pq

from parties.bags import are_bags
from parties.errors import DataError
from parties.table_files import is_text


def schema_digest(file: Path, columns: Sequence[str]) -> bytes:
    """SHA-256 of names and kinds (number, text, boolean, list, other) of these columns of the file. In CSV
    all is text. Raises DataError where the file cannot be read, or lacks one."""
    try:
        if file.suffix in (".parquet", ".pq"):
            schema = pq.read_schema(file)
        else:
            with csv.open_csv(file) as rows:
                schema = pa.schema([(name, pa.string()) for name in rows.schema.names])
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{file}: cannot be read; put a whole table in its place") from error
    if missing := [name for name in columns if name not in schema.names]:
        raise DataError(f"{file}: no column {missing[0]!r}, with which the model was trained")
    kinds = {name: _kind(schema.field(name).type) for name in columns}
    return hashlib.sha256(json.dumps(kinds, sort_keys=True).encode()).digest()


def _kind(of: Any) -> str:
    if are_bags(of):
        return "list"
    if pa.types.is_dictionary(of):
        of = of.value_type
    if is_text(of):
        return "text"
    if pa.types.is_boolean(of):
        return "boolean"
    if pa.types.is_integer(of) or pa.types.is_floating(of) or pa.types.is_decimal(of):
        return "number"
    return "other"
