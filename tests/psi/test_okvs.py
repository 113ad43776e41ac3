"""Every key decodes to its value; nothing else can be read from the store."""

import random as stdlib_random
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import gammaln
from scipy.stats import binom

from psi import okvs, peeling

SMALL_BIN = 300


@pytest.fixture
def small_bins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(okvs, "BIN", SMALL_BIN)


def keys_and_values(count: int, seed: int, width: int = 1) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (count, 16), np.uint8), rng.integers(0, 2**64, (count, width), np.uint64)


def encode(keys: np.ndarray, values: np.ndarray, seed: int) -> tuple[bytes, np.ndarray]:
    return okvs.encode(keys, values, stdlib_random.Random(seed).randbytes)


def rows_of(count: int, keys: np.ndarray) -> peeling.Equations:
    return okvs._equations(b"s" * okvs.SEED, okvs.shape(count), keys)


@pytest.mark.parametrize("width", [1, 2])
@pytest.mark.parametrize("count", [*range(40), 100, 333, 1000, 4097, 1 << 16, 1 << 18])
def test_every_key_decodes_to_its_value(count: int, width: int) -> None:
    keys, values = keys_and_values(count, count, width)
    seed, store = encode(keys, values, count)
    assert store.shape == (okvs.slots(count), width)
    assert (okvs.decode(seed, store, count, keys) == values).all()


@settings(deadline=None, max_examples=200)
@given(st.integers(0, 2000), st.sampled_from([64, 300, 1 << 17]), st.integers(0, 2**32))
def test_any_size_any_bins_any_seed(count: int, size: int, seed: int) -> None:
    keys, values = keys_and_values(count, seed, 1 + seed % 2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(okvs, "BIN", size)
        assert (okvs.decode(*encode(keys, values, seed), count, keys) == values).all()


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 1000), st.integers(0, 2**32))
def test_decoding_is_linear(count: int, seed: int) -> None:
    """What the rr22 engine needs: decode(a XOR b) = decode(a) XOR decode(b), for any two vectors."""
    rng = np.random.default_rng(seed)
    keys, _ = keys_and_values(count, seed)
    one, two = rng.integers(0, 2**64, (2, okvs.slots(count), 2), np.uint64)
    decoded = [okvs.decode(b"s" * okvs.SEED, store, count, keys) for store in (one, two, one ^ two)]
    assert (decoded[0] ^ decoded[1] == decoded[2]).all()


def test_a_store_as_it_comes_off_the_wire_is_decoded() -> None:
    keys, values = keys_and_values(50, 1, 2)
    seed, store = encode(keys, values, 1)
    received = np.frombuffer(store.tobytes(), "<u8").reshape(-1, 2)  # read-only
    assert (okvs.decode(seed, received, 50, keys) == values).all()


def test_a_million_ids_take_at_most_1_29_slots_each() -> None:
    assert okvs.slots(1 << 20) <= 1.29 * (1 << 20)
    assert okvs.shape(1 << 20).bins > 1
    assert [okvs.slots(n + 1) >= okvs.slots(n) for n in range(5000)] == [True] * 5000


