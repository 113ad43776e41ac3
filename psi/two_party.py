"""Two parties: the leader looks the client's tags up, and answers with one bit for each.

Over any OPRF engine, after Freedman, Ishai, Pinkas and Reingold 2005; `docs/psi.md` numbers the steps.
"""

import hmac
from hashlib import blake2b
from typing import Final

import numpy as np
from numpy.typing import NDArray

from protos.rounds import Progress, RemoteProtocolError, Rounds, Send
from psi import kdf, sizes, tags
from psi.interface import Engine, Setting
from psi.matching import distinct, match
from psi.shuffle import permutation

Bytes = NDArray[np.uint8]
Rows = NDArray[np.int64]

PROOF: Final = 32
"""Bytes by which the leader shows that it knows F of each id that it names common."""


def two_party(engine: Engine, setting: Setting, digests: Bytes) -> Rounds[Rows]:
    """`Psi.align` for two: the first of `setting.parties` leads."""
    sizes.check(setting, digests)
    if setting.me == setting.leader:
        return (yield from _leader(engine, setting, digests))
    return (yield from _client(engine, setting, digests))


def traffic(engine: Engine, leads: int, count: int) -> int:
    """`Psi.traffic` of two parties over this engine; the number of common ids does not change it."""
    after = count * tags.size(leads, count) + _bitmap_size(count) + PROOF
    return 2 * sizes.COUNT + engine.traffic(leads, count) + after


def unread(engine: Engine, at_most: int) -> int:
    """`Psi.unread` of two parties over this engine: the tags, or the bitmap, come while the engine runs."""
    return sizes.COUNT + engine.unread(at_most) + at_most * tags.size(at_most, at_most) + PROOF


def _leader(engine: Engine, setting: Setting, digests: Bytes) -> Rounds[Rows]:
    (client,) = setting.clients
    # 1. How many ids there are. 2. The OPRF: F of our own ids, under the client's key.
    count = (yield from sizes.exchange(setting, [client], len(digests)))[client]
    outputs = (yield from engine.receiver(setting, [client], digests))[client]
    # 3. The client's tags, in an order that tells nothing of its rows.
    size = tags.size(len(digests), count)
    theirs = np.frombuffer((yield from sizes.receive(client, "tags", size * count)), np.uint8)
    rows = match(_tags(setting, outputs, size), theirs.reshape(count, size))
    if not distinct(rows):
        raise RemoteProtocolError(f"{client} sent the same tag twice")
    # 4. Which of them we hold too. Their order is the common one.
    common = rows[rows >= 0]
    bitmap = np.packbits(rows >= 0, bitorder="little").tobytes()
    yield Send(client, "common", bitmap + _proof(setting, outputs[common]))
    yield Progress("psi", len(digests), len(digests))
    return common


def _client(engine: Engine, setting: Setting, digests: Bytes) -> Rounds[Rows]:
    leader, count = setting.leader, len(digests)
    # 1. How many ids there are. 2. The OPRF: F of our own ids, under a key that nobody else has.
    leads = (yield from sizes.exchange(setting, [leader], count))[leader]
    outputs = yield from engine.sender(setting, leader, leads, digests)
    # 3. Our tags, in a fresh secret order.
    order = permutation(count, setting.random)
    outputs = outputs[order]
    yield Send(leader, "tags", _tags(setting, outputs, tags.size(leads, count)).tobytes())
    # 4. Which of them the leader holds too.
    answer = yield from sizes.receive(leader, "common", _bitmap_size(count) + PROOF)
    bits = np.unpackbits(np.frombuffer(answer[:-PROOF], np.uint8), bitorder="little")
    common = np.flatnonzero(bits)
    if bits[count:].any() or len(common) > leads:
        raise RemoteProtocolError(f"{leader} names common ids that there cannot be")
    if not hmac.compare_digest(answer[-PROOF:], _proof(setting, outputs[common])):
        raise RemoteProtocolError(
            f"{leader} names ids common that it does not hold, or in another order; the alignment is void"
        )
    yield Progress("psi", leads + count, leads + count)
    return order[common]


def _tags(setting: Setting, outputs: Bytes, size: int) -> Bytes:
    return kdf.derive(outputs, kdf.key(b"", "result", setting.run, *setting.parties), size)


def _proof(setting: Setting, common: Bytes) -> bytes:
    """A hash over F of the common ids in order, whole: only who holds an id, or the key, knows its F."""
    label = kdf.key(b"", "proof", setting.run, *setting.parties)
    return blake2b(common.tobytes(), key=label, digest_size=PROOF).digest()


def _bitmap_size(count: int) -> int:
    return -(-count // 8)
