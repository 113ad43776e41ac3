"""Oblivious key-value store: a vector that decodes each key to its value, and any other key to noise.

The clustered construction of Raghuraman and Rindal 2022 ("Blazing Fast PSI", sections 3 and 4) with binary
coefficients. A key falls into one of the bins; its row has three ones at random among the `sparse` slots of
the bin, and a random binary string over the `dense` ones. Decoding XORs the slots of the row; encoding
solves the linear system of each bin, small enough to stay in the processor's cache.
`docs/psi.md` argues the failure probability and why the vector tells nothing of its keys.
"""

from collections.abc import Callable
from itertools import pairwise
from math import floor, log, log2
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from psi import kdf
from psi.peeling import Equations, decode_rows, equations, solve_bin

SEED: Final = 16
"""Bytes of a seed."""

STATISTICAL: Final = 40
"""Encoding fails with probability at most 2^-STATISTICAL for each seed, over all bins."""

BIN: Final = 1 << 17
"""Keys that a bin holds on average, at least: large bins waste fewer slots, small ones stay in the cache."""

Words = NDArray[np.uint64]


class Shape(NamedTuple):
    """How many bins, and the slots of each part of a bin."""

    bins: int
    sparse: int
    dense: int


def shape(count: int) -> Shape:
    """The bins for `count` keys: the weight-3 parameters of Raghuraman and Rindal (volepsi, PaxosParam)."""
    bins = max(count // BIN, 1)
    ways = 1 if bins == 1 else 2 * bins  # to fail: in each bin, too many keys or a system without solution
    statistical = STATISTICAL + log2(ways)
    load = _load(max(count, 2), bins, statistical)
    per_expansion = 2 ** (0.555 * log2(load) + 2.336)  # bits of statistical security a unit of expansion
    expansion = 1.223 + (statistical + 9.2) / per_expansion
    gap = floor(statistical / log2(expansion * load))
    return Shape(bins, int(expansion * load) + 1, gap + floor(statistical))


def slots(count: int) -> int:
    """The length of a store of `count` keys, in slots."""
    size = shape(count)
    return size.bins * (size.sparse + size.dense)


def encode(keys: NDArray[np.uint8], values: Words, random: Callable[[int], bytes]) -> tuple[bytes, Words]:
    """(seed, store [slots(n), w]) such that `decode` gives `values` [n, w] at `keys` [n, 16]; w is 1 or 2.

    keys: distinct, else ValueError. Every slot that the system leaves free is random (AES in counter mode,
    the key from `random`): with free slots at zero, decoding tells members from others. If one bin cannot be
    solved, all start again with another seed.
    """
    size = shape(len(keys))
    for _ in range(4):  # the second try already has probability 2^-40
        seed = random(SEED)
        rows = _equations(seed, size, keys)
        wanted = np.empty(values.shape, np.uint64)
        wanted[rows.place] = values
        store = kdf.stream(random(kdf.KEY), slots(len(keys)) * values.shape[1])
        bins = store.reshape(size.bins, size.sparse + size.dense, values.shape[1])
        ranges = [slice(start, end) for start, end in pairwise(rows.starts.tolist())]
        if all(
            solve_bin(rows.slots[own], rows.dense[own], wanted[own], each, size.sparse)
            for own, each in zip(ranges, bins, strict=True)
        ):
            return seed, bins.reshape(-1, values.shape[1])
    raise ValueError("the keys of an OKVS must be distinct")


def decode(seed: bytes, store: Words, count: int, keys: NDArray[np.uint8]) -> Words:
    """The values [k, w] at `keys` [k, 16] in a store of `count` keys, [slots(count), w].

    Uniform noise where a key is not in it. The store's length must have been checked: it comes from a peer.
    """
    size = shape(count)
    rows = _equations(seed, size, keys)
    bins = np.require(store, np.uint64, ["C", "W"]).reshape(
        size.bins, size.sparse + size.dense, store.shape[1]
    )
    return decode_rows(rows.slots, rows.dense, rows.starts, bins, size.sparse)[rows.place]


def _equations(seed: bytes, size: Shape, keys: NDArray[np.uint8]) -> Equations:
    """Rows from 256 bits a key: AES under two keys made of the seed, of the key as a block."""
    one, two = kdf.permute(seed, np.repeat(np.array([[1], [2]], np.uint8), 16, axis=1))
    first, second = (kdf.permute(half.tobytes(), keys).view("<u8") for half in (one, two))
    return equations(first, second, size.bins, size.sparse)


def _load(count: int, bins: int, statistical: float) -> int:
    """Keys that one of `bins` exceeds with probability 2^-statistical at most, if `count` fall at random.

    By Chernoff: a load of at least q * count has probability at most exp(-count * KL(q || 1 / bins)).
    """
    if bins == 1:
        return count

    def unlikely(load: int) -> bool:
        q, p = load / count, 1 / bins
        return count * (q * log(q / p) + (1 - q) * log((1 - q) / (1 - p))) >= statistical * log(2)

    low, high = count // bins, count - 1  # of which the second is unlikely and the first is not
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if unlikely(middle) else (middle, high)
    return high
