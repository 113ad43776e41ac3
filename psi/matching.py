"""Finding, for each tag that a peer sends, the own row that carries it."""

import numpy as np
from numpy.typing import NDArray

from psi.compiled import compiled

Bytes = NDArray[np.uint8]
Rows = NDArray[np.int64]

MIX_LOW = np.uint64(0x9E3779B97F4A7C15)
MIX_HIGH = np.uint64(0xC2B2AE3D27D4EB4F)


def match(own: Bytes, tags: Bytes) -> Rows:
    """For each of `tags` [k, size] the row of `own` [n, size] that equals it, else -1: [k]. size <= 16.

    A table with open addressing, at most half full. It holds `own` alone, which must be pseudorandom and
    distinct (of equal rows the first is found): what a peer sends is looked up, never stored, so it
    cannot lengthen a probe beyond the longest run of occupied places, which is O(log n).
    """
    return _match(_words(own), _words(tags), max(2 * len(own) - 1, 1).bit_length())


def distinct(rows: Rows) -> bool:
    """No row of at least 0 occurs twice."""
    found = rows[rows >= 0]
    seen = np.zeros(int(found.max(initial=-1)) + 1, bool)
    seen[found] = True
    return int(np.count_nonzero(seen)) == len(found)


def _words(tags: Bytes) -> NDArray[np.uint64]:
    """[n, size] bytes as [n, 2] words, the missing ones zero."""
    padded = np.zeros((len(tags), 16), np.uint8)
    padded[:, : tags.shape[1]] = tags
    return padded.view("<u8")


@compiled
def _match(own: NDArray[np.uint64], tags: NDArray[np.uint64], bits: int) -> Rows:
    shift, last = np.uint64(64 - bits), (1 << bits) - 1
    table = np.full(last + 1, -1, np.int64)
    for row in range(len(own)):
        place = np.int64((own[row, 0] * MIX_LOW ^ own[row, 1] * MIX_HIGH) >> shift)
        while table[place] >= 0:
            other = table[place]
            if own[other, 0] == own[row, 0] and own[other, 1] == own[row, 1]:
                break
            place = (place + 1) & last
        else:
            table[place] = row
    rows = np.full(len(tags), -1, np.int64)
    for i in range(len(tags)):
        place = np.int64((tags[i, 0] * MIX_LOW ^ tags[i, 1] * MIX_HIGH) >> shift)
        while table[place] >= 0:
            row = table[place]
            if own[row, 0] == tags[i, 0] and own[row, 1] == tags[i, 1]:
                rows[i] = row
                break
            place = (place + 1) & last
    return rows
