"""Embedding DP: each activation's row is clipped, and gets Gaussian noise before it leaves its party.

A row h becomes h * min(1, C / |h|) + N(0, (sigma C)^2 I) (clipping and noise of Abadi et al. 2016, "Deep
Learning with Differential Privacy", algorithm 1, on activations in place of gradients). One row may be
another: two clipped rows are up to 2 C apart, so for the accountant the noise multiplier is sigma / 2, not
sigma. The bound is on a release *given* the weights that made it: bottom weights have seen raw features.

Noise is a function of (private seed, context, the clipped rows). A step that is done again after a restart,
on the same rows by the same weights, is the same release, bit for bit, and spends nothing more; by any other
weights it has noise of its own, and is counted again (`splitnn.releases`). So no two activations ever share
noise, whatever gradients come back.
"""

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR
from numpy.typing import NDArray
from torch import Tensor

from splitnn.accountant import rho
from splitnn.randomness import stream


@dataclass(frozen=True)
class EmbeddingDP:
    """clip: the longest row, C; None: any. sigma: the noise's deviation in units of the clip. By default the
    identity. Raises ValueError for what is none."""

    clip: float | None = None
    sigma: float = 0.0

    def __post_init__(self) -> None:
        if self.clip is not None and not 0 < self.clip < math.inf:
            raise ValueError(f"the clip of embeddings must be above 0 and finite, not {self.clip:g}")
        if not 0 <= self.sigma < math.inf:
            raise ValueError(f"the noise of embeddings must be 0 or above and finite, not {self.sigma:g}")
        if self.sigma and self.clip is None:
            raise ValueError("the noise of embeddings is in units of their clip: give a clip too")

    @property
    def on(self) -> bool:
        return self.clip is not None

    def rho(self, releases: int) -> float:
        """What so many releases of one row spend (`splitnn.accountant`): infinite without noise."""
        return rho(self.sigma / 2, releases)

    def clipped(self, activation: Tensor) -> Tensor:
        """[b, d], in the graph of the activation. No row is longer than the clip, whatever float32 rounds."""
        if self.clip is None:
            return activation
        limit = self.clip * (1 - 2.0**-22)
        length: Tensor = torch.linalg.vector_norm(activation, dim=1, keepdim=True, dtype=torch.float64)
        shorter = (limit / length.clamp_min(limit)).to(torch.float32)
        return activation * shorter

    def release(
        self,
        activation: Tensor,
        seed: bytes,
        context: str,
        drawn: Callable[[bytes], None] = lambda noise: None,
    ) -> Tensor:
        """What leaves of float32 [b, d], in the graph of the activation.

        seed: private. context: names what is released; another one for everything else. drawn: told the 16
        bytes that name the noise: the same for the same release alone; nothing else can be told from them.
        """
        clipped = self.clipped(activation)
        if not self.sigma or self.clip is None:
            return clipped
        rows = np.ascontiguousarray(clipped.detach().numpy(), "<f4")
        name = f"embedding noise {context} {rows.shape} {hashlib.sha256(rows.data).hexdigest()}"
        drawn(stream(seed, f"name of {name}", 16))
        noise = gaussian(stream(seed, name, 32), rows.size).reshape(rows.shape)
        noised = torch.from_numpy((rows + self.clip * self.sigma * noise).astype(np.float32))
        released: Tensor = _InPlaceOf.apply(noised, clipped)  # type: ignore[no-untyped-call]
        return released


def gaussian(key: bytes, count: int) -> NDArray[np.float64]:
    """Independent standard normals, a function of the key (32 bytes, of one use): Box and Muller 1958, from
    AES-256 in counter mode. torch's own generators are no match for who sees much of what they draw."""
    pairs = -(-count // 2)
    words = np.frombuffer(Cipher(AES(key), CTR(bytes(16))).encryptor().update(bytes(16 * pairs)), "<u8")
    unit = (words >> np.uint64(11)).astype(np.float64)
    radius = np.sqrt(-2 * np.log((unit[:pairs] + 1) * 2.0**-53))  # of (0, 1]: never infinite
    angle = (2 * math.pi * 2.0**-53) * unit[pairs:]
    return np.concatenate((radius * np.cos(angle), radius * np.sin(angle)))[:count]


class _InPlaceOf(torch.autograd.Function):
    """One tensor in place of another, which gets its gradient."""

    @staticmethod
    def forward(ctx: Any, shown: Tensor, hidden: Tensor) -> Tensor:
        return shown.clone()

    @staticmethod
    def backward(ctx: Any, *gradient: Tensor) -> tuple[None, Tensor]:
        return None, gradient[0]
