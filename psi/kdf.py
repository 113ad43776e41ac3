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
    """[n, size] from OPRF outputs [n, 16], size <= 16: the first bytes of AES_label(u) XOR u.

    The Matyas-Meyer-Oseas form of fixed-key AES, which is correlation robust where AES under a known key is
    an ideal permutation (Guo, Katz, Wang and Yu 2020, "Efficient and secure multiparty computation from
    fixed-key block ciphers", section 4). `label_key` need not be secret: u is pseudorandom, and values of
    one u under other labels, seen or chosen by anybody, tell nothing of this one.
    """
    return (permute(label_key, outputs) ^ outputs)[:, :size].copy()


def prf64(secret: bytes, digests: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """[n] values for [n, 16] distinct digests: AES-256, half of each block. For fewer than 2^40 digests."""
    return permute(secret, digests).view("<u8")[:, 0].copy()


def permute(cipher_key: bytes, blocks: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """AES of each block, [n, 16] -> [n, 16], under a key of 16 or 32 bytes."""
    made = np.empty((len(blocks), 16), np.uint8)
    flat = np.ascontiguousarray(blocks, np.uint8).reshape(-1)
    AES.new(cipher_key, AES.MODE_ECB).encrypt(flat.data, output=made.reshape(-1).data)
    return made


def stream(seed: bytes, words: int) -> NDArray[np.uint64]:
    """[words] pseudorandom words: AES-256 in counter mode under a seed of 32 bytes that serves once."""
    blocks = np.zeros((-(-words // 2), 2), "<u8")
    blocks[:, 0] = np.arange(len(blocks))
    return permute(seed, blocks.view(np.uint8)).view("<u8").reshape(-1)[:words]
