"""The star: 2 to 16 parties intersect, and nobody learns a pairwise intersection.

After Kolesnikov, Matania, Pinkas, Rosulek and Trieu 2017 (augmented semi-honest), over any OPRF engine.
`docs/psi.md` walks through the steps, which the comments below number, and argues what each party learns.
"""

import hmac
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from protos.rounds import Progress, RemoteProtocolError, Rounds, Send
from psi import kdf, okvs, sizes, tags
from psi.interface import Engine, Setting
from psi.shuffle import permutation

Bytes = NDArray[np.uint8]
Rows = NDArray[np.int64]

DIGEST = 32
"""Bytes of the digest by which clients compare results."""


def star(engine: Engine, setting: Setting, digests: Bytes) -> Rounds[Rows]:
    """`Psi.align` in the star topology: the first of `setting.parties` leads."""
    sizes.check(setting, digests)
    if setting.me == setting.leader:
        return (yield from _leader(engine, setting, digests))
    return (yield from _client(engine, setting, digests))


def traffic(engine: Engine, counts: Sequence[int], common: int) -> int:
    """`Psi.traffic` of the star over this engine."""
    leads, clients = counts[0], len(counts) - 1
    total = clients * (clients - 1) * (kdf.KEY + DIGEST)
    for count in counts[1:]:
        total += 2 * sizes.COUNT + engine.traffic(leads, count)
        total += _hint_size(count) + common * tags.size(leads, count)
    return total


def unread(engine: Engine, at_most: int) -> int:
    """`Psi.unread` of the star over this engine."""
    return sizes.COUNT + engine.unread(at_most) + _hint_size(at_most) + kdf.KEY + DIGEST


def unmask(
    setting: Setting, client: str, hint: bytes, count: int, digests: Bytes, outputs: Bytes
) -> NDArray[np.uint64]:
    """[n]: what a client's hint says of each digest [n, 16], given its OPRF outputs [n, 16].

    The client's share of zero where it holds the id, noise elsewhere; `psi.conformance` tries to tell which.
    """
    slots = np.frombuffer(hint, "<u8", offset=okvs.SEED).reshape(-1, 1)
    return okvs.decode(hint[: okvs.SEED], slots, count, digests)[:, 0] ^ _mask(setting, client, outputs)


def _leader(engine: Engine, setting: Setting, digests: Bytes) -> Rounds[Rows]:
    clients = setting.clients
    counts = yield from sizes.exchange(setting, clients, len(digests))
    # 2. The OPRF: for each client i, O_i(x) of our own x.
    outputs = yield from engine.receiver(setting, clients, digests)
    # 3, 4. Each hint, unmasked, is the client's share where the client holds x too, and noise elsewhere.
    total = np.zeros(len(digests), np.uint64)
    for client in clients:
        hint = yield from sizes.receive(client, "hint", _hint_size(counts[client]))
        total ^= unmask(setting, client, hint, counts[client], digests, outputs[client])
    common = np.flatnonzero(total == 0)
    # 5. The result, as tags that only the holder of x can recognise, in an order that tells nothing of ours.
    result = common[permutation(len(common), setting.random)]
    for client in clients:
        size = tags.size(len(digests), counts[client])
        yield Send(client, "tags", _tags(setting, client, outputs[client][result], size).tobytes())
    yield Progress("psi", len(digests), len(digests))
    return result


def _client(engine: Engine, setting: Setting, digests: Bytes) -> Rounds[Rows]:
    me, leader = setting.me, setting.leader
    # 1. A fresh key with every other client, out of the leader's sight.
    pair_keys = yield from _agree_keys(setting)
    leads = (yield from sizes.exchange(setting, [leader], len(digests)))[leader]
    # 2. The OPRF: O_i of our own x, under a key that nobody else has.
    outputs = yield from engine.sender(setting, leader, leads, digests)
    # 3. The hint: our share of zero, masked so that only who learned O_i(x) can read it.
    values = _mask(setting, me, outputs)
    for pair_key in pair_keys.values():
        values = values ^ kdf.prf64(kdf.key(pair_key, "share", setting.run), digests)
    seed, slots = okvs.encode(digests, values.reshape(-1, 1), setting.random)
    yield Send(leader, "hint", seed + slots.astype("<u8").tobytes())
    # 5. The result: the leader's order of our own rows.
    own = _tags(setting, me, outputs, tags.size(leads, len(digests)))
    result = yield from tags.receive(leader, "tags", own, leads)
    # 6. Has the leader told every client the same?
    yield from _compare(setting, pair_keys, digests[result])
    yield Progress("psi", leads + len(digests), leads + len(digests))
    return result


def _agree_keys(setting: Setting) -> Rounds[dict[str, bytes]]:
    """One key with each other client; both contribute, so an old message played again gives a new key."""
    me, others = setting.me, [client for client in setting.clients if client != setting.me]
    ours = {other: setting.random(kdf.KEY) for other in others}
    for other in others:
        yield Send(other, "pair key", ours[other])
    keys = {}
    for other in others:
        theirs = yield from sizes.receive(other, "pair key", kdf.KEY)
        low, high = sorted([(me, ours[other]), (other, theirs)])
        keys[other] = kdf.key(low[1] + high[1], "pair", setting.run, low[0], high[0])
    return keys


def _mask(setting: Setting, client: str, outputs: Bytes) -> NDArray[np.uint64]:
    label = kdf.key(b"", "mask", setting.run, setting.leader, client)
    return kdf.derive(outputs, label, 8).view("<u8")[:, 0]


def _tags(setting: Setting, client: str, outputs: Bytes, size: int) -> Bytes:
    return kdf.derive(outputs, kdf.key(b"", "result", setting.run, setting.leader, client), size)


def _hint_size(count: int) -> int:
    return okvs.SEED + 8 * okvs.slots(count)


def _compare(setting: Setting, pair_keys: dict[str, bytes], common: Bytes) -> Rounds[None]:
    """Raises RemoteProtocolError unless every other client has the same ids in the same order.

    The MAC is over the ids themselves, under a key that the leader does not have: of PRF values of the
    ids the leader has learned enough to forge one.
    """
    story = len(common).to_bytes(8, "big") + common.tobytes()

    def mac(author: str, pair_key: bytes) -> bytes:
        return hmac.digest(kdf.key(pair_key, "digest", setting.run, author), story, "sha256")

    for other, pair_key in pair_keys.items():
        yield Send(other, "result digest", mac(setting.me, pair_key))
    for other, pair_key in pair_keys.items():
        told = yield from sizes.receive(other, "result digest", DIGEST)
        if not hmac.compare_digest(told, mac(other, pair_key)):
            raise RemoteProtocolError(
                f"{setting.leader} told {other} and {setting.me} different results; "
                "the alignment is void, ask both to compare versions before another attempt"
            )
