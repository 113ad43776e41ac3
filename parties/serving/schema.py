"""The schema of a party's table, as far as its model takes it: a fresh file must have the same."""

import hashlib
import json
from collections.abc import Sequence

from parties.errors import DataError
from parties.sources.source import Source
from parties.sources.types import kind_of_type


def schema_digest(source: Source, columns: Sequence[str]) -> bytes:
    """SHA-256 of names and kinds (number, text, boolean, date, list, other) of these columns of the source.
    In CSV all is text. Raises DataError where the file cannot be read, or lacks one."""
    schema = source.schema()
    if missing := [name for name in columns if name not in schema.names]:
        raise DataError(f"{source}: no column {missing[0]!r}, with which the model was trained")
    kinds = {name: kind_of_type(schema.field(name).type) for name in columns}
    return hashlib.sha256(json.dumps(kinds, sort_keys=True).encode()).digest()
