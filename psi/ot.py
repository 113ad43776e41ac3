"""Oblivious transfer: the receiver has a bit and learns one of two keys; the sender never learns the bit.

`choose`, `offer` and `open_chosen` are the base transfers, in two messages: Masny and Rindal 2019, "Endemic
oblivious transfer", from Diffie-Hellman key agreement, in ristretto255. `extend_receiver` and `extend_sender`
make many out of 128 of them: Ishai, Kilian, Nissim and Petrank 2003 (semi-honest).

`label` names run and parties: it separates the random oracles of different conversations.
"""

from collections.abc import Callable
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from psi import kdf, ristretto

SECURITY: Final = 128
"""Base transfers that an extension uses up."""

TAG: Final = b"psi.ot-endemic-ristretto255_XMD:SHA-512_R255MAP_RO_"

Bits = NDArray[np.bool_]
Words = NDArray[np.uint64]


class Chosen(NamedTuple):
    """What the receiver of base transfers keeps until the answer comes."""

    label: bytes
    choices: Bits
    secrets: bytes
    points: bytes


def choose(choices: Bits, label: bytes, random: Callable[[int], bytes]) -> tuple[Chosen, bytes]:
    """(what to keep, first message [n * 64]): a pair of elements for each choice [n].

    The element not chosen is uniform, so that nobody knows its key; the chosen one is a * G minus the hash
    of the other. Both are uniform whatever the choice.
    """
    count = len(choices)
    secrets = ristretto.scalars(count, random)
    blind = ristretto.uniform(count, random)
    hashes = ristretto.hash_to_group(
        [_oracle(label, i, bool(choice), _at(blind, i)) for i, choice in enumerate(choices)], TAG
    )
    known = ristretto.subtract(ristretto.multiply_base(secrets), hashes)
    points = b"".join(
        _at(blind, i) + _at(known, i) if choice else _at(known, i) + _at(blind, i)
        for i, choice in enumerate(choices)
    )
    return Chosen(label, choices, secrets, points), points


def offer(
    points: bytes, label: bytes, random: Callable[[int], bytes], source: str
) -> tuple[list[tuple[bytes, bytes]], bytes]:
    """(both keys of each transfer, second message [n * 32]) from the first message, of the length expected.

    Raises RemoteProtocolError, naming `source`, for what is not a valid element or is the identity.
    """
    ristretto.check(points, source)
    count = len(points) // (2 * ristretto.SIZE)
    # The hash of each element goes to the other one of its pair.
    hashes = ristretto.hash_to_group(
        [_oracle(label, i // 2, bool(i % 2), _at(points, i ^ 1)) for i in range(2 * count)], TAG
    )
    secrets = ristretto.scalars(count, random)
    twice = b"".join(2 * _at(secrets, i) for i in range(count))
    shared = ristretto.multiply(twice, ristretto.add(points, hashes), source)
    answers = ristretto.multiply_base(secrets)
    keys = [
        _key(label, i // 2, points, _at(answers, i // 2), _at(shared, i), bool(i % 2))
        for i in range(2 * count)
    ]
    return list(zip(keys[0::2], keys[1::2], strict=True)), answers


def open_chosen(chosen: Chosen, answers: bytes, source: str) -> list[bytes]:
    """The chosen key of each transfer, 32 bytes, from the second message, of the length expected."""
    shared = ristretto.multiply(chosen.secrets, answers, source)
    return [
        _key(chosen.label, i, chosen.points, _at(answers, i), _at(shared, i), bool(choice))
        for i, choice in enumerate(chosen.choices)
    ]


def extension_size(count: int) -> int:
    """Bytes of the message of `extend_receiver`."""
    return SECURITY * 8 * _words(count)


def extend_receiver(keys: list[tuple[bytes, bytes]], choices: Bits, label: bytes) -> tuple[Words, bytes]:
    """(the chosen pads [n, 2], message) from both keys of 128 base transfers that this side offered."""
    words = _words(len(choices))
    padded = np.zeros(64 * words, np.uint8)
    padded[: len(choices)] = choices
    ones = np.stack([kdf.stream(key, words) for key, _ in keys])
    others = np.stack([kdf.stream(key, words) for _, key in keys])
    message = ones ^ others ^ np.packbits(padded, bitorder="little").view("<u8")
    return _pads(_transposed(ones, len(choices)), label), message.astype("<u8").tobytes()


def extend_sender(
    keys: list[bytes], secret: bytes, message: bytes, count: int, label: bytes
) -> tuple[Words, Words]:
    """Both pads of each of `count` transfers, [n, 2] twice.

    keys: those chosen in 128 base transfers by the bits of `secret` (16 bytes, lowest bit of each first).
    message: from `extend_receiver`, of `extension_size(count)` bytes; any such message gives some pads.
    """
    words = _words(count)
    choices = np.unpackbits(np.frombuffer(secret, np.uint8), bitorder="little").astype(bool)
    columns = np.stack([kdf.stream(key, words) for key in keys])
    columns[choices] ^= np.frombuffer(message, "<u8").reshape(SECURITY, words)[choices]
    rows = _transposed(columns, count)
    return _pads(rows, label), _pads(rows ^ np.frombuffer(secret, "<u8"), label)


def _words(count: int) -> int:
    return -(-count // 64)


def _transposed(columns: Words, count: int) -> Words:
    """[128, words] bit columns to [count, 2] rows of 128 bits."""
    bits = np.unpackbits(columns.astype("<u8").view(np.uint8), axis=1, count=count, bitorder="little")
    return np.packbits(np.ascontiguousarray(bits.T), axis=1, bitorder="little").view("<u8")


def _pads(rows: Words, label: bytes) -> Words:
    """pi(pi(v) + i) + pi(v) for row i: correlation robust, also for repeated rows (TMMO, Guo et al. 2020)."""
    cipher_key = kdf.key(b"", "ot extension", label)
    inner: Words = kdf.permute(cipher_key, rows.view(np.uint8)).view("<u8")
    tweaked = inner.copy()
    tweaked[:, 0] ^= np.arange(len(rows), dtype="<u8")
    outer: Words = kdf.permute(cipher_key, tweaked.view(np.uint8)).view("<u8")
    return outer ^ inner


def _at(batch: bytes, i: int) -> bytes:
    return batch[ristretto.SIZE * i : ristretto.SIZE * (i + 1)]


def _oracle(label: bytes, i: int, side: bool, point: bytes) -> bytes:
    return i.to_bytes(4, "big") + bytes([side]) + point + label


def _key(label: bytes, i: int, points: bytes, answer: bytes, shared: bytes, side: bool) -> bytes:
    pair = points[2 * ristretto.SIZE * i : 2 * ristretto.SIZE * (i + 1)]
    return kdf.key(shared, "ot", label, i.to_bytes(4, "big"), bytes([side]), pair, answer)
