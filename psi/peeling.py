"""The linear systems of `psi.okvs`: rows of weight three and a dense part, solved by peeling, compiled.

A row XORs three of a bin's first `sparse` slots, and those of the rest that its dense string selects.
The 256 bits that make a row come as two pairs of words: bin and first slot are drawn from
the first, second and third slot from the next two, the dense string is the last.
"""

import numpy as np
from numpy.typing import NDArray

from psi.compiled import compiled

Words = NDArray[np.uint64]
Rows = NDArray[np.int64]
Slots = NDArray[np.int32]

LARGEST_CORE = 4096
"""Rows that we are willing to solve by elimination; beyond it, another seed is tried."""

LOW = np.uint64(0xFFFFFFFF)
HALF = np.uint64(32)
ONE = np.uint64(1)


@compiled
def group(first: Words, bins: int) -> tuple[NDArray[np.uint32], Rows]:
    """(rows [n] sorted by bin, starts [bins + 1]): bin i holds rows[starts[i] : starts[i + 1]]."""
    starts = np.zeros(bins + 2, np.int64)
    for word in first[:, 0]:
        starts[_scale(word, bins) + 2] += 1
    for i in range(2, bins + 2):
        starts[i] += starts[i - 1]
    rows = np.empty(len(first), np.uint32)
    for i in range(len(first)):
        to = _scale(first[i, 0], bins) + 1
        rows[starts[to]] = i
        starts[to] += 1
    return rows, starts[:-1]


