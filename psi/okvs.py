"""Oblivious key-value store: a vector that decodes each key to its value, and any other key to noise.

The construction of Raghuraman and Rindal 2022 ("Blazing Fast PSI", section 3) over 64-bit values with
binary coefficients. The row of a key has three ones at random among `sparse` slots and a random binary
string over `dense` further slots; decoding XORs the slots of the row. Encoding solves that linear system.
`docs/psi.md` argues the failure probability and why the vector tells nothing of its keys.
"""

from collections.abc import Callable
from math import floor, log2
from typing import Final, NamedTuple

import numpy as np
from Crypto.Cipher import AES
from numpy.typing import NDArray

SEED: Final = 16
"""Bytes of a seed."""

STATISTICAL: Final = 40
"""Encoding fails with probability at most 2^-STATISTICAL for each seed."""

LARGEST_CORE: Final = 4096
"""Rows that we are willing to solve by elimination; beyond it, another seed is tried."""

Words = NDArray[np.uint64]
Rows = NDArray[np.int64]


class Shape(NamedTuple):
    """Slots of each part; the hint is 8 * (sparse + dense) bytes."""

    sparse: int
    dense: int


class _Equations(NamedTuple):
    """One row a key: its three slots [n, 3], and its dense string [n] (bit j stands for slot sparse + j)."""

    slots: Rows
    dense: Words


def shape(count: int) -> Shape:
    """Slots for `count` keys: the weight-3 parameters of Raghuraman and Rindal (volepsi, PaxosParam)."""
    log_n = log2(max(count, 2))
    per_expansion = 2 ** (0.555 * log_n + 2.336)  # bits of statistical security a unit of expansion
    expansion = 1.223 + (STATISTICAL + 9.2) / per_expansion
    gap = floor(STATISTICAL / log2(expansion * max(count, 2)))
    return Shape(int(expansion * max(count, 2)) + 1, gap + STATISTICAL)


def encode(keys: NDArray[np.uint8], values: Words, random: Callable[[int], bytes]) -> tuple[bytes, Words]:
    """(seed, slots [sparse + dense]) such that `decode` gives `values` [n] at `keys` [n, 16].

    keys: distinct, else ValueError. Every slot that the system leaves free is drawn from `random`: with
    free slots at zero, decoding tells members from others.
    """
    size = shape(len(keys))
    for _ in range(4):  # the second try already has probability 2^-40
        seed = random(SEED)
        filled = _solve(_equations(seed, size, keys), size, values, random)
        if filled is not None:
            return seed, filled
    raise ValueError("the keys of an OKVS must be distinct")


def decode(seed: bytes, slots: Words, count: int, keys: NDArray[np.uint8]) -> Words:
    """The values [k] at `keys` [k, 16] in a store of `count` keys; uniform noise where a key is not in it."""
    size = shape(count)
    equations = _equations(seed, size, keys)
    sparse = slots[equations.slots]
    return sparse[:, 0] ^ sparse[:, 1] ^ sparse[:, 2] ^ _dense(equations.dense, slots[size.sparse :])


def _equations(seed: bytes, size: Shape, keys: NDArray[np.uint8]) -> _Equations:
    """Rows from AES under two keys made of the seed, on the keys' 16 bytes as blocks."""
    data = np.ascontiguousarray(keys).tobytes()
    schedule = AES.new(seed, AES.MODE_ECB)
    one, two = (
        np.frombuffer(AES.new(schedule.encrypt(bytes([label]) * 16), AES.MODE_ECB).encrypt(data), "<u8")
        for label in (1, 2)
    )
    # Three distinct slots: draw from m, m - 1 and m - 2 places, each time stepping over those taken.
    m = np.uint64(size.sparse)
    first, second, third = one[0::2] % m, one[1::2] % (m - np.uint64(1)), two[0::2] % (m - np.uint64(2))
    second += second >= first
    low, high = np.minimum(first, second), np.maximum(first, second)
    third += third >= low
    third += third >= high
    mask = np.uint64((1 << size.dense) - 1)
    return _Equations(np.stack([first, second, third], axis=1).astype(np.int64), two[1::2] & mask)


