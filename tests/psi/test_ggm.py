"""Punctured trees: who knows all but one path grows all but one leaf, and nothing of that one."""

import numpy as np
import pytest
from Crypto.Cipher import AES
from hypothesis import given, settings
from hypothesis import strategies as st

from psi import ggm

KEYS = (b"left".ljust(16), b"right".ljust(16))


def roots(trees: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 1 << 64, (trees, 2), np.uint64)


def off_path(points: np.ndarray, sums: np.ndarray) -> np.ndarray:
    trees = np.arange(len(points))
    return np.array(
        [sides[1 - (points >> level & 1), trees] for level, sides in enumerate(sums)], np.uint64
    ).reshape(-1, len(points), 2)


def test_a_leaf_is_reached_by_the_bits_of_its_number_lowest_first() -> None:
    start = roots(3, 1)
    leaves, _ = ggm.grow(start, 11, KEYS)
    for leaf in range(11):
        for tree in range(3):
            node = start[tree].tobytes()
            for level in range(4):
                ciphered = AES.new(KEYS[leaf >> level & 1], AES.MODE_ECB).encrypt(node)
                node = bytes(a ^ b for a, b in zip(ciphered, node, strict=True))
            assert leaves[leaf, tree].tobytes() == node


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 300), st.integers(1, 9), st.integers(0, 2**32), st.data())
def test_all_leaves_but_the_points(size: int, trees: int, seed: int, data: st.DataObject) -> None:
    points = np.array(data.draw(st.lists(st.integers(0, size - 1), min_size=trees, max_size=trees)))
    leaves, sums = ggm.grow(roots(trees, seed), size, KEYS)
    assert sums.shape == (ggm.depth(size), 2, trees, 2)
    grown = ggm.regrow(points, off_path(points, sums), size, KEYS)
    expected = leaves.copy()
    expected[points, np.arange(trees)] = 0
    assert (grown == expected).all()
    if len(sums):  # what the sender of a vector OLE masks: the sum of all leaves
        assert (np.bitwise_xor.reduce(leaves, axis=0) == sums[-1, 0] ^ sums[-1, 1]).all()


def test_levels_larger_than_a_chunk_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = ggm.grow(roots(5, 7), 1000, KEYS)
    monkeypatch.setattr(ggm, "CHUNK", 37)
    parts = ggm.grow(roots(5, 7), 1000, KEYS)
    assert (whole[0] == parts[0]).all()
    assert (whole[1] == parts[1]).all()


def test_a_wrong_sum_spoils_only_what_lies_below_it() -> None:
    points = np.array([6])
    leaves, sums = ggm.grow(roots(1, 3), 8, KEYS)
    told = off_path(points, sums)
    told[2] ^= np.uint64(1)  # of the last level: the sibling of the point, leaf 2
    wrong = (ggm.regrow(points, told, 8, KEYS) != leaves).any(axis=(1, 2))
    assert wrong.nonzero()[0].tolist() == [2, 6]
