"""The linear systems of `psi.okvs`: rows of weight three with a dense part, solved by peeling; compiled.

A row XORs three of the first `sparse` slots of its bin, and those of the other slots that the bits of its
dense string select.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from psi.compiled import compiled

Words = NDArray[np.uint64]
Places = NDArray[np.uint32]

LARGEST_CORE = 4096
"""Rows that we are willing to solve by elimination; beyond it, another seed is tried."""

ONE = np.uint64(1)
BYTE = np.uint64(255)
EIGHT = np.uint64(8)
HALF = np.uint64(32)
LOW = np.uint64((1 << 32) - 1)


class Equations(NamedTuple):
    """One row a key, the rows of bin i at starts[i] : starts[i + 1].

    slots: [n, 3], distinct; dense: [n], bit j stands for slot sparse + j; starts: [bins + 1];
    place: [n], the row of each key.
    """

    slots: Places
    dense: Words
    starts: NDArray[np.int64]
    place: Places


@compiled
def equations(first: Words, second: Words, bins: int, sparse: int) -> Equations:
    """The rows that 256 random bits a key, twice [n, 2], stand for."""
    count = len(first)
    starts = np.zeros(bins + 2, np.int64)
    for i in range(count):
        starts[_scale(first[i, 0], bins) + 2] += 1
    for i in range(2, bins + 2):
        starts[i] += starts[i - 1]
    slots, dense = np.empty((count, 3), np.uint32), np.empty(count, np.uint64)
    place = np.empty(count, np.uint32)
    for i in range(count):
        own = _scale(first[i, 0], bins) + 1  # starts[own] moves from the bin's start to the next one's
        row = starts[own]
        starts[own] += 1
        # The low half of a product that _scale takes the high half of is as good as a fresh draw.
        a = _scale(first[i, 0] * np.uint64(bins), sparse)
        # Three distinct slots: draw from sparse, sparse - 1 and sparse - 2, stepping over those taken.
        b, c = _scale(first[i, 1], sparse - 1), _scale(second[i, 0], sparse - 2)
        b += b >= a
        c += c >= min(a, b)
        c += c >= max(a, b)
        slots[row, 0], slots[row, 1], slots[row, 2] = a, b, c
        dense[row], place[i] = second[i, 1], row
    return Equations(slots, dense, starts[:-1], place)


@compiled
def decode_rows(slots: Places, dense: Words, starts: NDArray[np.int64], store: Words, sparse: int) -> Words:
    """[n, w], the XOR of the slots of each row. store: [bins, sparse + dense, w]."""
    decoded = np.empty((len(slots), store.shape[2]), np.uint64)
    for own in range(len(store)):
        table = _table(store[own, sparse:])
        for i in range(starts[own], starts[own + 1]):
            a, b, c = slots[i, 0], slots[i, 1], slots[i, 2]
            for k in range(store.shape[2]):
                total = store[own, a, k] ^ store[own, b, k] ^ store[own, c, k]
                decoded[i, k] = total ^ _selected(table, dense[i], k)
    return decoded


@compiled
def solve_bin(slots: Places, dense: Words, values: Words, store: Words, sparse: int) -> bool:
    """Change `store` [sparse + dense, w], random at first, such that its rows decode to `values` [n, w].

    Slots that the system leaves free stay as they are. False if rows are dependent, or too many of
    them remain after peeling; whether it is False does not depend on the values. `values` is overwritten.
    """
    order, pivots, core = _peel(slots, sparse)
    if len(core) > LARGEST_CORE or not _solve_core(slots, dense, core, values, store, sparse):
        return False
    table = _table(store[sparse:])
    for i in range(len(slots)):
        for k in range(store.shape[1]):
            values[i, k] ^= _selected(table, dense[i], k)
    for j in range(len(order) - 1, -1, -1):
        i, pivot = order[j], pivots[j]
        a, b, c = slots[i, 0], slots[i, 1], slots[i, 2]
        for k in range(store.shape[1]):
            # The pivot, one of the three, is still at its random filling: it takes itself out of the sum.
            store[pivot, k] ^= values[i, k] ^ store[a, k] ^ store[b, k] ^ store[c, k]
    return True


@compiled
def _scale(word: np.uint64, size: int) -> np.int64:
    """floor(word * size / 2^64), for size < 2^32."""
    m = np.uint64(size)
    return np.int64(((word >> HALF) * m + ((word & LOW) * m >> HALF)) >> HALF)


@compiled
def _table(slots: Words) -> Words:
    """[bytes, 256, w]: for each value of each byte of a dense string, the XOR of the slots it selects."""
    table = np.zeros(((len(slots) + 7) // 8, 256, slots.shape[1]), np.uint64)
    for j in range(len(slots)):
        bit = 1 << (j & 7)
        for x in range(bit, 256):
            if x & bit:
                for k in range(slots.shape[1]):
                    table[j >> 3, x, k] ^= slots[j, k]
    return table


@compiled
def _selected(table: Words, string: np.uint64, k: int) -> np.uint64:
    """Word k of the XOR of the dense slots that a string selects; bits beyond the last slot select none."""
    total = np.uint64(0)
    for j in range(len(table)):
        total ^= table[j, string & BYTE, k]
        string >>= EIGHT
    return total


@compiled
def _peel(slots: Places, size: int) -> tuple[Places, Places, NDArray[np.int64]]:
    """Take away rows that own a slot, until none does: (rows, the slot of each, rows left).

    A row's slot occurs in no later row, so they are solved in reverse. First come, first served: rows
    that follow one another then seldom wait for each other's value.
    """
    # A slot's state: in the high half how many rows it is in, in the low half their XOR.
    state = np.zeros(size, np.uint64)
    for i in range(len(slots)):
        for k in range(3):
            slot = slots[i, k]
            state[slot] = (state[slot] + (ONE << HALF)) ^ np.uint64(i)
    queue, end = np.empty(size, np.uint32), 0  # each slot enters once at most: when one row is left to it
    for slot in range(size):
        if state[slot] >> HALF == 1:
            queue[end] = slot
            end += 1
    order, pivots, done = np.empty(len(slots), np.uint32), np.empty(len(slots), np.uint32), 0
    left = np.ones(len(slots), np.bool_)
    next_ = 0
    while next_ < end:
        pivot = queue[next_]
        next_ += 1
        if state[pivot] >> HALF == 1:
            row = np.int64(state[pivot] & LOW)
            order[done], pivots[done], left[row] = row, pivot, False
            done += 1
            for k in range(3):
                slot = slots[row, k]
                state[slot] = (state[slot] - (ONE << HALF)) ^ np.uint64(row)
                if state[slot] >> HALF == 1:
                    queue[end] = slot
                    end += 1
    return order[:done], pivots[:done], np.flatnonzero(left)


@compiled
def _solve_core(
    slots: Places, dense: Words, core: NDArray[np.int64], values: Words, store: Words, sparse: int
) -> bool:
    """Solve the rows that peeling left, over their own sparse slots and the dense ones; False if dependent.

    Gaussian elimination over GF(2). A row is the set of its slots, as bits: bit b stands for slot at[b].
    """
    at = np.empty(3 * len(core) + len(store) - sparse, np.int64)
    bit_of = np.full(len(store), -1, np.int64)
    size = 0
    for i in core:
        for k in range(3):
            if bit_of[slots[i, k]] < 0:
                bit_of[slots[i, k]], at[size] = size, slots[i, k]
                size += 1
    for slot in range(sparse, len(store)):
        bit_of[slot], at[size] = size, slot
        size += 1
    bits = np.zeros((len(core), (size + 63) // 64), np.uint64)
    wanted = np.empty((len(core), store.shape[1]), np.uint64)
    row_of = np.full(size, -1, np.int64)  # the row whose lowest bit this is
    for r in range(len(core)):
        wanted[r] = values[core[r]]
        for k in range(3):
            _flip(bits[r], bit_of[slots[core[r], k]])
        for j in range(len(store) - sparse):
            if dense[core[r]] >> np.uint64(j) & ONE:
                _flip(bits[r], bit_of[sparse + j])
        low = _lowest(bits[r], 0)
        while low >= 0 and row_of[low] >= 0:
            bits[r] ^= bits[row_of[low]]
            wanted[r] ^= wanted[row_of[low]]
            low = _lowest(bits[r], low)
        if low < 0:
            return False
        row_of[low] = r
    for pivot in range(size - 1, -1, -1):
        r = row_of[pivot]
        if r >= 0:
            _flip(bits[r], pivot)
            low = _lowest(bits[r], pivot)
            while low >= 0:
                wanted[r] ^= store[at[low]]
                _flip(bits[r], low)
                low = _lowest(bits[r], low)
            store[at[pivot]] = wanted[r]
    return True


@compiled
def _flip(bits: Words, bit: int) -> None:
    bits[bit >> 6] ^= ONE << np.uint64(bit & 63)


@compiled
def _lowest(bits: Words, start: int) -> int:
    """The lowest bit that is one, from the word of bit `start` on; -1 if none is."""
    for j in range(start >> 6, len(bits)):
        if bits[j]:
            bit = 64 * j
            while not bits[j] >> np.uint64(bit & 63) & ONE:
                bit += 1
            return bit
    return -1
