"""How many ids each party brings, and so how long each message is.

Nothing that a peer says is held in memory before its length is known from what the peer announced.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from protos.rounds import LocalProtocolError, Receive, RemoteProtocolError, Rounds, Send
from psi.ids import IdError
from psi.interface import Setting

COUNT: Final = 8
"""Bytes of an announced number of ids."""


def check(setting: Setting, digests: NDArray[np.uint8]) -> None:
    """Before anything is sent: is this party one of the parties, with as many distinct digests as allowed?"""
    if len(set(setting.parties)) < 2 or setting.me not in setting.parties:
        raise LocalProtocolError(f"{setting.me} cannot align with the parties {', '.join(setting.parties)}")
    if len(digests) > setting.at_most:
        raise IdError(
            f"{len(digests)} ids here, and the contract allows {setting.at_most}; raise it or bring fewer"
        )
    if not _distinct(digests):
        raise LocalProtocolError("the digests to align repeat; normalise the ids first")


def exchange(setting: Setting, peers: Sequence[str], own: int) -> Rounds[dict[str, int]]:
    """Tell `peers` our number of ids and learn theirs.

    Raises RemoteProtocolError above `at_most`, and for another number than was announced.
    """
    for peer in peers:
        yield Send(peer, "count", own.to_bytes(COUNT, "big"))
    counts = {}
    for peer in peers:
        count = int.from_bytes((yield from receive(peer, "count", COUNT)), "big")
        if count > setting.at_most:
            raise RemoteProtocolError(f"{peer} brings {count} ids, and the contract allows {setting.at_most}")
        if count != setting.sizes.get(peer, count):
            raise RemoteProtocolError(f"{peer} brings {count} ids, and announced {setting.sizes[peer]}")
        counts[peer] = count
    return counts


def receive(sender: str, kind: str, size: int) -> Rounds[bytes]:
    """A message of exactly `size` bytes."""
    payload: bytes = yield Receive(sender, kind, at_most=size)
    if len(payload) != size:
        raise RemoteProtocolError(f"{sender} sent {len(payload)} bytes of {kind!r}, not {size}")
    return payload


def _distinct(digests: NDArray[np.uint8]) -> bool:
    """By sorting one half of each; only if two are equal there, by the whole."""
    if len(digests) < 2:
        return True
    halves = np.sort(np.ascontiguousarray(digests).view("<u8")[:, 0])
    if not (halves[1:] == halves[:-1]).any():
        return True
    return len(np.unique(digests, axis=0)) == len(digests)
