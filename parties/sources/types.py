"""One type for a column that comes in several pieces: files of a folder, batches of a query."""

from collections.abc import Iterable
from datetime import date, datetime
from typing import Any

import pyarrow as pa

from parties.errors import DataError
from parties.sources.source import is_text


def one_type(source: object, name: str, pieces: Iterable[tuple[str, Any]]) -> Any:
    """The Arrow type that holds all of them. pieces: where in the source each is, for people, and its type.

    All null fits everything, text of any size is text, and numbers of any size are numbers. Anything else,
    such as text among numbers, is a DataError that names the column and both places.
    """
    first = ""
    found: Any = pa.null()
    for where, kind in pieces:
        both = _both(found, kind)
        if both is None:
            raise DataError(
                f"{source}: column {name!r}: is of type {found} in {first}, but of type {kind} in {where}; "
                "make it one type"
            )
        if pa.types.is_null(found):
            first = where
        found = both
    return found


def cast(source: object, name: str, column: Any, kind: Any) -> Any:
    """Raises DataError where that would change a value."""
    try:
        return column if column.type == kind else column.cast(kind)
    except pa.ArrowException:
        raise DataError(
            f"{source}: column {name!r}: holds numbers that are not exact as {kind}; make it one type"
        ) from None


def would_lose_times(cells: Iterable[Any]) -> bool:
    """Are there dates and times among these objects of Python? Arrow would make all of them dates."""
    kinds = {*map(type, cells)}
    return date in kinds and any(issubclass(kind, datetime) for kind in kinds)


def kind_of_type(kind: Any) -> str:
    """number, text, boolean, date, list or other: what of a type is not an accident of who wrote it."""
    if is_text(kind):
        return "text"
    if pa.types.is_boolean(kind):
        return "boolean"
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        return "date"
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return "number"
    lists = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    return "list" if lists else "other"


def _both(one: Any, other: Any) -> Any:
    if one == other or pa.types.is_null(other):
        return one
    if pa.types.is_null(one):
        return other
    if is_text(one) and is_text(other):
        return pa.large_string()
    whole = [pa.types.is_integer(kind) for kind in (one, other)]
    if all(whole):
        return pa.int64()
    number = [pa.types.is_floating(kind) for kind in (one, other)]
    return pa.float64() if all(a or b for a, b in zip(whole, number, strict=True)) else None
