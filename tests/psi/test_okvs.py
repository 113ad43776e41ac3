"""Every key decodes to its value; nothing else can be read from the store."""

import random as stdlib_random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from psi import okvs


def keys_and_values(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (count, 16), np.uint8), rng.integers(0, 2**64, count, np.uint64)


def encode(keys: np.ndarray, values: np.ndarray, seed: int) -> tuple[bytes, np.ndarray]:
    return okvs.encode(keys, values, stdlib_random.Random(seed).randbytes)


@pytest.mark.parametrize("count", [*range(40), 100, 333, 1000, 4097, 1 << 16])
def test_every_key_decodes_to_its_value(count: int) -> None:
    keys, values = keys_and_values(count, count)
    seed, slots = encode(keys, values, count)
    assert len(slots) == sum(okvs.shape(count))
    assert (okvs.decode(seed, slots, count, keys) == values).all()


@settings(deadline=None, max_examples=200)
@given(st.integers(0, 2000), st.integers(0, 2**32))
def test_any_size_any_seed(count: int, seed: int) -> None:
    keys, values = keys_and_values(count, seed)
    assert (okvs.decode(*encode(keys, values, seed), count, keys) == values).all()


def test_a_stubborn_core_is_solved_over_the_dense_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    """With 1.05 n sparse slots, most rows are left after peeling, and more rows than their slots' rank."""
    monkeypatch.setattr(okvs, "shape", lambda count: okvs.Shape(count * 105 // 100, 60))
    keys, values = keys_and_values(600, 5)
    seed, slots = encode(keys, values, 5)
    size = okvs.shape(600)
    _, core = okvs._peel(okvs._equations(seed, size, keys).slots, size.sparse)
    assert len(core) > 300
    assert (okvs.decode(seed, slots, 600, keys) == values).all()
    assert slots.all()  # free slots are drawn, the dense ones included


def test_another_seed_is_tried_where_one_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """With no dense columns, two rows on the same slots cannot both be served: about 1 seed in 50 here."""
    monkeypatch.setattr(okvs, "shape", lambda count: okvs.Shape(count + 8, 0))
    keys, values = keys_and_values(8, 1)
    tried = set()
    for attempt in range(400):
        source = stdlib_random.Random(attempt)
        first = stdlib_random.Random(attempt).randbytes(okvs.SEED)
        seed, slots = okvs.encode(keys, values, source.randbytes)
        tried.add(seed == first)
        assert (okvs.decode(seed, slots, 8, keys) == values).all()
    assert tried == {True, False}


def test_equal_keys_are_refused() -> None:
    keys, values = keys_and_values(20, 1)
    keys[7] = keys[3]
    with pytest.raises(ValueError, match="distinct"):
        encode(keys, values, 1)


def test_rows_have_three_distinct_slots_everywhere_in_range() -> None:
    keys, _ = keys_and_values(50_000, 2)
    size = okvs.Shape(16, 50)
    rows = okvs._equations(b"s" * 16, size, keys)
    assert rows.slots.min() == 0
    assert rows.slots.max() == 15
    assert all((rows.slots[:, a] != rows.slots[:, b]).all() for a, b in [(0, 1), (0, 2), (1, 2)])
    assert int(rows.dense.max()) >> size.dense == 0
    # Each slot is in 3/16 of the rows, each dense column in half of them: within six standard deviations.
    uses = np.bincount(rows.slots.ravel(), minlength=16)
    assert np.abs(uses - 50_000 * 3 / 16).max() < 6 * np.sqrt(50_000 * 3 / 16 * 13 / 16)
    ones = np.array([int(((rows.dense >> np.uint64(j)) & np.uint64(1)).sum()) for j in range(size.dense)])
    assert np.abs(ones - 25_000).max() < 6 * np.sqrt(50_000 / 4)


@pytest.mark.parametrize("count", [3, 30, 400])
def test_the_store_of_uniform_values_is_uniform(count: int) -> None:
    """Keys fixed, values fresh: every bit of every slot is fair, so the store says nothing of its keys."""
    keys, _ = keys_and_values(count, 3)
    tries = 400
    ones = np.zeros((sum(okvs.shape(count)), 64))
    for attempt in range(tries):
        _, values = keys_and_values(count, 1000 + attempt)
        _, slots = encode(keys, values, attempt)
        ones += np.unpackbits(slots.view(np.uint8)).reshape(-1, 64)
    # 64 * slots fair coins, 400 throws each: none is six and a half standard deviations off.
    assert np.abs(ones - tries / 2).max() < 6.5 * np.sqrt(tries / 4)


def test_free_slots_are_never_left_at_zero() -> None:
    """Even for values that are all zero, no slot is; and two fillings share none."""
    keys, values = keys_and_values(200, 4)
    _, one = encode(keys, np.zeros_like(values), 1)
    _, two = encode(keys, np.zeros_like(values), 2)
    assert np.count_nonzero(one) == len(one)
    assert np.count_nonzero(one == two) == 0


def test_other_keys_decode_to_noise() -> None:
    keys, values = keys_and_values(1000, 6)
    others, _ = keys_and_values(20_000, 7)
    noise = okvs.decode(*encode(keys, values, 6), 1000, others)
    bits = np.unpackbits(noise.view(np.uint8)).reshape(-1, 64).sum(axis=0, dtype=np.int64)
    assert np.abs(bits - 10_000).max() < 6 * np.sqrt(20_000 / 4)
    assert len(np.unique(noise)) == len(noise)


@pytest.mark.parametrize("count", [2, 5, 16, 64, 300, 1000, 4096, 1 << 16])
def test_encoding_fails_with_probability_below_two_to_the_minus_40(count: int) -> None:
    """The union bound of `docs/psi.md`, evaluated: 2^-dense * (E[2^deficiency] - 1) <= 2^-40.

    A nonzero set of rows XORs to zero on the sparse slots; the expected number of such sets is
    2^-m * sum_j C(m, j) * ((1 + K(j) / C(m, 3))^n - 1), with K the Krawtchouk polynomial of degree 3.
    """
    from scipy.special import gammaln

    m, dense = okvs.shape(count)
    j = np.arange(m + 1, dtype=np.float64)
    k = m - j
    krawtchouk = (
        k * (k - 1) * (k - 2) / 6 - j * k * (k - 1) / 2 + j * (j - 1) * k / 2 - j * (j - 1) * (j - 2) / 6
    )
    ratio = krawtchouk / (m * (m - 1) * (m - 2) / 6)
    binomial = gammaln(m + 1) - gammaln(j + 1) - gammaln(k + 1) - m * np.log(2)
    with np.errstate(divide="ignore"):
        expected = np.exp(binomial + count * np.log1p(ratio)).sum() - np.exp(binomial).sum()
    assert expected < 1  # so the failure is below 2^-dense, with the gap columns to spare
    assert okvs.STATISTICAL <= dense <= 64
