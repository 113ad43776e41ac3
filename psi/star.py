"""The star: 2 to 16 parties intersect, and nobody learns a pairwise intersection.

After Kolesnikov, Matania, Pinkas, Rosulek and Trieu 2017 (augmented semi-honest), over any OPRF engine.
`docs/psi.md` walks through the steps, which the comments below number, and argues what each party learns.
"""

import hmac
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from protos.rounds import LocalProtocolError, Receive, RemoteProtocolError, Rounds, Send
from psi import kdf, okvs
from psi.ids import IdError
from psi.interface import Engine, Setting

Bytes = NDArray[np.uint8]
Rows = NDArray[np.int64]

STATISTICAL = 40


def star(engine: Engine, setting: Setting, digests: Bytes) -> Rounds[Rows]:
    """`Psi.align` in the star topology: the first of `setting.parties` leads."""
    if len(set(setting.parties)) < 2 or setting.me not in setting.parties:
        raise LocalProtocolError(f"{setting.me} cannot align with the parties {', '.join(setting.parties)}")
    if len(digests) > setting.at_most:
        raise IdError(
            f"{len(digests)} ids here, and the contract allows {setting.at_most}; raise it or bring fewer"
        )
    if len(np.unique(np.ascontiguousarray(digests).view("V16"))) != len(digests):
        raise LocalProtocolError("the digests to align repeat; normalise the ids first")
    if setting.me == setting.leader:
        return (yield from _leader(engine, setting, digests))
    return (yield from _client(engine, setting, digests))


def unread(engine: Engine, at_most: int) -> int:
    """`Psi.unread` of the star over this engine."""
    return engine.unread(at_most) + _hint_size(at_most) + kdf.KEY


def _leader(engine: Engine, setting: Setting, digests: Bytes) -> Rounds[Rows]:
    clients = setting.clients
    counts = yield from _exchange_counts(setting, clients, len(digests))
    # 2. The OPRF: for each client i, O_i(x) of our own x.
    outputs = yield from engine.receiver(setting, clients, digests)
    # 3, 4. Each hint, unmasked, is the client's share where the client holds x too, and noise elsewhere.
    total = np.zeros(len(digests), np.uint64)
    for client in clients:
        hint = yield from _receive(client, "hint", _hint_size(counts[client]))
        slots = np.frombuffer(hint, "<u8", offset=okvs.SEED)
        total ^= okvs.decode(hint[: okvs.SEED], slots, counts[client], digests)
        total ^= _mask(setting, client, outputs[client])
    common = np.flatnonzero(total == 0)
    # 5. The result, as tags that only the holder of x can recognise, in an order that tells nothing of ours.
    order = np.argsort(np.frombuffer(setting.random(8 * len(common)), "<u8"), kind="stable")
    result = common[order]
    for client in clients:
        size = _tag_size(len(digests), counts[client])
        yield Send(client, "tags", _tags(setting, client, outputs[client][result], size).tobytes())
    return result


def _client(engine: Engine, setting: Setting, digests: Bytes) -> Rounds[Rows]:
    me, leader = setting.me, setting.leader
    # 1. A fresh key with every other client, out of the leader's sight.
    pair_keys = yield from _agree_keys(setting)
    leads = (yield from _exchange_counts(setting, [leader], len(digests)))[leader]
    # 2. The OPRF: O_i of our own x, under a key that nobody else has.
    outputs = yield from engine.sender(setting, leader, leads, digests)
    # 3. The hint: our share of zero, masked so that only who learned O_i(x) can read it.
    values = _mask(setting, me, outputs)
    for pair_key in pair_keys.values():
        values = values ^ kdf.prf64(kdf.key(pair_key, "share", setting.run), digests)
    seed, slots = okvs.encode(digests, values, setting.random)
    yield Send(leader, "hint", seed + slots.astype("<u8").tobytes())
    # 5. The result: the leader's order of our own rows.
    size = _tag_size(leads, len(digests))
    tags: bytes = yield Receive(leader, "tags", at_most=size * min(leads, len(digests)))
    result = _match(_tags(setting, me, outputs, size), tags, size, leader)
    # 6. Has the leader told every client the same?
    yield from _compare(setting, pair_keys, digests[result])
    return result


def _exchange_counts(setting: Setting, peers: Sequence[str], own: int) -> Rounds[dict[str, int]]:
    for peer in peers:
        yield Send(peer, "count", own.to_bytes(8, "big"))
    counts = {}
    for peer in peers:
        count = int.from_bytes((yield from _receive(peer, "count", 8)), "big")
        if count > setting.at_most:
            raise RemoteProtocolError(f"{peer} brings {count} ids, and the contract allows {setting.at_most}")
        counts[peer] = count
    return counts


def _agree_keys(setting: Setting) -> Rounds[dict[str, bytes]]:
    """One key with each other client; both contribute, so an old message played again gives a new key."""
    me, others = setting.me, [client for client in setting.clients if client != setting.me]
    ours = {other: setting.random(kdf.KEY) for other in others}
    for other in others:
        yield Send(other, "pair key", ours[other])
    keys = {}
    for other in others:
        theirs = yield from _receive(other, "pair key", kdf.KEY)
        low, high = sorted([(me, ours[other]), (other, theirs)])
        keys[other] = kdf.key(low[1] + high[1], "pair", setting.run, low[0], high[0])
    return keys


def _mask(setting: Setting, client: str, outputs: Bytes) -> NDArray[np.uint64]:
    label = kdf.key(b"", "mask", setting.run, setting.leader, client)
    return kdf.derive(outputs, label, 8).view("<u8")[:, 0]


def _tags(setting: Setting, client: str, outputs: Bytes, size: int) -> Bytes:
    return kdf.derive(outputs, kdf.key(b"", "result", setting.run, setting.leader, client), size)


def _tag_size(leads: int, count: int) -> int:
    """Bytes such that a false match has probability below 2^-40."""
    bits = STATISTICAL + max(leads - 1, 0).bit_length() + max(count - 1, 0).bit_length()
    return -(-bits // 8)


def _hint_size(count: int) -> int:
    return okvs.SEED + 8 * sum(okvs.shape(count))


def _match(own: Bytes, tags: bytes, size: int, leader: str) -> Rows:
    """The rows of `own` that the leader's tags name, in its order."""
    if len(tags) % size:
        raise RemoteProtocolError(f"{leader} sent {len(tags)} bytes of tags of {size} bytes")
    row_of = {tag.tobytes(): row for row, tag in enumerate(own)}
    rows = [row_of.get(tags[i : i + size], -1) for i in range(0, len(tags), size)]
    if -1 in rows:
        raise RemoteProtocolError(f"{leader} sent the tag of an id that this party does not hold")
    if len(set(rows)) != len(rows):
        raise RemoteProtocolError(f"{leader} sent the same tag twice")
    return np.array(rows, np.int64)


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
        told = yield from _receive(other, "result digest", 32)
        if not hmac.compare_digest(told, mac(other, pair_key)):
            raise RemoteProtocolError(
                f"{setting.leader} told {other} and {setting.me} different results; "
                "the alignment is void, ask both to compare versions before another attempt"
            )


def _receive(sender: str, kind: str, size: int) -> Rounds[bytes]:
    """A message of exactly `size` bytes."""
    payload: bytes = yield Receive(sender, kind, at_most=size)
    if len(payload) != size:
        raise RemoteProtocolError(f"{sender} sent {len(payload)} bytes of {kind!r}, not {size}")
    return payload
