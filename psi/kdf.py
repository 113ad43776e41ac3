"""Keys and pseudorandom values, each under a label of its own, so that none serves two purposes."""

from hashlib import blake2b
from typing import Final

import numpy as np
from Crypto.Cipher import AES
from numpy.typing import NDArray

KEY: Final = 32


def key(secret: bytes, *label: bytes | str) -> bytes:
    """A 32-byte key from a secret of at most 64 bytes; the label's parts are told apart by their lengths."""
    parts = [part.encode() if isinstance(part, str) else part for part in label]
    coded = b"".join(len(part).to_bytes(4, "big") + part for part in parts)
    return blake2b(coded, key=secret, digest_size=KEY).digest()


def derive(outputs: NDArray[np.uint8], label_key: bytes, size: int) -> NDArray[np.uint8]:
    """[n, size] from OPRF outputs [n, 32]: keyed BLAKE2b over the whole of each output."""
    made = b"".join([blake2b(row.tobytes(), key=label_key, digest_size=size).digest() for row in outputs])
    return np.frombuffer(made, np.uint8).reshape(-1, size)


def prf64(secret: bytes, digests: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """[n] values for [n, 16] distinct digests: AES-256, half of each block. For fewer than 2^40 digests."""
    blocks = AES.new(secret, AES.MODE_ECB).encrypt(np.ascontiguousarray(digests).tobytes())
    return np.frombuffer(blocks, "<u8")[0::2].copy()
