"""The schema of a party's table, as far as its model takes it: a fresh file must have the same."""

import hashlib
import json
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from parties.bags import are_bags
from parties.columns.cells import is_number
from parties.errors import DataError
from parties.sources.source import Source, is_text


def schema_digest(source: Source, columns: Sequence[str]) -> bytes:
    """SHA-256 of names and kinds (number, text, boolean, date, list, other) of these columns of the source.
    In CSV all is text. Raises DataError where the file cannot be read, or lacks one."""
    schema = source.schema()
    if missing := [name for name in columns if name not in schema.names]:
        raise DataError(f"{source}: no column {missing[0]!r}, with which the model was trained")
    kinds = {name: _kind(schema.field(name).type) for name in columns}
    return hashlib.sha256(json.dumps(kinds, sort_keys=True).encode()).digest()


def _kind(of: Any) -> str:
    if are_bags(of):
        return "list"
    if is_text(of):
        return "text"
    if pa.types.is_boolean(of):
        return "boolean"
    if pa.types.is_timestamp(of) or pa.types.is_date(of):
        return "date"
    if is_number(of):
        return "number"
    return "other"
