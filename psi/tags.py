"""Tags: short names of ids, which only who holds the id (or made the tag) recognises."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from protos.rounds import Receive, RemoteProtocolError, Rounds
from psi.matching import distinct, match

STATISTICAL: Final = 40
"""Bits: two tags are equal by chance, anywhere in an alignment, with probability below 2^-STATISTICAL."""


def size(count: int, other: int) -> int:
    """Bytes of a tag where sets of so many ids are compared."""
    bits = STATISTICAL + max(count - 1, 0).bit_length() + max(other - 1, 0).bit_length()
    return -(-bits // 8)


def receive(leader: str, kind: str, own: NDArray[np.uint8], leads: int) -> Rounds[NDArray[np.int64]]:
    """The result as a leader with `leads` ids tells it: the rows of `own` [n, size] that its tags name."""
    count, width = own.shape
    payload: bytes = yield Receive(leader, kind, at_most=width * min(leads, count))
    if len(payload) % width:
        raise RemoteProtocolError(f"{leader} sent {len(payload)} bytes of tags of {width} bytes")
    rows = match(own, np.frombuffer(payload, np.uint8).reshape(-1, width))
    if (rows < 0).any():
        raise RemoteProtocolError(f"{leader} sent the tag of an id that this party does not hold")
    if not distinct(rows):
        raise RemoteProtocolError(f"{leader} sent the same tag twice")
    return rows
