"""Activations as whole numbers modulo 2^k, so that their sum is exact and a uniform number can hide each.

Each is clipped to [-bound, bound], multiplied by 2^fraction and rounded to the nearest, ties to even. Sums
are taken modulo 2^k and read as signed: as long as parties * bound * 2^fraction < 2^(k - 1) none wraps around
(Bonawitz et al. 2017, "Practical Secure Aggregation for Privacy-Preserving Machine Learning", section 4).
"""

from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from splitnn.codecs import finite

WORDS: Final[dict[int, np.dtype[Any]]] = {32: np.dtype("<u4"), 64: np.dtype("<u8")}
"""By the bits of the modulus, k."""

Words: TypeAlias = NDArray[Any]
"""Whole numbers modulo 2^k, of one of the types in WORDS."""


@dataclass(frozen=True)
class FixedPoint:
    """Raises ValueError for numbers that leave nothing of an activation, or do not fit a word.

    bound: the largest magnitude that crosses unclipped. fraction: bits behind the point, f.
    modulus: bits of a word, k, a key of WORDS: with 32 a tensor has the bytes of float32.
    """

    bound: float = 32.0
    fraction: int = 20
    modulus: int = 32

    def __post_init__(self) -> None:
        if self.modulus not in WORDS:
            raise ValueError(f"modulus must be {' or '.join(map(str, WORDS))} bits, not {self.modulus}")
        if not 0 <= self.fraction <= 52:
            raise ValueError(f"fraction must be 0 to 52 bits, not {self.fraction}")
        if not 0 < self.bound < 2**52 or self.largest < 1:
            raise ValueError(f"bound must be at least 2^-fraction and below 2^52, not {self.bound:g}")
        if self.largest > 2**53:  # beyond it a double is not every whole number
            raise ValueError(f"bound {self.bound:g} and fraction {self.fraction} need more than 53 bits")

    @property
    def largest(self) -> int:
        """The largest magnitude of a whole number that one party adds."""
        return int(self.bound * 2**self.fraction)

    @property
    def word(self) -> "np.dtype[Any]":
        return WORDS[self.modulus]

    def most_parties(self) -> int:
        """That can be added up without any sum wrapping around."""
        return ((1 << (self.modulus - 1)) - 1) // self.largest

    def error(self, parties: int) -> float:
        """The most by which a sum of so many differs from that of the clipped numbers, before it is rounded
        to float32."""
        return parties * 2.0 ** (-self.fraction - 1)

    def clip(self, activation: Tensor) -> Tensor:
        """In the graph of the activation: what is beyond the bound gets no gradient."""
        return activation.clamp(-self.bound, self.bound)

    def words(self, activation: Tensor) -> Words:
        """Of float32 [b, d], its whole numbers modulo 2^k, alike in shape. Raises ValueError for NaN and
        infinity."""
        if self.modulus == 32 and self.largest < 1 << 30:  # in half the time, and exact: powers of two
            far = 2.0 ** (30 - self.fraction)
            scaled = finite(activation.detach()).clamp(-far, far).mul_(2.0**self.fraction).round_()
            small: Words = scaled.to(torch.int32).clamp_(-self.largest, self.largest).numpy().view(self.word)
            return small
        whole = np.rint(finite(activation.detach()).numpy().astype(np.float64) * 2.0**self.fraction)
        np.clip(whole, -self.largest, self.largest, out=whole)
        return whole.astype(np.int64).astype(self.word)

    def number(self, total: Words, parties: int) -> Tensor:
        """float32: what the sum of so many parties' words stands for.

        Raises ValueError for a sum that no such parties can have: their masks are not of one step.
        """
        signed = total.view(f"<i{self.modulus // 8}")
        most = parties * self.largest
        if signed.size and not -most <= int(signed.min()) <= int(signed.max()) <= most:
            raise ValueError(f"is beyond {parties} x {self.bound:g}")
        return torch.from_numpy((signed * 2.0**-self.fraction).astype(np.float32))
