"""The code: against its own matrix, written out slowly, and against what it once was."""

import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from psi import cores, exconv, gf128


def vector(length: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 1 << 64, (length, 2), np.uint64)


def times(element: np.ndarray, values: np.ndarray) -> np.ndarray:
    made = np.zeros_like(values)
    gf128.add_products(made, np.ascontiguousarray(values), gf128.table(element))
    return made


def slow(values: np.ndarray, size: int) -> np.ndarray:
    """The definition, one element at a time; `_random` alone is taken from the module."""
    constant = np.array([exconv.CONSTANT, 0], np.uint64)
    result, parity = values[:size].copy(), values[size:].copy()
    n = len(parity)
    for name in (b"convolution 1", b"convolution 2"):
        coefficients = exconv._random(name, 0, (n + 1) // 2).view("<u4")
        for i in range(n):
            for k in range(24):
                if int(coefficients[i]) >> k & 1:
                    parity[(i + 1 + k) % n] ^= parity[i]
            last = (i + 25) % n
            parity[last] = times(constant, (parity[last] ^ parity[i])[None])[0]
    add_expanded(result, parity)
    return result


def add_expanded(result: np.ndarray, parity: np.ndarray) -> None:
    n, region = len(parity), len(parity) // 11
    for start in range(0, len(result), exconv.CHUNK):
        some = result[start : start + exconv.CHUNK]
        for j in range(11):
            words = exconv._random(b"region %d" % j, start, len(some)).tolist()
            some ^= parity[[j * region + (word * region >> 64) for word in words]]
    for start in range(0, len(result), 1 << 16):
        some = result[start : start + (1 << 16)]
        words = exconv._random(b"free", start, 10 * len(some)).tolist()
        columns = np.array([word * n >> 64 for word in words]).reshape(-1, 10)
        some ^= np.bitwise_xor.reduce(parity[columns], axis=1)


@settings(deadline=None, max_examples=15)
@given(st.integers(1, 120), st.integers(30, 200), st.integers(0, 2**32))
def test_equals_its_definition(size: int, parity: int, seed: int) -> None:
    values = vector(size + parity, seed)
    assert (exconv.encode(values.copy(), size) == slow(values, size)).all()


def test_more_than_one_block_of_columns_chunk_of_rows_and_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exconv, "PASS", 1 << 16)
    values = vector((3 << 16) + 1000)
    whole = exconv.encode(values.copy(), (1 << 16) + 99)
    monkeypatch.setattr(cores, "available", lambda: 1)
    parity = values.copy()
    assert (whole == exconv.encode(parity, (1 << 16) + 99)).all()
    expected = values[: (1 << 16) + 99]  # parity is convolved by now
    add_expanded(expected, parity[(1 << 16) + 99 :])
    assert (whole == expected).all()


def test_a_cell_without_room_is_added_at_once() -> None:
    words, parity = exconv._random(b"free", 0, 10 * 500), vector(1 << 17)
    made = []
    for room in (5000, 7):
        rows = vector(500, 1)
        cells, filled = np.empty((1, 2, room), np.uint32), np.empty((1, 2), np.uint64)
        exconv._sort(words, parity, rows, cells[0], filled[0])
        exconv._add_cells(rows, parity, cells, filled)
        made.append(rows)
    assert filled.tolist() == [[7, 7]]
    assert (made[0] == made[1]).all()


@settings(deadline=None, max_examples=15)
@given(st.integers(1, 3000), st.integers(0, 2**32))
def test_is_linear_over_the_field(size: int, seed: int) -> None:
    one, other, factor = vector(2 * size + 50, seed), vector(2 * size + 50, seed + 1), vector(1, seed)[0]
    together = exconv.encode(times(factor, one) ^ other, size)
    apart = times(factor, exconv.encode(one, size)) ^ exconv.encode(other, size)
    assert (together == apart).all()


def test_is_systematic() -> None:
    values = vector(1000)
    values[400:] = 0
    assert (exconv.encode(values.copy(), 400) == values[:400]).all()


def test_stays_what_it_is() -> None:
    """Both parties must have the same code: a change here is a change of the protocol."""
    made = exconv.encode(np.arange(2 * 10_000, dtype=np.uint64).reshape(-1, 2), 4_900)
    assert hashlib.sha256(made.tobytes()).hexdigest() == (
        "b3b741a52c0d6de6a8cfb4c25cf662719630fa3876c3286e0077fc4daa09091e"
    )


@pytest.mark.parametrize("size", [64, 200])
def test_codewords_are_heavy(size: int) -> None:
    """Rows of G, and sums of few rows, have far more than a fifth of their 2k places nonzero.

    Column j of G is the image of the j-th unit vector. No proof of a distance; it finds a broken encoder.
    """
    columns = []
    for j in range(2 * size):
        unit = np.zeros((2 * size, 2), np.uint64)
        unit[j, 0] = 1
        columns.append(exconv.encode(unit, size).copy())
    matrix = np.stack(columns, axis=1)  # [size, 2 * size, 2]
    random = np.random.default_rng(1)
    for weight in (1, 1, 1, 2, 2, 3, 5, 10):
        for _ in range(40):
            rows = random.choice(size, weight, replace=False)
            word = np.bitwise_xor.reduce(matrix[rows], axis=0)
            assert (word != 0).any(axis=1).sum() > 0.2 * 2 * size
