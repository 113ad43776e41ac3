"""The expand-convolute code of Raghuraman, Rindal, Tanguy 2023 (eprint 2023/882), dual form, over GF(2^128).

G = (I | B A): systematic; B expands with 21 ones a row, of which 11 fall one into each of 11 regions and 10
anywhere; A convolves twice, each time adding to an element a random half of the 24 before it, and the 25th
before it always, times a constant. This is ExConv21x24 of libOTe as volepsi uses it (docs/psi.md, "The engine
rr22", says which file gives which number). G is public and the same in every run of a size.

The memory that the expander touches at random is what this costs. So the regions are visited one by one, and
the free ones are sorted by where they read, both so that what is read stays in the processor's cache.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from psi import cores, gf128, kdf
from psi.compiled import compiled

REGIONS: Final = 11
FREE: Final = 10
MEMORY: Final = 24
CONSTANT: Final = 4234123421
"""mulConst of libOTe: it mixes the 128 bits of an element, on which a code with bits for coefficients would
act one by one (a splitting attack)."""

SEED: Final = b"ExConv21x24"

CHUNK: Final = 1 << 15
"""Random words made at a time: 256 KiB."""

SPAN: Final = 16
"""log2 of the rows, and of the elements read, of a cell of the sorted free ones: both halves of 32 bits."""

PASS: Final = 1 << 19
"""Rows that one thread expands at a time, sorting their free ones: 23 MiB."""

Words = NDArray[np.uint64]
Rows = NDArray[np.int64]

_HALF = np.uint64(32)
_LOW = np.uint64(0xFFFFFFFF)


def encode(vector: Words, size: int) -> Words:
    """G times `vector` [n, 2], [size, 2]: the vector is used up, the result is a view of its beginning."""
    result, parity = vector[:size], vector[size:]
    constant = gf128.table(np.array([CONSTANT, 0], np.uint64))
    for convolution in (1, 2):
        ones = _random(b"convolution %d" % convolution, 0, (len(parity) + 1) // 2)
        _convolve(parity, ones.view("<u4"), constant)
    cores.spread(lambda start: _expand(result[start : start + PASS], start, parity), range(0, size, PASS))
    return result


def _expand(rows: Words, first: int, parity: Words) -> None:
    """Add B times `parity` to these rows of the result, the first of which is row `first`."""
    region = len(parity) // REGIONS
    for i in range(REGIONS):
        source = parity[i * region : (i + 1) * region]
        for start in range(0, len(rows), CHUNK):
            some = rows[start : start + CHUNK]
            _add_region(some, source, _random(b"region %d" % i, first + start, len(some)))
    blocks, chunks = (len(parity) - 1 >> SPAN) + 1, range(0, len(rows), 1 << SPAN)
    cells = np.empty((len(chunks), blocks, (FREE << SPAN) // blocks * 9 // 8), np.uint32)
    filled = np.empty((len(chunks), blocks), np.uint64)
    for chunk, start in enumerate(chunks):
        some = rows[start : start + (1 << SPAN)]
        _sort(_random(b"free", first + start, FREE * len(some)), parity, some, cells[chunk], filled[chunk])
    _add_cells(rows, parity, cells, filled)


def _random(kind: bytes, row: int, words: int) -> Words:
    return kdf.stream(kdf.key(SEED, kind, row.to_bytes(8, "big")), words)


@compiled
def _scale(word: np.uint64, size: np.uint64) -> np.uint64:
    """floor(word * size / 2^64) for a size below 2^32: uniform but for 2^-32."""
    return ((word >> _HALF) * size + ((word & _LOW) * size >> _HALF)) >> _HALF


@compiled
def _convolve(parity: Words, ones: NDArray[np.uint32], constant: Words) -> None:
    """Row by row: add it to each of the 24 after it whose bit is one; add it to the 25th, times the constant.

    Past the end it goes on at the beginning, to elements that are done: nothing follows from them.
    """
    size = len(parity)
    for i in range(size):
        low, high, bits = parity[i, 0], parity[i, 1], np.uint64(ones[i])
        if i + MEMORY + 1 < size:
            for k in range(MEMORY):
                mask = np.uint64(0) - (bits >> np.uint64(k) & np.uint64(1))
                parity[i + 1 + k, 0] ^= low & mask
                parity[i + 1 + k, 1] ^= high & mask
        else:
            for k in range(MEMORY):
                mask = np.uint64(0) - (bits >> np.uint64(k) & np.uint64(1))
                parity[(i + 1 + k) % size, 0] ^= low & mask
                parity[(i + 1 + k) % size, 1] ^= high & mask
        last = (i + MEMORY + 1) % size
        low ^= parity[last, 0]
        high ^= parity[last, 1]
        new_low, new_high = np.uint64(0), np.uint64(0)
        for place in range(8):
            shift = np.uint64(8 * place)
            byte = low >> shift & np.uint64(0xFF)
            new_low ^= constant[place, byte, 0]
            new_high ^= constant[place, byte, 1]
            byte = high >> shift & np.uint64(0xFF)
            new_low ^= constant[8 + place, byte, 0]
            new_high ^= constant[8 + place, byte, 1]
        parity[last, 0], parity[last, 1] = new_low, new_high


@compiled
def _add_region(rows: Words, region: Words, words: Words) -> None:
    """Add to each row a random element of the region."""
    size = np.uint64(len(region))
    for i in range(len(rows)):
        at = _scale(words[i], size)
        rows[i, 0] ^= region[at, 0]
        rows[i, 1] ^= region[at, 1]


@compiled
def _sort(words: Words, parity: Words, rows: Words, cells: NDArray[np.uint32], filled: Words) -> None:
    """Sort the free ones of the rows, at most 2^16, by their column's upper bits, into cells [blocks, room].

    A cell is the row and the lower 16 bits of the column. What finds no room is added at once.
    """
    size, room, one = np.uint64(len(parity)), np.uint64(cells.shape[1]), np.uint64(1)
    span, lower = np.uint64(SPAN), np.uint64((1 << SPAN) - 1)
    filled[:] = 0
    i = 0
    for row in range(len(rows)):
        upper = np.uint64(row) << span
        for _ in range(FREE):
            column = _scale(words[i], size)
            block = column >> span
            place = filled[block]
            if place < room:
                cells[block, place] = np.uint32(upper | column & lower)
                filled[block] = place + one
            else:
                rows[row, 0] ^= parity[column, 0]
                rows[row, 1] ^= parity[column, 1]
            i += 1


@compiled
def _add_cells(rows: Words, parity: Words, cells: NDArray[np.uint32], filled: Words) -> None:
    """Add to the rows what the cells [chunks, blocks, room] read, block of columns by block."""
    for block in range(cells.shape[1]):
        base = block << SPAN
        for chunk in range(len(cells)):
            first = chunk << SPAN
            for k in range(np.int64(filled[chunk, block])):
                cell = np.int64(cells[chunk, block, k])
                row, column = first + (cell >> SPAN), base + (cell & ((1 << SPAN) - 1))
                rows[row, 0] ^= parity[column, 0]
                rows[row, 1] ^= parity[column, 1]