@pytest.mark.parametrize("width", [1, 2])
def test_a_stubborn_core_is_solved_over_the_dense_columns(
    monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    """With 1.05 n sparse slots, most rows are left after peeling, and more rows than their slots' rank."""
    monkeypatch.setattr(okvs, "shape", lambda count: okvs.Shape(1, count * 105 // 100, 60))
    keys, values = keys_and_values(600, 5, width)
    seed, store = encode(keys, values, 5)
    _, _, core = peeling._peel(okvs._equations(seed, okvs.shape(600), keys).slots, okvs.shape(600).sparse)
    assert len(core) > 300
    assert (okvs.decode(seed, store, 600, keys) == values).all()
    assert store.all()  # free slots are drawn, the dense ones included


@pytest.mark.parametrize("bins", [1, 3])
def test_another_seed_is_tried_where_one_fails(monkeypatch: pytest.MonkeyPatch, bins: int) -> None:
    """With no dense columns, two rows on the same slots cannot both be served: about 1 seed in 50 here."""
    monkeypatch.setattr(okvs, "shape", lambda count: okvs.Shape(bins, count + 8, 0))
    keys, values = keys_and_values(8, 1)
    tried = set()
    for attempt in range(600):
        source = stdlib_random.Random(attempt)
        first = stdlib_random.Random(attempt).randbytes(okvs.SEED)
        seed, store = okvs.encode(keys, values, source.randbytes)
        tried.add(seed == first)
        assert (okvs.decode(seed, store, 8, keys) == values).all()
    assert tried == {True, False}


@pytest.mark.parametrize("count", [2, 20, 2000])
def test_equal_keys_are_refused(count: int, small_bins: None) -> None:
    keys, values = keys_and_values(count, 1)
    keys[count - 1] = keys[0]
    with pytest.raises(ValueError, match="distinct"):
        encode(keys, values, 1)


def test_many_equal_keys_are_refused_without_solving_them() -> None:
    keys = np.zeros((peeling.LARGEST_CORE + 1, 16), np.uint8)
    with pytest.raises(ValueError, match="distinct"):
        encode(keys, np.zeros((len(keys), 1), np.uint64), 1)


def test_rows_are_uniform(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three distinct slots, all alike; each bit of the dense string fair; each bin as likely as another."""
    count = 60_000
    monkeypatch.setattr(okvs, "shape", lambda _: okvs.Shape(5, 16, 50))
    rows = rows_of(count, keys_and_values(count, 2)[0])
    assert all((rows.slots[:, a] != rows.slots[:, b]).all() for a, b in [(0, 1), (0, 2), (1, 2)])

    def deviation(uses: np.ndarray, probability: float) -> float:
        return float(
            np.abs(uses - count * probability).max() / np.sqrt(count * probability * (1 - probability))
        )

    assert deviation(np.diff(rows.starts), 1 / 5) < 6
    for start, end in pairwise(rows.starts.tolist()):
        for k in range(3):
            assert deviation(np.bincount(rows.slots[start:end, k], minlength=16), 1 / 5 / 16) < 6
    assert rows.slots.max() == 15
    assert deviation(np.unpackbits(rows.dense.view(np.uint8)).reshape(-1, 64).sum(0, np.int64), 1 / 2) < 6
    assert (np.sort(rows.place) == np.arange(count)).all()


@pytest.mark.parametrize(("count", "width"), [(3, 1), (30, 2), (700, 1)])
def test_the_store_of_uniform_values_is_uniform(count: int, width: int, small_bins: None) -> None:
    """Keys fixed, values fresh: every bit of every slot is fair, so the store says nothing of its keys."""
    keys, _ = keys_and_values(count, 3)
    tries = 400
    ones = np.zeros((okvs.slots(count), 64 * width))
    for attempt in range(tries):
        _, values = keys_and_values(count, 1000 + attempt, width)
        _, store = encode(keys, values, attempt)
        ones += np.unpackbits(store.view(np.uint8)).reshape(-1, 64 * width)
    # 64 * slots fair coins, 400 throws each: none is six and a half standard deviations off.
    assert np.abs(ones - tries / 2).max() < 6.5 * np.sqrt(tries / 4)


def test_free_slots_are_never_left_at_zero(small_bins: None) -> None:
    """Even for values that are all zero, no slot is; and two fillings share none."""
    keys, values = keys_and_values(1000, 4, 2)
    _, one = encode(keys, np.zeros_like(values), 1)
    _, two = encode(keys, np.zeros_like(values), 2)
    assert np.count_nonzero(one) == one.size
    assert np.count_nonzero(one == two) == 0


def test_other_keys_decode_to_noise(small_bins: None) -> None:
    keys, values = keys_and_values(1000, 6)
    others, _ = keys_and_values(20_000, 7)
    noise = okvs.decode(*encode(keys, values, 6), 1000, others)
    bits = np.unpackbits(noise.view(np.uint8)).reshape(-1, 64).sum(axis=0, dtype=np.int64)
    assert np.abs(bits - 10_000).max() < 6 * np.sqrt(20_000 / 4)
    assert len(np.unique(noise)) == len(noise)


@pytest.mark.parametrize("count", [2, 5, 16, 64, 300, 1000, 4096, 1 << 16, 1 << 18, 1 << 20, 10**7])
def test_encoding_fails_with_probability_below_two_to_the_minus_40(count: int) -> None:
    """The union bound of `docs/psi.md`, evaluated: overfull bins and dependent rows together <= 2^-40.

    A nonempty set of rows XORs to zero on the sparse slots; the expected number of such sets is
    2^-m * sum_j C(m, j) * ((1 + K(j) / C(m, 3))^n - 1), with K the Krawtchouk polynomial of degree 3.
    """
    bins, m, dense = okvs.shape(count)
    load = count
    if bins > 1:
        load = okvs._load(count, bins, okvs.STATISTICAL + np.log2(2 * bins))
        assert binom.sf(load, count, 1 / bins) <= 2**-okvs.STATISTICAL / (2 * bins)
    assert m >= 1.223 * load
    j = np.arange(m + 1, dtype=np.float64)
    k = m - j
    krawtchouk = (
        k * (k - 1) * (k - 2) / 6 - j * k * (k - 1) / 2 + j * (j - 1) * k / 2 - j * (j - 1) * (j - 2) / 6
    )
    ratio = krawtchouk / (m * (m - 1) * (m - 2) / 6)
    binomial = gammaln(m + 1) - gammaln(j + 1) - gammaln(k + 1) - m * np.log(2)
    with np.errstate(divide="ignore"):
        expected = np.exp(binomial + load * np.log1p(ratio)).sum() - np.exp(binomial).sum()
    assert expected < 1  # so dependent rows are rarer than 2^-dense a bin, with the gap columns to spare
    assert bins * expected * 2.0**-dense <= 2.0 ** -(okvs.STATISTICAL + 1)
    assert okvs.STATISTICAL <= dense <= 64
