"""Secure sum: of the feature holders' activations the label holder learns the sum, and nothing else of any.

With h_i the activation of feature holder i, q_i its whole numbers (`splitnn.fixed_point`) and r_ij the pads
that i and j share (`splitnn.masks`), i sends

    y_i = q_i + sum over j after i of r_ij - sum over j before i of r_ij    mod 2^k

and the label holder adds all of them up: the pads cancel. Each y_i, and any set of them but all, is uniform
to who has none of the keys. The label holder adds its own activation in the clear, as float32, and sends all
the gradient by the sum, which is that by each of its terms.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final

import numpy as np
import torch
from torch import Tensor

from protos.rounds import LocalProtocolError, RemoteProtocolError
from splitnn.codecs import Buffer, Shape, Share
from splitnn.errors import TrainingError
from splitnn.fixed_point import FixedPoint, Words
from splitnn.masks import Masks

SECURE_SUM: Final = "secure-sum"
"""As a plan's fusion."""

LEAST: Final = 2
"""Feature holders: of one alone the sum is its activation."""


@dataclass(frozen=True)
class Whole:
    """The codec of shares: words, little-endian, row by row. Any word may be there."""

    fixed: FixedPoint

    number: ClassVar[int] = 4
    draws: ClassVar[bool] = False

    def size(self, shape: Shape) -> int:
        return self.fixed.word.itemsize * int(np.prod(shape))

    def write(self, item: Share, noise: torch.Generator | None) -> tuple[Buffer, ...]:
        return (np.ascontiguousarray(item.words).data.cast("B"),)

    def read(self, body: memoryview, shape: Shape) -> Share:
        return Share(np.frombuffer(body, self.fixed.word).reshape(tuple(shape)))


@dataclass(frozen=True)
class Hidden:
    """How activations cross under secure sum. holders: how many feature holders there are.

    masks: this party's; None at the label holder, which has none.
    Raises TrainingError for fewer than LEAST feature holders, or more than the sum has room for.
    """

    fixed: FixedPoint
    holders: int
    masks: Masks | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if self.holders < LEAST:
            raise TrainingError(
                f"secure-sum needs at least {LEAST} feature holders, as the sum of one is its activation: "
                "choose another model.fusion in run.toml"
            )
        if self.holders > self.fixed.most_parties():
            raise TrainingError(
                f"secure-sum has no room for the sum of {self.holders} feature holders: {self.holders} x "
                f"{self.fixed.bound:g} x 2^{self.fixed.fraction} must be below 2^{self.fixed.modulus - 1}; "
                "lower bound or fraction in run.toml"
            )
        if self.masks is not None and self.masks.holders != self.holders:
            raise LocalProtocolError("the masks are of another number of feature holders")

    @property
    def codec(self) -> Whole:
        return Whole(self.fixed)

    def share(self, activation: Tensor, number: int, training: bool) -> Share:
        """number: of the exchange. Raises ValueError for NaN and infinity, LocalProtocolError for a number
        that was there before."""
        if self.masks is None:
            raise LocalProtocolError("secure-sum without masks: nothing leaves")
        words = self.fixed.words(activation)
        return Share(self.masks.hide(words, "training" if training else "evaluation", number))

    def total(self, shares: Sequence[Share], what: str) -> Tensor:
        """float32 [b, width]: the sum of the activations whose shares these are, of every feature holder.

        Raises RemoteProtocolError, with `what` in it, for a sum that no clipped activations can have.
        """
        if len(shares) != self.holders:
            raise LocalProtocolError("a sum of some of the shares means nothing")
        words = added([share.words for share in shares])
        try:
            return self.fixed.number(words, self.holders)
        except ValueError as error:
            raise RemoteProtocolError(
                f"the sum of {what} {error}: a feature holder's share is not of this step; compare versions"
            ) from error


def added(words: Sequence[Words]) -> Words:
    """Modulo 2^k."""
    total: Any = words[0].copy()
    for more in words[1:]:
        total += more
    return total  # type: ignore[no-any-return]
