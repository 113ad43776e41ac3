"""Pads: they cancel, hide, differ wherever anything differs, and are given out once."""

from itertools import product
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import ECB
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chi2

from protos.rounds import LocalProtocolError
from splitnn.masks import MOST_BYTES, Masks, pad, pair_key
from splitnn.secure_sum import added

WORD = np.dtype("<u4")
KEY = bytes(range(32))


@settings(deadline=None)
@given(st.integers(2, 6), st.integers(1, 40), st.sampled_from(["<u4", "<u8"]), st.data())
def test_the_shares_of_all_add_up_to_the_exact_sum(
    make: Any, parties: int, size: int, word: str, data: st.DataObject
) -> None:
    dtype = np.dtype(word)
    most = 2 ** (8 * dtype.itemsize) - 1
    holders = [f"p{place}" for place in range(1, parties + 1)]
    words = {
        name: np.array(data.draw(st.lists(st.integers(0, most), min_size=size, max_size=size)), dtype)
        for name in holders
    }
    before = {name: own.copy() for name, own in words.items()}
    shares = [make.masks(name, holders).hide(words[name], "training", 7) for name in holders]
    exact = [sum(int(own[place]) for own in words.values()) % (most + 1) for place in range(size)]
    assert added(shares).tolist() == exact
    assert all((words[name] == before[name]).all() for name in holders)


def uniform(share: np.ndarray[Any, np.dtype[Any]]) -> bool:
    """By each byte's frequencies (chi-square, 255 degrees of freedom): a false alarm in 10^6."""
    octets = np.frombuffer(share.tobytes(), np.uint8).reshape(-1, share.dtype.itemsize)
    expected = len(octets) / 256
    return all(
        ((np.bincount(column, minlength=256) - expected) ** 2 / expected).sum() < chi2.isf(1e-6, 255)
        for column in octets.T
    )


def test_a_single_share_is_uniform(make: Any) -> None:
    """And so is the sum of all but one; that of all is not."""
    holders = ["p1", "p2", "p3"]
    words = np.full(1 << 16, 5, WORD)
    shares = [make.masks(name, holders).hide(words, "training", 1) for name in holders]
    assert not uniform(words)
    assert all(uniform(share) for share in shares)
    assert all(
        uniform(added([one, other])) for one, other in zip(shares, shares[1:] + shares[:1], strict=True)
    )
    assert (added(shares) == 15).all()


def test_a_share_is_independent_of_what_it_hides(make: Any) -> None:
    """The difference of two shares of one tensor number, of two attempts, is uniform as well."""
    words = np.arange(1 << 16, dtype=WORD)
    one = make.masks("p1", ["p1", "p2"], b"a" * 32).hide(words, "training", 1)
    other = make.masks("p1", ["p1", "p2"], b"b" * 32).hide(words, "training", 1)
    assert uniform(one - other)


def test_pads_differ_wherever_anything_differs() -> None:
    keys = [
        pair_key(secret, run, attempt, "p1", peer)
        for secret, run, attempt, peer in product((b"s", b"t"), (b"r", b"q"), (b"a", b"b"), ("p2", "p3"))
    ]
    pads = [
        pad(key, phase, number, tensor, 64, WORD).tobytes()
        for key, phase, number, tensor in product(keys, ("training", "evaluation"), (1, 2, 256), (0, 1))
    ]
    blocks = [whole[at : at + 16] for whole in pads for at in range(0, len(whole), 16)]
    assert len({*blocks}) == len(blocks)


def test_a_pad_is_the_cipher_of_its_counter_blocks() -> None:
    """Counter mode written out: the header's layout, block by block."""
    whole = pad(KEY, "evaluation", 0x0102030405060708, 0, 1030, WORD).tobytes()
    cipher = Cipher(AES(KEY), ECB()).encryptor()
    for place in (0, 1, 257):
        block = bytes((2, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8)) + place.to_bytes(4, "big")
        assert whole[16 * place : 16 * place + 16] == cipher.update(block)[: len(whole) - 16 * place]
    assert len(whole) == 4 * 1030


def test_pair_keys_are_those_of_the_pair() -> None:
    arguments = (b"secret", b"r" * 32, b"a" * 32)
    assert pair_key(*arguments, "p1", "p2") == pair_key(*arguments, "p2", "p1")
    assert len(pair_key(*arguments, "p1", "p2")) == 32


@pytest.mark.parametrize("again", [3, 2, 0])
def test_no_pad_is_given_out_twice(make: Any, again: int) -> None:
    masks, words = make.masks("p1", ["p1", "p2"]), np.zeros(4, WORD)
    masks.hide(words, "training", 2)
    masks.hide(words, "training", 3)
    for phase in ("training", "evaluation"):
        with pytest.raises(LocalProtocolError, match="again, or late"):
            masks.hide(words, phase, again)


def test_of_the_same_everything_the_bytes_are_the_same(make: Any) -> None:
    words = np.arange(100, dtype=WORD)
    shares = [make.masks("p2", ["p1", "p2"]).hide(words, "training", 9).tobytes() for _ in range(2)]
    assert shares[0] == shares[1]


def test_somebody_without_a_secret_is_refused() -> None:
    for me, holders, secrets in (
        ("p1", ["p1", "p2", "p3"], {"p2": b"s"}),
        ("p1", ["p1", "p2"], {"p2": b"s", "p3": b"t"}),
        ("p0", ["p1", "p2"], {"p1": b"s", "p2": b"t"}),
    ):
        with pytest.raises(LocalProtocolError, match="one secret with each"):
            Masks(me, holders, secrets, b"r" * 32, b"a" * 32)


def test_no_key_is_shown(make: Any) -> None:
    assert repr(make.masks("p1", ["p1", "p2"])) == "Masks(of 2 feature holders)"


def test_more_than_the_counter_has_room_for_is_refused() -> None:
    with pytest.raises(ValueError, match="cannot be masked"):
        pad(KEY, "training", 1, 0, MOST_BYTES // 4 + 1, WORD)
