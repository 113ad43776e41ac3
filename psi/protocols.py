"""The protocols that come with the program: an OPRF engine each, in the topology for so many parties."""

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from protos.rounds import Rounds
from psi import star
from psi.ecdh import Ecdh
from psi.interface import Setting
from psi.registry import protocol


@protocol("ecdh")
class EcdhPsi:
    """Diffie-Hellman on an elliptic curve: slow, and the most conservative of assumptions."""

    name: ClassVar[str] = "ecdh"
    parties: ClassVar[range] = range(2, 17)
    leakage: ClassVar[str] = (
        "the leader learns how many ids each party holds, the others how many the leader holds and how many "
        "are common. Nobody learns which ids fewer than all parties share; if the leader pools what it saw "
        "with some others, they learn which of its ids all the rest hold"
    )
    cost: ClassVar[str] = (
        "3n - 2 scalar multiplications an id for n parties (7 for three parties, some 17 us each on two "
        "cores) and about 76 bytes an id and client"
    )
    maturity: ClassVar[str] = (
        "unaudited; secure against parties that follow the protocol and pool what they see"
    )
    secure: ClassVar[bool] = True

    def align(self, setting: Setting, digests: NDArray[np.uint8]) -> Rounds[NDArray[np.int64]]:
        return star.star(Ecdh(), setting, digests)

    def unread(self, at_most: int) -> int:
        return star.unread(Ecdh(), at_most)
