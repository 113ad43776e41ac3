"""What PSI replaces: everybody's keyed hashes, compared at one party. It protects no id.

Whoever holds the key (every party) can hash all likely e-mail addresses or phone numbers and read the
others' sets; and the leader sees which ids any two share. It is here to be measured against.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from protos.rounds import Progress, RemoteProtocolError, Rounds, Send
from psi import kdf, sizes, tags
from psi.interface import Setting
from psi.matching import distinct, match
from psi.shuffle import permutation

Bytes = NDArray[np.uint8]
Rows = NDArray[np.int64]

HASH: Final = 16
"""Bytes of a hash: AES-256 of the digest under a key that all parties know."""


def insecure_hash(setting: Setting, digests: Bytes) -> Rounds[Rows]:
    """`Psi.align` for any number of parties: the first of `setting.parties` compares."""
    sizes.check(setting, digests)
    own = kdf.permute(kdf.key(b"", "insecure-hash", setting.run, *setting.parties), digests)
    if setting.me == setting.leader:
        return (yield from _leader(setting, own))
    return (yield from _client(setting, own))


def traffic(counts: Sequence[int], common: int) -> int:
    """`Psi.traffic`: every client's hashes, and the common ones back."""
    clients = len(counts) - 1
    return 2 * sizes.COUNT * clients + HASH * (sum(counts[1:]) + clients * common)


def unread(at_most: int) -> int:
    """`Psi.unread`: the whole set."""
    return sizes.COUNT + HASH * at_most


def _leader(setting: Setting, own: Bytes) -> Rounds[Rows]:
    counts = yield from sizes.exchange(setting, setting.clients, len(own))
    common = np.ones(len(own), bool)
    for client, count in counts.items():
        hashes = np.frombuffer((yield from sizes.receive(client, "hashes", HASH * count)), np.uint8)
        rows = match(own, hashes.reshape(-1, HASH))
        if not distinct(rows):
            raise RemoteProtocolError(f"{client} sent the same hash twice")
        held = np.zeros(len(own), bool)
        held[rows[rows >= 0]] = True
        common &= held
    places = np.flatnonzero(common)
    result = places[permutation(len(places), setting.random)]
    for client in setting.clients:
        yield Send(client, "common", own[result].tobytes())
    yield Progress("psi", len(own), len(own))
    return result


def _client(setting: Setting, own: Bytes) -> Rounds[Rows]:
    leader = setting.leader
    leads = (yield from sizes.exchange(setting, [leader], len(own)))[leader]
    yield Send(leader, "hashes", own[permutation(len(own), setting.random)].tobytes())
    rows = yield from tags.receive(leader, "common", own, leads)
    yield Progress("psi", len(own), len(own))
    return rows
