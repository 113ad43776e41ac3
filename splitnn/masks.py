"""Pads that hide one feature holder's numbers, and cancel in the sum of all (Bonawitz et al. 2017, "Practical
Secure Aggregation for Privacy-Preserving Machine Learning", section 4.0.1; here without recovery: who drops
out ends the step, and no pad is ever told).

Parties i and j share a key. For each tensor both draw the same uniform words r_ij from it; the one that
comes first in the contract adds them, the other subtracts them. The draw is AES-256 in counter mode (NIST SP
800-38A, section 6.5), its initial counter block

offset  size  field
0       1     phase: 1 training, 2 evaluation
1       1     tensor: 0 is the activation
2       2     zero
4       8     the tensor's number in this attempt, big-endian
12      4     block in the tensor, big-endian, from 0

so that no block is ever used for two tensors; the bytes are words, little-endian. A key is of one attempt at
one run: a step that is done again after a restart has other pads.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from protos.rounds import LocalProtocolError
from splitnn.fixed_point import Words

PHASES: Final = {"training": 1, "evaluation": 2}
ACTIVATION: Final = 0
MOST_BYTES: Final = 16 << 32
"""Of one tensor's pad: then the block's number would wrap around."""


def pair_key(secret: bytes, run: bytes, attempt: bytes, one: str, other: str) -> bytes:
    """32 bytes, the same at both parties. secret: that only these two have; run, attempt: 32 bytes each."""
    names = b"\0".join(sorted((one.encode(), other.encode())))
    return HKDF(SHA256(), 32, salt=run + attempt, info=b"vertical mask v1\0" + names).derive(secret)


def pad(key: bytes, phase: str, number: int, tensor: int, words: int, word: "np.dtype[Any]") -> Words:
    """[words]: uniform, a function of the other arguments. Raises ValueError for more than MOST_BYTES."""
    size = words * word.itemsize
    if size > MOST_BYTES:
        raise ValueError(f"a tensor of {size} bytes cannot be masked")
    block = bytes((PHASES[phase], tensor, 0, 0)) + number.to_bytes(8, "big") + bytes(4)
    return np.frombuffer(Cipher(AES(key), CTR(block)).encryptor().update(bytes(size)), word)


class Masks:
    """One feature holder's pads in one attempt at a run. Each is given out once.

    me: this party. holders: all feature holders in the contract's order. secrets: what this party shares with
    each other one; run, attempt: as of `pair_key`. Raises LocalProtocolError where somebody's is missing.
    """

    def __init__(
        self, me: str, holders: Sequence[str], secrets: Mapping[str, bytes], run: bytes, attempt: bytes
    ) -> None:
        others = [name for name in holders if name != me]
        if len(others) + 1 != len(holders) or {*others} != {*secrets}:
            raise LocalProtocolError("secure-sum needs one secret with each other feature holder")
        self.holders = len(holders)
        keys = {name: pair_key(secrets[name], run, attempt, me, name) for name in others}
        place = holders.index(me)
        self._added = [keys[name] for name in holders[place + 1 :]]
        self._subtracted = [keys[name] for name in holders[:place]]
        self._last = 0

    def __repr__(self) -> str:
        return f"Masks(of {self.holders} feature holders)"  # never a key

    def hide(self, words: Words, phase: str, number: int) -> Words:
        """The words of one activation under this party's pads of that number, modulo 2^k.

        number: rises from one call to the next. Raises LocalProtocolError where it does not: two tensors
        under one pad would tell their difference. A message that is sent again is the same bytes, not made
        anew.
        """
        if number <= self._last:
            raise LocalProtocolError(f"the pad of tensor {number} is asked for again, or late")
        self._last = number
        hidden = words.copy()
        flat = hidden.reshape(-1)
        for key in self._added:
            flat += pad(key, phase, number, ACTIVATION, flat.size, flat.dtype)
        for key in self._subtracted:
            flat -= pad(key, phase, number, ACTIVATION, flat.size, flat.dtype)
        return hidden
