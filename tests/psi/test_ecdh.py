"""The engine, against the vectors of RFC 9497 and in a conversation."""

import hashlib
import os

import numpy as np
import pytest

from protos.memory import together
from protos.rounds import Progress, Round
from psi import ecdh, ristretto
from psi.interface import Setting

# RFC 9497 appendix A.1.1, OPRF mode of ristretto255-SHA512.
KEY = bytes.fromhex("5ebcea5ee37023ccb9fc2d2019f9d7737be85591ae8652ffa9ef0f4d37063b0e")
BLIND = bytes.fromhex("64d37aed22a27f5191de1c1d69fadb899d8862b58eb4220029e036ec4c1f6706")
VECTORS = [
    (
        "00",
        "609a0ae68c15a3cf6903766461307e5c8bb2f95e7e6550e1ffa2dc99e412803c",
        "7ec6578ae5120958eb2db1745758ff379e77cb64fe77b0b2d8cc917ea0869c7e",
        "527759c3d9366f277d8c6020418d96bb393ba2afb20ff90df23fb7708264e2f3"
        "ab9135e3bd69955851de4b1f9fe8a0973396719b7912ba9ee8aa7d0b5e24bcf6",
    ),
    (
        "5a" * 17,
        "da27ef466870f5f15296299850aa088629945a17d1f5b7f5ff043f76b3c06418",
        "b4cbf5a4f1eeda5a63ce7b77c7d23f461db3fcab0dd28e4e17cecb5c90d02c25",
        "f4a74c9c592497375e796aa837e907b1a045d34306a749db9f34221f7e750cb4"
        "f2a6413a6bf6fa5e19ba6348eb673934a722a7ede2e7621306d18951e7cf2c73",
    ),
]


@pytest.mark.parametrize(("text", "blinded", "evaluated", "output"), VECTORS)
def test_rfc_9497_blind_evaluate_finalize(text: str, blinded: str, evaluated: str, output: str) -> None:
    inputs = [bytes.fromhex(text)]
    hidden = ecdh.blind(inputs, BLIND)
    assert hidden.hex() == blinded
    answer = ristretto.multiply(KEY, hidden, "us")
    assert answer.hex() == evaluated
    unblinded = ristretto.multiply(ristretto.inverses(BLIND), answer, "us")
    assert ecdh.finalize(inputs, unblinded)[0].hex() == output
    # The key's holder computes the same without the conversation.
    assert ecdh.evaluate(KEY, inputs).hex() == output[:32]


def test_rfc_9497_derive_key_pair() -> None:
    """Section 3.2.1: the same map from bytes to scalars as our keys, so the RFC's key checks it."""
    derive_input = b"\xa3" * 32 + len(b"test key").to_bytes(2, "big") + b"test key" + b"\0"
    suffix = b"DeriveKeyPair" + ecdh.CONTEXT
    wide = ristretto._expand(derive_input, suffix + bytes([len(suffix)]))
    assert ristretto.scalars(1, lambda size: wide[:size]) == KEY


def digests(count: int, salt: bytes = b"") -> np.ndarray:
    made = [hashlib.blake2b(b"%d" % i, digest_size=16, key=salt).digest() for i in range(count)]
    return np.frombuffer(b"".join(made), np.uint8).reshape(-1, 16)


@pytest.mark.parametrize(("ours", "theirs"), [(0, 0), (1, 0), (0, 5), (5, 3), (70, 10), (10, 70)])
def test_receiver_and_senders_agree_on_f_for_common_inputs_only(
    ours: int, theirs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ecdh, "CHUNK", 4)  # many messages, more than the window
    names, engine, seen = ("r", "s", "t"), ecdh.Ecdh(), []

    def setting(me: str) -> Setting:
        return Setting(me, names, b"run", 100)

    def on_round(party: str, word: Round) -> None:
        if isinstance(word, Progress):
            seen.append((party, word.done, word.total))

    outcome = together(
        {
            "r": engine.receiver(setting("r"), ["s", "t"], digests(ours)),
            "s": engine.sender(setting("s"), "r", ours, digests(theirs)),
            "t": engine.sender(setting("t"), "r", ours, digests(theirs, b"other")),
        },
        on_round,
    )
    received = outcome.results["r"]
    assert received["s"].shape == received["t"].shape == (ours, 16)
    both = min(ours, theirs)
    assert (received["s"][:both] == outcome.results["s"][:both]).all()
    values = [*received["s"], *received["t"], *outcome.results["s"][both:], *outcome.results["t"]]
    assert len({bytes(value) for value in values}) == len(values)
    for party in names:
        steps = [(done, total) for who, done, total in seen if who == party]
        assert all(0 < done <= total for done, total in steps)
        assert not steps or steps[-1][0] == steps[-1][1]


def test_the_same_inputs_never_look_the_same() -> None:
    """Blinding is per id and keys are per call: no element is seen twice, in one run or in two."""
    elements = []
    for _ in range(2):
        outcome = together(
            {
                "r": ecdh.Ecdh().receiver(Setting("r", ("r", "s"), b"run", 9), ["s"], digests(9)),
                "s": ecdh.Ecdh().sender(Setting("s", ("r", "s"), b"run", 9), "r", 9, digests(9)),
            }
        )
        for said in outcome.transcript:
            elements += [said.payload[i : i + 32] for i in range(0, len(said.payload), 32)]
    assert len(set(elements)) == len(elements) == 36


def test_keys_and_blinds_come_from_the_injected_source() -> None:
    drawn = []

    def random(size: int) -> bytes:
        drawn.append(size)
        return os.urandom(size)

    together(
        {
            "r": ecdh.Ecdh().receiver(Setting("r", ("r", "s"), b"run", 9, random), ["s"], digests(9)),
            "s": ecdh.Ecdh().sender(Setting("s", ("r", "s"), b"run", 9, random), "r", 9, digests(9)),
        }
    )
    assert sorted(drawn) == [64, 9 * 64]
