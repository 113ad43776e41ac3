"""Have all parties the same common users in the same order? Compared before anything is made of them.

A leader that tells its clients different alignments, a fault in a protocol, or finished buckets of different
attempts would otherwise pair one person's columns with another's label, and nobody would notice.
"""

import hashlib
import hmac
from typing import Final

import numpy as np
from numpy.typing import NDArray

from parties.contract import Contract
from protos.rounds import Receive, RemoteProtocolError, Rounds, Send

SIZE: Final = 32
"""Bytes of the hash."""


def compare(me: str, contract: Contract, run: bytes, digests: NDArray[np.uint8]) -> Rounds[None]:
    """digests: of the common ids in their common order, [n, 16].

    With the hub, and with every other feature holder through the sealed relay: the hub cannot vouch for them.
    A hash names its author, so one that is sent back to its author does not pass; who has the same users
    learns nothing by it. Raises RemoteProtocolError.
    """
    told = b"vertical alignment v1\0" + run + np.ascontiguousarray(digests).tobytes()
    others = [name for name in contract.names if name != me]
    for name in others:
        yield Send(name, "aligned", _hash(told, me))
    for name in others:
        theirs = yield Receive(name, "aligned", at_most=SIZE)
        if not hmac.compare_digest(theirs, _hash(told, name)):
            raise RemoteProtocolError(
                f"{name} and {me} do not have the same common users in the same order: the alignment is "
                f"void; compare versions, and ask {contract.label_holder} what it told each"
            )


def _hash(told: bytes, author: str) -> bytes:
    return hashlib.sha256(told + author.encode()).digest()
