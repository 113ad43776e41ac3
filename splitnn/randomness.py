"""Random streams that are a pure function of (seed, purpose), from SHAKE-256 (FIPS 202).

NumPy and torch may change what their generators draw from one release to the next; a permutation that
companies agree on without a message, and an initialisation that two machines must share, may not.
Distinct purposes give independent streams: the purpose is length-prefixed, so no two inputs collide.
"""

import hashlib
import math
from collections.abc import Sequence

import numpy as np
import torch
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20
from numpy.typing import NDArray
from torch import Tensor


def stream(seed: bytes, purpose: str, size: int) -> bytes:
    """The first `size` bytes of the stream of this seed and purpose."""
    name = purpose.encode()
    return hashlib.shake_256(len(name).to_bytes(4, "little") + name + seed).digest(size)


def permutation(seed: bytes, purpose: str, n: int) -> Tensor:
    """A uniform permutation of 0..n-1, int64 [n]: the stable argsort of n 64-bit words of the stream."""
    return torch.from_numpy(stable_argsort(np.frombuffer(stream(seed, purpose, 8 * n), "<u8")))


def stable_argsort(words: NDArray[np.uint64]) -> NDArray[np.int64]:
    """NumPy's fastest sort is not stable. That matters where words are equal, as random ones hardly are."""
    order = np.argsort(words)
    ranked = words[order]
    if (ranked[1:] == ranked[:-1]).any():
        order = np.argsort(words, kind="stable")
    return order.astype(np.int64, copy=False)


def uniform(seed: bytes, purpose: str, shape: Sequence[int], bound: float) -> Tensor:
    """float32 of this shape, uniform on a grid of 2^24 points in [-bound, bound)."""
    words = np.frombuffer(stream(seed, purpose, 4 * math.prod(shape)), "<u4")
    unit = (words >> 8).astype(np.float32) * np.float32(2.0**-23) - np.float32(1)
    return torch.from_numpy(unit * np.float32(bound)).reshape(tuple(shape))


def normal(seed: bytes, purpose: str, shape: Sequence[int]) -> Tensor:
    """Independent standard normals, float32 of this shape, for noise that hides something.

    Box and Muller's transform of a ChaCha20 key stream (RFC 8439) whose key is of the stream: whoever learns
    some of them cannot tell the others. 24 bits of each angle and 32 of each radius: none is beyond 6.7.
    Sums and roots are torch's, so another machine's may differ in the last bit.
    """
    pairs = -(-math.prod(shape) // 2)
    cipher = Cipher(ChaCha20(stream(seed, f"normal {purpose}", 32), bytes(16)), mode=None)
    words = np.frombuffer(cipher.encryptor().update(bytes(8 * pairs)), "<u4").reshape(2, pairs)
    unit = torch.from_numpy(words.astype(np.float32)).add_(0.5).mul_(2.0**-32)
    radius = unit[0].clamp_max_(1).log_().mul_(-2).sqrt_()
    angle = unit[1].mul_(2 * math.pi)
    values = torch.cat((radius * angle.cos(), radius * angle.sin()))
    return values[: math.prod(shape)].reshape(tuple(shape))


def generator(seed: bytes, purpose: str) -> torch.Generator:
    """A torch generator of its own for dropout masks.

    torch keeps 32 bits of its seed: enough for masks, never for a secret or for noise that hides one.
    """
    return torch.Generator().manual_seed(int.from_bytes(stream(seed, purpose, 4), "little"))


def strong_generator(seed: bytes, purpose: str) -> torch.Generator:
    """The same with all 19,937 bits of the Mersenne twister's state from the stream, not 32.

    For weights that a module draws by itself: whoever sees a model's first outputs could try 2^32 seeds.
    The state is torch's: 24 bytes of seed and position, 624 words of 8 bytes, then what is kept of normals.
    """
    made = generator(seed, purpose)
    state = made.get_state()
    words = np.frombuffer(stream(seed, f"{purpose} state", 4 * 624), "<u4").astype("<u8")
    state[24 : 24 + 8 * 624] = torch.from_numpy(words.view(np.uint8))
    return made.set_state(state)
