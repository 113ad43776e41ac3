"""What a private set intersection protocol is, and what it is made of."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Protocol

from protos.rounds import Rounds

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Setting:
    """What the parties have agreed on before they align.

    parties: all names, the leader first, in the same order at every party.
    run: the run id; it is part of every key derivation.
    at_most: the most ids that any party may bring. A larger announcement is refused before memory is
    allocated, and bounds what a party can learn by bringing an inflated set.
    sizes: how many ids parties have announced, as far as this one knows; each must bring that many.
    random: n -> n bytes from a cryptographic source. Tests inject it; nothing drawn is ever stored.
    """

    me: str
    parties: tuple[str, ...]
    run: bytes
    at_most: int
    random: Callable[[int], bytes] = os.urandom
    sizes: Mapping[str, int] = field(default_factory=dict)

    @property
    def leader(self) -> str:
        return self.parties[0]

    @property
    def clients(self) -> tuple[str, ...]:
        return self.parties[1:]


class Psi(Protocol):
    """One way to intersect; made without arguments, and holding no state between alignments.

    parties: how many may take part.
    leakage: what a party learns beyond the common ids; the run prints it before it starts.
    cost: time and traffic, in the units of the field.
    maturity: how far it has been reviewed.
    secure: False for a protocol that hides nothing from a peer who guesses ids; the contract must then say
    `allow_insecure`.
    """

    name: ClassVar[str]
    parties: ClassVar[range]
    leakage: ClassVar[str]
    cost: ClassVar[str]
    maturity: ClassVar[str]
    secure: ClassVar[bool]

    def align(self, setting: Setting, digests: NDArray[np.uint8]) -> Rounds[NDArray[np.int64]]:
        """Intersect: the rows of `digests` that every party holds, in one order that is the same everywhere.

        digests: [n, 16], distinct rows, made by `psi.normalise` with one key at all parties.
        Messages between two clients REQUIRE a channel that no third party, the leader included, can read:
        the driver seals them. An attempt that fails is started afresh; it yields no `Save`.
        Raises IdError for more than `at_most` digests, RemoteProtocolError for what a peer did wrong.
        """

    def traffic(self, counts: Sequence[int], common: int) -> int:
        """Payload bytes of one alignment on all wires. counts: ids of each party, the leader's first.

        The formula that `cost` tells in words: within 5 % of what is measured, once a party has 2^10 ids.
        """

    def unread(self, at_most: int) -> int:
        """The most bytes that one peer may have sent to a party and that party not yet have asked for."""


class Engine(Protocol):
    """A batched oblivious PRF: the receiver learns F_k(x) for its own x, the sender can compute F_k.

    Each F_k(x) is 16 bytes, indistinguishable from random to whoever holds neither k nor that output.
    A call draws a fresh k.
    """

    def receiver(
        self, setting: Setting, senders: Sequence[str], digests: NDArray[np.uint8]
    ) -> Rounds[dict[str, NDArray[np.uint8]]]:
        """F under each sender's own key: [n, 16] for the receiver's [n, 16]."""

    def sender(
        self, setting: Setting, receiver: str, count: int, digests: NDArray[np.uint8]
    ) -> Rounds[NDArray[np.uint8]]:
        """Serve the receiver's `count` inputs; F under our key of our own digests, [n, 16] -> [n, 16]."""

    def traffic(self, count: int, own: int) -> int:
        """Payload bytes between a receiver of `count` inputs and one sender with `own`, both ways."""

    def unread(self, at_most: int) -> int:
        """As `Psi.unread`, for the messages of this engine alone."""
