"""The classic baseline: two parties, commutative exponentiation, (H(x)^a)^b = (H(x)^b)^a.

Meadows 1986; Huberman, Franklin and Hogg 1999 ("Enhancing privacy and trust in electronic communities").
Here over ristretto255 with a hash to the group of RFC 9380; each party's elements are shuffled, and what
comes back is hashed and truncated. `docs/psi.md` numbers the steps.
"""

from hashlib import blake2b
from typing import Final

import numpy as np
from numpy.typing import NDArray

from protos.rounds import Progress, RemoteProtocolError, Rounds, Send
from psi import kdf, ristretto, sizes, tags
from psi.interface import Setting
from psi.matching import distinct, match
from psi.shuffle import permutation

Bytes = NDArray[np.uint8]
Rows = NDArray[np.int64]

GROUP_TAG: Final = b"vertical-parties-dh-ristretto255_XMD:SHA-512_R255MAP_RO_"

CHUNK: Final = 2048
"""Elements a message."""

WINDOW: Final = 16
"""Messages sent and not yet answered, at most."""


def dh(setting: Setting, digests: Bytes) -> Rounds[Rows]:
    """`Psi.align` for two parties. Both do the same; the order of the leader's elements is the common one."""
    sizes.check(setting, digests)
    me = setting.me
    (peer,) = (party for party in setting.parties if party != me)
    # 1. How many ids there are, and so how long a tag is.
    count = (yield from sizes.exchange(setting, [peer], len(digests)))[peer]
    size = tags.size(len(digests), count)
    # 2. Our elements H(x)^a, in a fresh secret order.
    order = permutation(len(digests), setting.random)
    key = ristretto.scalars(1, setting.random)
    inputs = [row.tobytes() for row in digests[order]]
    # 3. What the peer makes of ours, in our order; and what we make of the peer's, in the peer's.
    ours, theirs = bytearray(), bytearray()
    for step in range(-(-max(len(inputs), count) // CHUNK) + WINDOW):
        if chunk := inputs[step * CHUNK : (step + 1) * CHUNK]:
            hashed = ristretto.hash_to_group(chunk, GROUP_TAG)
            yield Send(peer, "masked", ristretto.multiply(key, hashed, me))
        answered = (step - WINDOW) * CHUNK
        if 0 <= answered < count:
            due = min(CHUNK, count - answered)
            masked = yield from sizes.receive(peer, "masked", due * ristretto.SIZE)
            twice = _tags(setting, ristretto.multiply(key, masked, peer), size)
            theirs += twice
            yield Send(peer, "masked twice", twice)
        if 0 <= answered < len(inputs):
            due = min(CHUNK, len(inputs) - answered)
            ours += yield from sizes.receive(peer, "masked twice", due * size)
        yield Progress("psi", min(len(inputs), len(ours) // size), len(inputs))
    # 4. Equal tags are common ids, at both parties.
    return order[_common(_rows(ours, size), _rows(theirs, size), me == setting.leader, peer)]


def traffic(count: int, other: int) -> int:
    """`Psi.traffic`: every element goes out, and its tag comes back."""
    return 2 * sizes.COUNT + (count + other) * (ristretto.SIZE + tags.size(count, other))


def unread(at_most: int) -> int:
    """`Psi.unread`: a full window of elements and of tags, and what overlaps it."""
    size = ristretto.SIZE + tags.size(at_most, at_most)
    return sizes.COUNT + min((WINDOW + 1) * CHUNK, at_most) * size


def _common(ours: Bytes, theirs: Bytes, leads: bool, peer: str) -> Rows:
    """Places in our order that are common, in the leader's order. `theirs`: tags that we made ourselves."""
    if not distinct(match(theirs, theirs)):
        raise RemoteProtocolError(f"{peer} sent the same element twice")
    places = match(theirs, ours)
    if not distinct(places):
        raise RemoteProtocolError(f"{peer} sent the same tag twice")
    common = np.flatnonzero(places >= 0)
    return common if leads else common[np.argsort(places[common])]


def _tags(setting: Setting, elements: bytes, size: int) -> bytes:
    label = kdf.key(b"", "dh", setting.run, *setting.parties)
    each = range(0, len(elements), ristretto.SIZE)
    return b"".join(
        [blake2b(elements[i : i + ristretto.SIZE], key=label, digest_size=size).digest() for i in each]
    )


def _rows(tags: bytearray, size: int) -> Bytes:
    return np.frombuffer(bytes(tags), np.uint8).reshape(-1, size)
