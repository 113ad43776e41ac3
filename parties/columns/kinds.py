"""Of what kind a column is, seen from its cells where its owner does not say. docs/data.md has the rules."""

import math
from typing import Any, Final, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from parties.bags import are_bags
from parties.columns.cells import is_number, parsed_dates, parsed_numbers, present
from parties.columns.written import LOOKED_AT, MOST, elsewhere, share
from parties.sources.source import is_text

LEFT_OUT: Final = ("text", "key")
"""Kinds that are told and take no part."""
LEADING_ZERO: Final = r"^\s*[+-]?0[0-9]"
"""A code such as a postcode, whatever it looks like."""
DATE: Final = r"^\s*[0-9]{4}-[0-9]{2}-[0-9]{2}([T ]|\s*$)"
"""How a date begins: a year and a month alone, or eight digits, are too often something else."""
E_MAIL: Final = r"^[^@\s]+@[^@\s]+\.[^@\s]+$"
KEYS: Final = (E_MAIL, r"^\+?[0-9][0-9 ()./-]{6,}$", r"(?i)^[0-9a-f]{8}-?([0-9a-f]{4}-?){3}[0-9a-f]{12}$")
"""E-mail addresses, phone numbers, UUIDs."""
WORDS: Final = frozenset(("true", "false", "yes", "no"))
ENOUGH: Final = 1_000
"""Rows from which on it is no chance that no number recurs."""


class Seen(NamedTuple):
    """kind: a `parties.columns.Kind`, or empty, or other. told: why it is left out, or what to look at."""

    kind: str
    told: str = ""


def kind_of(column: Any) -> Seen:
    """column: ChunkedArray, without dictionary or extension."""
    of = column.type
    if are_bags(of):
        return Seen("bag")
    if column.null_count == len(column):
        return Seen("empty", "it is empty")
    if pa.types.is_boolean(of):
        return Seen("boolean")
    if pa.types.is_timestamp(of) or pa.types.is_date(of):
        return Seen("date")
    if is_number(of):
        values = column.cast(pa.float64(), safe=False).to_numpy().astype(np.float64)
        return _of_numbers(values) or Seen("number")
    if is_text(of):
        return _of_texts(column)
    return Seen("other", f"its type is {of}")


def never_recurs(values: NDArray[np.float64]) -> bool:
    """Are these whole numbers a count of rows, or keys? So many measurements, however spread over their
    range, would recur: of n among R at least n - R (1 - exp(-n / R)). False for so few that it may be
    chance."""
    values = values[~np.isnan(values)]
    n = len(values)
    if n < ENOUGH or (values != np.floor(values)).any():
        return False
    distinct = len(np.unique(values))
    spread = float(values.max() - values.min()) + 1
    recurring = n + spread * math.expm1(-n / spread)
    return distinct >= 0.95 * n and recurring >= 20 and n - distinct < recurring / 2


def looks_like_keys(texts: Any, patterns: tuple[str, ...] = KEYS) -> bool:
    """Are most of the first ones e-mail addresses, phone numbers or UUIDs? texts: Arrow, none null."""
    first = texts.slice(0, LOOKED_AT)
    return any(share(pc.match_substring_regex(first, pattern)) >= MOST for pattern in patterns)


def _of_numbers(values: NDArray[np.float64]) -> Seen | None:
    if not never_recurs(values):
        return None
    return Seen("key", "whole numbers of which hardly one occurs twice, as a key's")


def _of_texts(column: Any) -> Seen:
    texts = column.drop_null()
    first = present(texts.slice(0, LOOKED_AT)).drop_null()
    if not len(first):
        first = present(texts).drop_null().slice(0, LOOKED_AT)
    if not len(first):
        return Seen("empty", "it is empty")
    told = ""
    if share(pc.match_substring_regex(first, DATE)) >= MOST:
        _, bad = parsed_dates(column)
        if not bad.any():
            return Seen("date")
        told = _nearly("dates", column, bad)
    elif parsed_numbers(first)[1].mean() <= 1 - MOST:
        values, bad = parsed_numbers(column)
        if not pc.any(pc.match_substring_regex(texts, LEADING_ZERO)).as_py():
            if not bad.any():
                return _of_numbers(values) or Seen("number")
            told = _nearly("numbers", column, bad)
    elif like := elsewhere(first):
        told = f"its cells look like {like}"
    distinct = texts.unique()
    if len(distinct) <= LOOKED_AT and WORDS.issuperset(_folded(present(distinct).drop_null())):
        return Seen("boolean")
    many = f"{len(distinct):,} distinct values in {len(texts):,} rows"
    if looks_like_keys(distinct, (E_MAIL,)):
        return Seen("key", "its cells look like e-mail addresses")
    if len(distinct) <= len(texts) / 2:
        return Seen("category", told)
    if told:
        return Seen("unread", told)
    blanks = share(pc.match_substring_regex(distinct.slice(0, LOOKED_AT), r"\s"))
    if looks_like_keys(distinct) or blanks < 1 - MOST:
        return Seen("key", many)
    return Seen("text", many)


def _nearly(what: str, column: Any, bad: NDArray[np.bool_]) -> str:
    first = int(np.argmax(bad)) + 1
    like = elsewhere(column.filter(pa.array(bad)))
    how = f", which look like {like}" if like else ": mend them"
    return f"its cells are {what} but for {int(bad.sum()):,}, the first in row {first}{how}"


def _folded(distinct: Any) -> set[str]:
    return {str(one).strip().casefold() for one in distinct.to_pylist()}
