"""Whole lines of a CSV read by Arrow, ten times as fast as one by one, where it reads them as RFC 4180 does.

Arrow is kind to a stray quote, and gives no line. So it gets only lines in which each quoted cell is plain:
on one line, without a quote inside. Anything else is for the reader that goes line by line.
"""

import csv
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
from numpy.typing import NDArray

QUOTE, NEWLINE, RETURN, NUL = b'"\n\r\0'


def parsed(chunk: str, separator: str, header: Sequence[str], kept: Sequence[str]) -> Any:
    """A pyarrow.Table of these columns, text, null where empty; None where the chunk is not plain, or is
    wrong. chunk: whole lines. header: of all columns."""
    if not separator.isascii():
        return None
    raw = chunk.encode()
    if not _is_plain(np.frombuffer(raw, np.uint8), ord(separator)):
        return None
    try:
        table = pa.csv.read_csv(
            pa.py_buffer(raw),
            pa.csv.ReadOptions(column_names=[*header], block_size=len(raw) + 1, use_threads=False),
            pa.csv.ParseOptions(delimiter=separator),
            pa.csv.ConvertOptions(
                include_columns=[*kept],
                column_types=dict.fromkeys(kept, pa.large_string()),
                null_values=[""],
                strings_can_be_null=True,
            ),
        )
    except pa.ArrowException:
        return None
    longest = [pc.max(pc.binary_length(column)).as_py() or 0 for column in table.columns]
    return table if max(longest) <= csv.field_size_limit() else None


def _is_plain(raw: NDArray[np.uint8], separator: int) -> bool:
    newlines = np.flatnonzero(raw == NEWLINE)
    returns = np.flatnonzero(raw == RETURN)
    if (raw == NUL).any() or len(returns) != len(np.intersect1d(returns, newlines - 1, assume_unique=True)):
        return False
    quotes = np.flatnonzero(raw == QUOTE)
    if len(quotes) % 2:
        return False
    opening, closing = quotes[::2], quotes[1::2]
    padded = np.concatenate(([NEWLINE], raw, [NEWLINE]))
    before, after = padded[opening], padded[closing + 2]
    return bool(
        np.isin(before, (separator, NEWLINE)).all()
        and np.isin(after, (separator, NEWLINE, RETURN)).all()
        and (np.searchsorted(newlines, opening) == np.searchsorted(newlines, closing)).all()
    )
