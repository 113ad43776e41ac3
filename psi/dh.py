"""The classic baseline: two parties, commutative exponentiation, (H(x)^a)^b = (H(x)^b)^a.

Meadows 1986; Huberman, Franklin and Hogg 1999 ("Enhancing privacy and trust in electronic communities").
Here over ristretto255 with a hash to the group of RFC 9380; each party's elements are shuffled, and what
comes back is hashed and truncated. `docs/psi.md` numbers the steps.
"""

import hmac
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

RESULT_TAG: Final = b"vertical-parties-dh-result-ristretto255_XMD:SHA-512_R255MAP_RO_"

PROOF: Final = 32
"""Bytes by which each party shows that it has the same result."""

CHUNK: Final = 8192
"""Elements a message, so that the peer is fed early. All may come before one is read: see `unread`."""


def dh(setting: Setting, digests: Bytes) -> Rounds[Rows]:
    """`Psi.align` for two parties. Both do the same; the order of the leader's elements is the common one."""
    sizes.check(setting, digests)
    (peer,) = (party for party in setting.parties if party != setting.me)
    # 1. How many ids there are, and so how long a tag is.
    count = (yield from sizes.exchange(setting, [peer], len(digests)))[peer]
    size = _tag_size(len(digests), count)
    # 2. Our elements H(x)^a, in a fresh secret order under a fresh key.
    order = permutation(len(digests), setting.random)
    key = ristretto.scalars(1, setting.random)
    # 3. The peer's, raised to our power as well: tags in the peer's order. And ours back, in our order.
    theirs, ours, total = bytearray(), bytearray(), len(digests) + count
    for start in range(0, len(digests), CHUNK):
        chunk = [row.tobytes() for row in digests[order[start : start + CHUNK]]]
        yield Send(peer, "masked", ristretto.hash_and_multiply(key, chunk, GROUP_TAG))
        yield Progress("psi", start + len(chunk), total)
    for start in range(0, count, CHUNK):
        due = min(CHUNK, count - start)
        masked = yield from sizes.receive(peer, "masked", due * ristretto.SIZE)
        twice = _tags(setting, ristretto.multiply(key, masked, peer), size)
        theirs += twice
        yield Send(peer, "masked twice", twice)
        yield Progress("psi", len(digests) + start + due, total)
    for start in range(0, len(digests), CHUNK):
        due = min(CHUNK, len(digests) - start)
        ours += yield from sizes.receive(peer, "masked twice", due * size)
    # 4. Equal tags are common ids, at both parties.
    common = order[_common(_rows(ours, size), _rows(theirs, size), setting.me == setting.leader, peer)]
    # 5. Has the peer the same? One that swaps the tags it sends would make us take other ids for common.
    yield from _compare(setting, peer, key, digests[common])
    return common


def traffic(count: int, other: int) -> int:
    """`Psi.traffic`: every element goes out, and its tag comes back."""
    each = (count + other) * (ristretto.SIZE + _tag_size(count, other))
    return 2 * (sizes.COUNT + ristretto.SIZE + PROOF) + each


def unread(at_most: int) -> int:
    """`Psi.unread`: everything."""
    return sizes.COUNT + (at_most + 1) * ristretto.SIZE + at_most * tags.size(at_most, at_most) + PROOF


def _tag_size(count: int, other: int) -> int:
    """No two are equal by chance in the longer list either: equal ones there would count as a fault."""
    longer = max(count, other)
    return tags.size(longer, longer)


def _common(ours: Bytes, theirs: Bytes, leads: bool, peer: str) -> Rows:
    """Places in our order that are common, in the leader's order. `theirs`: tags that we made ourselves."""
    if not distinct(match(theirs, theirs)):
        raise RemoteProtocolError(f"{peer} sent the same element twice")
    places = match(theirs, ours)
    if not distinct(places):
        raise RemoteProtocolError(f"{peer} sent the same tag twice")
    common = np.flatnonzero(places >= 0)
    return common if leads else common[np.argsort(places[common])]


def _compare(setting: Setting, peer: str, key: bytes, common: Bytes) -> Rounds[None]:
    """Raises RemoteProtocolError unless the peer has the same ids in the same order; tells it no more.

    The same protocol once again, over one hash of all common ids. A proof names its author, so one that is
    sent back to its author does not pass.
    """
    yield Send(peer, "result", ristretto.hash_and_multiply(key, [common.tobytes()], RESULT_TAG))
    masked = yield from sizes.receive(peer, "result", ristretto.SIZE)
    twice = ristretto.multiply(key, masked, peer)

    def proof(author: str) -> bytes:
        label = kdf.key(b"", "dh result", setting.run, *setting.parties, author)
        return blake2b(twice, key=label, digest_size=PROOF).digest()

    yield Send(peer, "result twice", proof(setting.me))
    told = yield from sizes.receive(peer, "result twice", PROOF)
    if not hmac.compare_digest(told, proof(peer)):
        raise RemoteProtocolError(f"{peer} has another result; the alignment is void, compare versions")


def _tags(setting: Setting, elements: bytes, size: int) -> bytes:
    label = kdf.key(b"", "dh", setting.run, *setting.parties)
    each = range(0, len(elements), ristretto.SIZE)
    return b"".join(
        [blake2b(elements[i : i + ristretto.SIZE], key=label, digest_size=size).digest() for i in each]
    )


def _rows(tags: bytearray, size: int) -> Bytes:
    return np.frombuffer(bytes(tags), np.uint8).reshape(-1, size)
