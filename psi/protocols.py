"""The protocols that come with the program: what each says of itself, and where it is made.

What computes is imported when a protocol runs, so that listing and loading protocols stays cheap.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from protos.rounds import Rounds
from psi.interface import Engine, Setting
from psi.registry import protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Bytes = NDArray[np.uint8]
    Rows = NDArray[np.int64]

OPRF_LEAKAGE = (
    "the leader learns how many ids each party holds, the others how many the leader holds and how many are "
    "common. Nobody learns which ids fewer than all parties share; if the leader pools what it saw with some "
    "others, they learn which of its ids all the rest hold"
)


class OverEngine(ABC):
    """An OPRF engine in the topology for so many parties: `psi.two_party` for two, `psi.star` for more."""

    parties: ClassVar[range] = range(2, 17)
    leakage: ClassVar[str] = OPRF_LEAKAGE
    secure: ClassVar[bool] = True

    @abstractmethod
    def engine(self) -> Engine: ...

    def align(self, setting: Setting, digests: Bytes) -> Rounds[Rows]:
        from psi.star import star
        from psi.two_party import two_party

        topology = two_party if len(setting.parties) == 2 else star
        return topology(self.engine(), setting, digests)

    def traffic(self, counts: Sequence[int], common: int) -> int:
        from psi import star, two_party

        if len(counts) == 2:
            return two_party.traffic(self.engine(), counts[0], counts[1])
        return star.traffic(self.engine(), counts, common)

    def unread(self, at_most: int) -> int:
        from psi import star, two_party

        engine = self.engine()
        return max(two_party.unread(engine, at_most), star.unread(engine, at_most))


@protocol("ecdh")
class EcdhPsi(OverEngine):
    """Diffie-Hellman on an elliptic curve: slow, and the most conservative of assumptions."""

    name: ClassVar[str] = "ecdh"
    cost: ClassVar[str] = (
        "3n - 2 multiplications an id for n parties (4 us of a core each with AVX-512 IFMA, else 36), "
        "74 bytes an id for two parties, 79 an id and client for more"
    )
    maturity: ClassVar[str] = (
        "unaudited; standard assumptions (RFC 9497); secure against parties that follow the protocol and "
        "pool what they see"
    )

    def engine(self) -> Engine:
        from psi.ecdh import Ecdh

        return Ecdh()


@protocol("rr22")
class Rr22Psi(OverEngine):
    """Vector OLE and an oblivious key-value store (Raghuraman and Rindal 2022): the fastest here."""

    name: ClassVar[str] = "rr22"
    cost: ClassVar[str] = (
        "1 to 1.5 us of a core an id and party; 31 bytes an id for two parties, 36 an id and client for "
        "more; and, which counts below 2^16 ids, 0.1 s and 0.5 MB a client"
    )
    maturity: ClassVar[str] = (
        "unaudited; rests on a dual LPN assumption of 2022 with published parameters; secure against parties "
        "that follow the protocol and pool what they see"
    )

    def engine(self) -> Engine:
        from psi.rr22 import Rr22

        return Rr22()


@protocol("dh")
class DhPsi:
    """The classic two-party protocol, as a baseline: both raise hashed ids to secret powers."""

    name: ClassVar[str] = "dh"
    parties: ClassVar[range] = range(2, 3)
    leakage: ClassVar[str] = "each party learns how many ids the other holds"
    cost: ClassVar[str] = "4 scalar multiplications and some 84 bytes an id"
    maturity: ClassVar[str] = (
        "unaudited baseline of 1986, with a comparison of the results at its end; secure against parties "
        "that follow the protocol"
    )
    secure: ClassVar[bool] = True

    def align(self, setting: Setting, digests: Bytes) -> Rounds[Rows]:
        from psi.dh import dh

        return dh(setting, digests)

    def traffic(self, counts: Sequence[int], common: int) -> int:
        from psi import dh

        return dh.traffic(counts[0], counts[1])

    def unread(self, at_most: int) -> int:
        from psi import dh

        return dh.unread(at_most)


@protocol("insecure-hash")
class InsecureHash:
    """Hashed ids compared in the open, for measurements: every party can guess the others' ids."""

    name: ClassVar[str] = "insecure-hash"
    parties: ClassVar[range] = range(2, 17)
    leakage: ClassVar[str] = (
        "the leader can read every id that it can guess, at every party, and sees which ids any two of them "
        "share"
    )
    cost: ClassVar[str] = "one hash and 16 bytes an id, 16 bytes more a common id"
    maturity: ClassVar[str] = "INSECURE; it hides nothing, and is here to be measured against"
    secure: ClassVar[bool] = False

    def align(self, setting: Setting, digests: Bytes) -> Rounds[Rows]:
        from psi.insecure_hash import insecure_hash

        return insecure_hash(setting, digests)

    def traffic(self, counts: Sequence[int], common: int) -> int:
        from psi import insecure_hash

        return insecure_hash.traffic(counts, common)

    def unread(self, at_most: int) -> int:
        from psi import insecure_hash

        return insecure_hash.unread(at_most)