def _dense(strings: Words, slots: Words) -> Words:
    """For each binary string [n], the XOR of the slots [dense] that it selects."""
    total = np.zeros(len(strings), np.uint64)
    for j, slot in enumerate(slots):
        total ^= ((strings >> np.uint64(j)) & np.uint64(1)) * slot
    return total


def _solve(equations: _Equations, size: Shape, values: Words, random: Callable[[int], bytes]) -> Words | None:
    """A uniformly random solution: free slots at random, the others computed; None if there may be none."""
    filled = np.frombuffer(random(8 * sum(size)), "<u8").copy()
    peeled, core = _peel(equations.slots, size.sparse)
    if len(core) and not _solve_core(equations, core, size, values, filled):
        return None
    wanted = values ^ _dense(equations.dense, filled[size.sparse :])
    for rows, pivots in reversed(peeled):
        # A pivot is still at its random filling: take it out of the sum by adding it twice.
        three = filled[equations.slots[rows]]
        filled[pivots] ^= wanted[rows] ^ three[:, 0] ^ three[:, 1] ^ three[:, 2]
    return filled


def _peel(slots: Rows, count: int) -> tuple[list[tuple[Rows, Rows]], Rows]:
    """Take away rows that own a slot, all at once, until none does: ([(rows, their slots)], rows left).

    A row's slot occurs in no row of its own or a later round, so the rounds are solved in reverse.
    """
    degree = np.bincount(slots.ravel(), minlength=count)
    # The sum of the rows at a slot: where the degree is one, it is the row.
    owner = np.zeros(count, np.int64)
    np.add.at(owner, slots.ravel(), np.repeat(np.arange(len(slots)), 3))
    peeled: list[tuple[Rows, Rows]] = []
    left = np.ones(len(slots), bool)
    alone = np.flatnonzero(degree == 1)
    while len(alone):
        rows, at = np.unique(owner[alone], return_index=True)
        peeled.append((rows, alone[at]))
        left[rows] = False
        touched = slots[rows].ravel()
        np.subtract.at(degree, touched, 1)
        np.subtract.at(owner, touched, np.repeat(rows, 3))
        alone = np.unique(touched[degree[touched] == 1])
    return peeled, np.flatnonzero(left)


def _solve_core(equations: _Equations, core: Rows, size: Shape, values: Words, filled: Words) -> bool:
    """Solve the rows that peeling left, over their own sparse slots and the dense ones; False if dependent.

    Gaussian elimination over GF(2), a row being the set of its slots as the bits of an integer. Whether
    it succeeds depends on the rows alone, not on `values`.
    """
    if len(core) > LARGEST_CORE:
        return False
    own, local = np.unique(equations.slots[core], return_inverse=True)
    slots = [*own.tolist(), *range(size.sparse, sum(size))]  # bit -> slot
    basis: dict[int, tuple[int, int]] = {}  # pivot -> the row whose lowest bit it is, its value
    for row, ones in zip(core.tolist(), local.reshape(-1, 3).tolist(), strict=True):
        bits = int(equations.dense[row]) << len(own) | sum(1 << bit for bit in ones)
        value = int(values[row])
        while bits:
            pivot = _lowest(bits)
            if pivot not in basis:
                basis[pivot] = bits, value
                break
            bits, value = bits ^ basis[pivot][0], value ^ basis[pivot][1]
        else:
            return False
    for pivot in sorted(basis, reverse=True):
        bits, value = basis[pivot]
        bits ^= 1 << pivot
        while bits:
            bit = _lowest(bits)
            value ^= int(filled[slots[bit]])
            bits ^= 1 << bit
        filled[slots[pivot]] = value
    return True


def _lowest(bits: int) -> int:
    return (bits & -bits).bit_length() - 1
