"""Matching equals a dictionary's answer, whatever a peer sends."""

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from psi import matching


def tags(count: int, size: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, size), np.uint8)


@settings(deadline=None, max_examples=100)
@given(st.integers(0, 300), st.integers(0, 300), st.integers(1, 16), st.integers(0, 2**32))
def test_equals_a_dictionary(held: int, sent: int, size: int, seed: int) -> None:
    """Short tags repeat: the first of equal rows is found, and a tag sent twice is found twice."""
    own, others = tags(held, size, seed), tags(sent, size, seed + 1)
    chosen = np.random.default_rng(seed).random(sent) < 0.5
    if held:
        others[chosen] = own[np.arange(sent)[chosen] % held]
    row_of: dict[bytes, int] = {}
    for row, tag in enumerate(own):
        row_of.setdefault(tag.tobytes(), row)
    rows = matching.match(own, others)
    assert rows.tolist() == [row_of.get(tag.tobytes(), -1) for tag in others]
    found = [row for row in rows.tolist() if row >= 0]
    assert matching.distinct(rows) == (len(set(found)) == len(found))


@pytest.mark.parametrize("byte", range(10))
def test_tags_that_differ_in_one_byte_are_told_apart(byte: int) -> None:
    own = np.zeros((256, 10), np.uint8)
    own[:, byte] = np.arange(256)
    assert matching.match(own, own[::-1]).tolist() == list(range(255, -1, -1))


def test_distinct() -> None:
    assert matching.distinct(np.array([], np.int64))
    assert matching.distinct(np.array([-1, -1, 3, 0]))
    assert not matching.distinct(np.array([3, 0, 3]))


def test_a_peer_cannot_slow_the_search_down() -> None:
    """One tag a million times costs what as many different ones do."""
    own = tags(1 << 16, 10, 1)
    matching.match(own, own)
    took = []
    for others in (
        own[np.arange(1 << 20) % len(own)],
        *(np.repeat(own[i : i + 1], 1 << 20, 0) for i in range(3)),
    ):
        start = time.process_time()
        matching.match(own, others)
        took.append(time.process_time() - start)
    assert max(took[1:]) < 3 * took[0] + 0.1


def test_equal_rows_of_ones_own_do_not_pile_up() -> None:
    start = time.process_time()
    rows = matching.match(np.zeros((1 << 18, 12), np.uint8), np.zeros((5, 12), np.uint8))
    assert rows.tolist() == [0] * 5
    assert time.process_time() - start < 10  # compiling included; a pile of 2^18 rows would take minutes