@compiled
def decode_rows(first: Words, second: Words, store: Words, sparse: int) -> Words:
    """[k, w] the XOR of the slots of each row. store: [bins, sparse + dense, w]."""
    bins, width = store.shape[0], store.shape[2]
    tables = np.empty((bins, (store.shape[1] - sparse + 7) // 8, 256, width), np.uint64)
    for i in range(bins):
        _tabulate(store[i, sparse:], tables[i])
    values = np.empty((len(first), width), np.uint64)
    for i in range(len(first)):
        own = _scale(first[i, 0], bins)
        a, b, c = _three(first[i, 0] * np.uint64(bins), first[i, 1], second[i, 0], sparse)
        for k in range(width):
            values[i, k] = store[own, a, k] ^ store[own, b, k] ^ store[own, c, k]
        _add_dense(tables[own], second[i, 1], values[i])
    return values


@compiled
def encode_bin(
    first: Words, second: Words, rows: NDArray[np.uint32], values: Words, store: Words, bins: int, sparse: int
) -> bool:
    """Solve for the `rows` of one bin in `store` [sparse + dense, w], random at first; free slots stay so.

    False if some rows are dependent, or too many remain after peeling; it does not depend on `values`.
    """
    count, width = len(rows), store.shape[1]
    slots = np.empty((count, 3), np.int32)
    strings = np.empty(count, np.uint64)
    for i in range(count):
        row = rows[i]
        slots[i] = _three(first[row, 0] * np.uint64(bins), first[row, 1], second[row, 0], sparse)
        strings[i] = second[row, 1]
    order, pivots, left = _peel(slots, sparse)
    core = np.flatnonzero(left)
    if len(core) and not _solve_core(slots, strings, core, rows, values, store, sparse):
        return False
    tables = np.empty(((len(store) - sparse + 7) // 8, 256, width), np.uint64)
    _tabulate(store[sparse:], tables)
    total = np.empty(width, np.uint64)
    for j in range(len(order) - 1, -1, -1):
        i, pivot = order[j], pivots[j]
        a, b, c = slots[i]
        # The pivot is still at its random filling: take it out of the sum by adding it twice.
        for k in range(width):
            total[k] = values[rows[i], k] ^ store[a, k] ^ store[b, k] ^ store[c, k] ^ store[pivot, k]
        _add_dense(tables, strings[i], total)
        store[pivot] = total
    return True


@compiled
def _scale(word: np.uint64, size: int) -> np.int64:
    """floor(word * size / 2^64), size < 2^32. The low half of the product is as good as a fresh draw."""
    m = np.uint64(size)
    return np.int64(((word >> HALF) * m + ((word & LOW) * m >> HALF)) >> HALF)


@compiled
def _three(
    one: np.uint64, two: np.uint64, three: np.uint64, size: int
) -> tuple[np.int64, np.int64, np.int64]:
    """Three distinct places of `size`: draws from size, size - 1 and size - 2, stepping over those taken."""
    a, b, c = _scale(one, size), _scale(two, size - 1), _scale(three, size - 2)
    b += b >= a
    c += c >= min(a, b)
    c += c >= max(a, b)
    return a, b, c


@compiled
def _tabulate(dense: Words, tables: Words) -> None:
    """tables [bytes, 256, w]: for each byte of a dense string, the XOR of the slots that it selects."""
    tables[:] = 0
    for j in range(len(dense)):
        half = 1 << (j & 7)
        for x in range(half, 256):
            if x & half:
                for k in range(dense.shape[1]):
                    tables[j >> 3, x, k] ^= dense[j, k]


@compiled
def _add_dense(tables: Words, string: np.uint64, total: Words) -> None:
    for j in range(len(tables)):
        x = np.int64(string >> np.uint64(8 * j)) & 255
        for k in range(len(total)):
            total[k] ^= tables[j, x, k]


@compiled
def _peel(slots: Slots, size: int) -> tuple[Slots, Slots, NDArray[np.bool_]]:
    """Take away rows that alone own a slot, until none does: (rows, the slot of each, which rows are left).

    A row's slot occurs in no later row, so they are solved in reverse.
    """
    degree = np.zeros(size, np.int32)
    owner = np.zeros(size, np.int32)  # the XOR of the rows at a slot: where the degree is one, the row
    for i in range(len(slots)):
        for slot in slots[i]:
            degree[slot] += 1
            owner[slot] ^= i
    order, pivots = np.empty(len(slots), np.int32), np.empty(len(slots), np.int32)
    left = np.ones(len(slots), np.bool_)
    alone = np.empty(size, np.int32)  # a stack; each slot enters once, when its degree comes to be one
    top = 0
    for slot in range(size):
        if degree[slot] == 1:
            alone[top] = slot
            top += 1
    done = 0
    while top:
        top -= 1
        pivot = alone[top]
        if degree[pivot] != 1:
            continue
        i = owner[pivot]
        order[done], pivots[done], left[i] = i, pivot, False
        done += 1
        for slot in slots[i]:
            degree[slot] -= 1
            owner[slot] ^= i
            if degree[slot] == 1:
                alone[top] = slot
                top += 1
    return order[:done], pivots[:done], left


@compiled
def _solve_core(
    slots: Slots,
    strings: Words,
    core: Rows,
    rows: NDArray[np.uint32],
    values: Words,
    store: Words,
    sparse: int,
) -> bool:
    """Solve the rows that peeling left, over their own sparse slots and the dense ones; False if dependent.

    Gaussian elimination over GF(2), a row being the set of its slots as bits: bit -> slot is `at`.
    """
    if len(core) > LARGEST_CORE:
        return False
    bit_of = np.full(sparse, -1, np.int64)
    at = np.empty(3 * len(core) + len(store) - sparse, np.int64)
    size = 0
    for row in core:
        for slot in slots[row]:
            if bit_of[slot] < 0:
                bit_of[slot], at[size] = size, slot
                size += 1
    own = size
    for slot in range(sparse, len(store)):
        at[size] = slot
        size += 1
    bits = np.zeros((len(core), (size + 63) // 64), np.uint64)
    wanted = np.empty((len(core), store.shape[1]), np.uint64)
    for r in range(len(core)):
        for slot in slots[core[r]]:
            bits[r, bit_of[slot] >> 6] |= ONE << np.uint64(bit_of[slot] & 63)
        for j in range(own, size):
            one = strings[core[r]] >> np.uint64(j - own) & ONE
            bits[r, j >> 6] |= one << np.uint64(j & 63)
        wanted[r] = values[rows[core[r]]]
    owner = np.full(size, -1, np.int64)  # the row whose lowest bit it is
    for r in range(len(core)):
        word = 0
        while word < bits.shape[1]:
            if bits[r, word] == 0:
                word += 1
                continue
            bit = 64 * word + _lowest(bits[r, word])
            if owner[bit] < 0:
                owner[bit] = r
                break
            bits[r, word:] ^= bits[owner[bit], word:]
            wanted[r] ^= wanted[owner[bit]]
        else:
            return False
    for pivot in range(size - 1, -1, -1):
        r = owner[pivot]
        if r < 0:
            continue
        bits[r, pivot >> 6] ^= ONE << np.uint64(pivot & 63)
        for word in range(pivot >> 6, bits.shape[1]):
            while bits[r, word]:
                bit = _lowest(bits[r, word])
                wanted[r] ^= store[at[64 * word + bit]]
                bits[r, word] ^= ONE << np.uint64(bit)
        store[at[pivot]] = wanted[r]
    return True


@compiled
def _lowest(word: np.uint64) -> int:
    """The place of the lowest one of a word that has one."""
    place = 0
    for step in (32, 16, 8, 4, 2, 1):
        if word << np.uint64(64 - step - place) == 0:
            place += step
    return place
