"""Punctured pseudorandom functions: trees of Goldreich, Goldwasser and Micali, all of a batch level by level.

A node's children are pi_0(v) + v and pi_1(v) + v, where pi is AES under two keys that need not be secret
(Guo, Katz, Wang and Yu 2020). Who grew the trees knows, for each level, the XOR of all left and of all right
children. Who learns at each level the one on the other side of a leaf's path can grow all leaves but that.

Leaf i is reached by the bits of i, lowest first. So a level is a prefix of the leaves' own memory, and its
right children are simply appended; a size that is no power of two leaves out right children of the last
level. Arrays are [leaf, tree, 2 words]: the trees are interleaved.
"""

import numpy as np
from Crypto.Cipher import AES
from numpy.typing import NDArray

Words = NDArray[np.uint64]

CHUNK = 1 << 15
"""Nodes expanded at a time: 512 KiB, which stay in the processor's cache."""


def depth(size: int) -> int:
    """Levels of a tree with so many leaves."""
    return (size - 1).bit_length()


def grow(roots: Words, size: int, keys: tuple[bytes, bytes]) -> tuple[Words, Words]:
    """(leaves [size, trees, 2], sums [depth, 2, trees, 2]) from secret roots [trees, 2]; keys of 16 bytes."""
    trees = len(roots)
    leaves = np.empty((size, trees, 2), np.uint64)
    leaves[0] = roots
    sums = np.empty((depth(size), 2, trees, 2), np.uint64)
    for level, sides in enumerate(sums):
        sides[:] = _expand(leaves, 1 << level, keys)
    return leaves, sums


def regrow(points: NDArray[np.int64], sums: Words, size: int, keys: tuple[bytes, bytes]) -> Words:
    """The leaves [size, trees, 2] but those at `points` [trees], which are zero.

    sums: [depth, trees, 2], of each level the side that the path to the point does not take: right where
    the level's bit of the point is 0.
    """
    trees = np.arange(len(points))
    leaves = np.zeros((size, len(points), 2), np.uint64)
    for level, told in enumerate(sums):
        nodes = 1 << level
        sides = _expand(leaves, nodes, keys)
        left = points & (nodes - 1)
        right = left + nodes
        there = right < size
        # What came of the unknown node is no part of the sums.
        sides[0] ^= leaves[left, trees]
        leaves[left, trees] = 0
        sides[1][there] ^= leaves[right[there], trees[there]]
        leaves[right[there], trees[there]] = 0
        goes_right = (points >> level & 1).astype(bool)
        leaves[left[goes_right], trees[goes_right]] = (told ^ sides[0])[goes_right]
        known = there & ~goes_right
        leaves[right[known], trees[known]] = (told ^ sides[1])[known]
    return leaves


def _expand(leaves: Words, nodes: int, keys: tuple[bytes, bytes]) -> Words:
    """Left children replace the first `nodes` rows, right ones are appended: their sums [2, trees, 2]."""
    trees = leaves.shape[1]
    left, right = (AES.new(key, AES.MODE_ECB) for key in keys)
    sums = np.zeros((2, trees, 2), np.uint64)
    step = max(CHUNK // trees, 1)
    made = np.empty((step, trees, 2), np.uint64)
    for start in range(0, nodes, step):
        parents = leaves[start : min(start + step, nodes)]
        children = leaves[nodes + start : nodes + start + len(parents)]
        if len(children):
            right.encrypt(_bytes(parents[: len(children)]), output=_bytes(children))
            children ^= parents[: len(children)]
            sums[1] ^= np.bitwise_xor.reduce(children, axis=0)
        left.encrypt(_bytes(parents), output=_bytes(made[: len(parents)]))
        parents ^= made[: len(parents)]
        sums[0] ^= np.bitwise_xor.reduce(parents, axis=0)
    return sums


def _bytes(nodes: Words) -> memoryview:
    return nodes.reshape(-1).view(np.uint8).data
