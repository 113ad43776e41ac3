"""Oblivious transfers: the receiver gets the key that it chose and no other; bad points are refused."""

import os
from collections import Counter

import numpy as np
import pytest
import rbcl
from hypothesis import given, settings
from hypothesis import strategies as st

from protos.rounds import RemoteProtocolError
from psi import ot

LABEL = b"test"
ORDER = 2**252 + 27742317777372353535851937790883648493  # of ristretto255, RFC 9496


@settings(deadline=None, max_examples=10)
@given(st.lists(st.booleans(), min_size=1, max_size=20))
def test_the_chosen_key_and_no_other(choices: list[bool]) -> None:
    chosen, points = ot.choose(np.array(choices), LABEL, os.urandom)
    pairs, answers = ot.offer(points, LABEL, os.urandom, "peer")
    assert (len(points), len(answers)) == (64 * len(choices), 32 * len(choices))
    keys = ot.open_chosen(chosen, answers, "peer")
    assert keys == [pair[choice] for pair, choice in zip(pairs, choices, strict=True)]
    assert len({key for pair in pairs for key in pair}) == 2 * len(choices)


def test_another_label_or_place_gives_other_keys() -> None:
    chosen, points = ot.choose(np.array([False]), LABEL, os.urandom)
    pairs, answers = ot.offer(points, b"other", os.urandom, "peer")
    assert ot.open_chosen(chosen, answers, "peer")[0] not in pairs[0]
    pairs, _ = ot.offer(points + points, LABEL, lambda size: b"\5" * size, "peer")
    assert len({*pairs[0], *pairs[1]}) == 4


def test_the_points_do_not_show_the_choice() -> None:
    """The pair is one known and one unknown element; here: first bytes spread alike at both places."""
    choices = np.arange(400) % 2 == 0
    points = ot.choose(choices, LABEL, os.urandom)[1]
    for side in (0, 32):
        for bit in (False, True):
            firsts = Counter(points[64 * i + side] >> 5 for i in np.flatnonzero(choices == bit))
            assert len(firsts) == 8
            assert max(firsts.values()) < 60  # of 200, 25 expected


BAD = {
    "identity": bytes(32),
    "not canonical": (2**255 - 19 + 2).to_bytes(32, "little"),
    "negative": (1).to_bytes(32, "little"),
    "not on the curve": bytes.fromhex("2601000000000000000000000000000000000000000000000000000000000000"),
    "too large": b"\xff" * 32,
    "second encoding": (
        int.from_bytes(rbcl.crypto_core_ristretto255_from_hash(bytes(range(64))), "little") | 1 << 255
    ).to_bytes(32, "little"),
}


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD.keys())
@pytest.mark.parametrize("place", [0, 1, 3])
def test_points_that_are_none_are_refused_by_the_sender(bad: bytes, place: int) -> None:
    points = ot.choose(np.array([True, False]), LABEL, os.urandom)[1]
    spoilt = points[: 32 * place] + bad + points[32 * place + 32 :]
    with pytest.raises(RemoteProtocolError, match="peer sent an invalid group element"):
        ot.offer(spoilt, LABEL, os.urandom, "peer")


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD.keys())
def test_points_that_are_none_are_refused_by_the_receiver(bad: bytes) -> None:
    chosen, points = ot.choose(np.array([True, False]), LABEL, os.urandom)
    answers = ot.offer(points, LABEL, os.urandom, "peer")[1]
    with pytest.raises(RemoteProtocolError, match="peer sent an invalid group element"):
        ot.open_chosen(chosen, answers[:32] + bad, "peer")


def test_a_pair_that_sums_to_the_identity_is_refused() -> None:
    """r_0 = -H(r_1): its key would be that of the identity, known to all."""
    other = rbcl.crypto_core_ristretto255_random()
    hashed = ot.ristretto.hash_to_group([ot._oracle(LABEL, 0, False, other)], ot.TAG)
    minus = rbcl.crypto_scalarmult_ristretto255((ORDER - 1).to_bytes(32, "little"), hashed)
    with pytest.raises(RemoteProtocolError, match="invalid group element"):
        ot.offer(minus + other, LABEL, os.urandom, "peer")


def base_keys(secret: bytes) -> tuple[list[tuple[bytes, bytes]], list[bytes]]:
    pairs = [(os.urandom(32), os.urandom(32)) for _ in range(128)]
    bits = np.unpackbits(np.frombuffer(secret, np.uint8), bitorder="little")
    return pairs, [pair[bit] for pair, bit in zip(pairs, bits, strict=True)]


@settings(deadline=None, max_examples=25)
@given(st.lists(st.booleans(), min_size=1, max_size=200), st.binary(min_size=16, max_size=16))
def test_the_extension_gives_the_chosen_pads(choices: list[bool], secret: bytes) -> None:
    pairs, keys = base_keys(secret)
    pads, message = ot.extend_receiver(pairs, np.array(choices), LABEL)
    assert len(message) == ot.extension_size(len(choices))
    zero, one = ot.extend_sender(keys, secret, message, len(choices), LABEL)
    assert (pads == np.where(np.array(choices)[:, None], one, zero)).all()
    if any(secret):
        assert not (zero == one).all(axis=1).any()
    rows = np.concatenate([zero, one] if any(secret) else [zero])
    assert len(np.unique(rows, axis=0)) == len(rows)


def test_the_message_of_the_extension_is_not_of_the_choices() -> None:
    """Half of its bits are one, whether all choices are 0 or all are 1."""
    for choice in (False, True):
        message = ot.extend_receiver(base_keys(bytes(16))[0], np.full(2048, choice), LABEL)[1]
        ones = np.unpackbits(np.frombuffer(message, np.uint8)).mean()
        assert abs(ones - 0.5) < 0.01
