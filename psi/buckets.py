"""Large sets: the alignment bucket by bucket, so that memory is bounded and what is finished can be kept.

Each party parts its ids by their digests, which are keyed hashes common to all, and fills each bucket with
random digests to one size: that size follows from the number of ids it announced, so the buckets tell
nothing more. The buckets are aligned one after the other, each with keys of its own. `docs/psi.md` has the
bound on the load and what a restart may and may not reuse.
"""

from __future__ import annotations

import math
from collections.abc import Generator
from dataclasses import replace
from functools import partial
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from protos.rounds import (
    LocalProtocolError,
    Progress,
    Receive,
    RemoteProtocolError,
    Resume,
    Round,
    Rounds,
    Save,
    Send,
    mapped,
)
from psi import kdf, sizes
from psi.ids import IdError
from psi.interface import Psi, Setting

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Bytes = NDArray[np.uint8]
    Rows = NDArray[np.int64]

LARGEST: Final = 1 << 20
"""Ids of a bucket, its filling included."""

STATISTICAL: Final = 40
RUN: Final = 32
COUNT: Final = 8


class Finished(NamedTuple):
    """The leading buckets that are done: what `Save` hands out, and what a restart brings back. No keys.

    of: which alignment of which ids this is (`identity`); it stays within the party. runs: the id under which
    each bucket was aligned; rows: what came of it, as rows of the whole set of digests.
    """

    of: bytes
    runs: tuple[bytes, ...] = ()
    rows: tuple[Rows, ...] = ()

    def first(self, count: int) -> Finished:
        return Finished(self.of, self.runs[:count], self.rows[:count])

    def to_bytes(self) -> bytes:
        parts = [
            run + len(rows).to_bytes(COUNT, "little") + rows.astype("<i8").tobytes()
            for run, rows in zip(self.runs, self.rows, strict=True)
        ]
        return self.of + b"".join(parts)

    @classmethod
    def from_bytes(cls, state: bytes) -> Finished:
        """Of `to_bytes`; the rest is not looked at."""
        import numpy as np

        runs, rows, at = [], [], RUN
        while at < len(state):
            runs.append(state[at : at + RUN])
            count = int.from_bytes(state[at + RUN : at + RUN + COUNT], "little")
            rows.append(np.frombuffer(state, "<i8", count, at + RUN + COUNT).astype(np.int64))
            at += RUN + COUNT + 8 * count
        return cls(state[:RUN], tuple(runs), tuple(rows))


def count(largest: int) -> int:
    """How many buckets hold a set of so many ids, filling included, with at most 2^20 in each."""
    buckets = max(-(-largest // LARGEST), 1)
    while padded(largest, buckets) > LARGEST:
        buckets += 1
    return buckets


def padded(ids: int, buckets: int) -> int:
    """The size to which each bucket of a set of `ids` is filled; `ids` itself where there is one bucket.

    Of ids thrown into buckets at random, the fullest holds more with probability below 2^-40: Chernoff's
    bound P(load >= k) <= exp(-ids * D(k / ids || 1 / buckets)), D the relative entropy, times the buckets.
    """
    if buckets == 1:
        return ids
    wanted, even = (STATISTICAL + math.log2(buckets)) * math.log(2), 1 / buckets

    def enough(load: int) -> bool:
        part = load / ids
        rest = (1 - part) * math.log((1 - part) / (1 - even)) if load < ids else 0.0
        return ids * (part * math.log(part / even) + rest) >= wanted

    low, high = math.ceil(ids * even), ids  # the bound grows from 0 at an even share
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle + 1, high)
    return high


def identity(protocol: str, digests: Bytes, buckets: int, size: int) -> bytes:
    """32 bytes that tell this alignment of these ids from any other of this party's."""
    asked = f"{protocol} {buckets} {size}".encode()
    import numpy as np

    whole = np.ascontiguousarray(digests).reshape(-1).data
    return blake2b(whole, digest_size=RUN, key=kdf.key(b"", "alignment", asked)).digest()


def align(
    protocol: Psi,
    setting: Setting,
    digests: Bytes,
    buckets: int,
    padded_to: int | None = None,
    resume: Resume | None = None,
) -> Rounds[Rows]:
    """`Psi.align` in so many buckets, the same number at every party: the common rows, bucket by bucket.

    setting.run: fresh in each attempt. padded_to: hide the size of the set; random digests fill it up to
    this number, the same at all parties. resume: this party's last `Save`, if any: finished buckets that all
    parties still have from the same attempt are not done again; every other one is, with everything fresh.
    One bucket: the bare protocol, and no Save. Otherwise a Save after each bucket, its step their number.
    Raises what the protocol raises.
    """
    import numpy as np

    if padded_to is not None and len(digests) > padded_to:
        raise IdError(f"{len(digests)} ids here, and sets are padded to {padded_to}; bring fewer")
    size = padded(len(digests) if padded_to is None else padded_to, buckets)
    place = (digests.view("<u8")[:, 1] % np.uint64(buckets)).astype(np.uint16)
    most = min(LARGEST, padded(setting.at_most, buckets))
    filled = {name: padded(announced, buckets) for name, announced in setting.sizes.items()}
    done = Finished(b"")
    if buckets > 1:
        done = _own(identity(protocol.name, digests, buckets, size), resume)
        done = done.first((yield from _agreed(setting, done.runs, buckets)))
    for bucket in range(len(done.runs), buckets):
        own = np.flatnonzero(place == bucket)
        if len(own) > size:
            raise LocalProtocolError(f"{len(own)} ids in a bucket of {size}: their digests are not at random")
        filling = np.frombuffer(setting.random(16 * (size - len(own))), np.uint8).reshape(-1, 16)
        run = kdf.key(setting.run, "bucket", bucket.to_bytes(4, "big"))
        aligning = protocol.align(
            replace(setting, run=run, at_most=most, sizes=filled), np.concatenate((digests[own], filling))
        )
        rows = yield from _one_of(aligning, bucket, buckets, size)
        if rows.max(initial=-1) >= len(own):
            raise RemoteProtocolError("a peer claims to hold what only filled up this party's set; void")
        done = Finished(done.of, (*done.runs, run), (*done.rows, own[rows]))
        if buckets > 1:
            yield Save(bucket + 1, partial(Finished.to_bytes, done))
    return np.concatenate(done.rows)


def _own(of: bytes, resume: Resume | None) -> Finished:
    kept = Finished(of) if resume is None else Finished.from_bytes(resume.state)
    return kept if kept.of == of else Finished(of)


def _agreed(setting: Setting, runs: tuple[bytes, ...], buckets: int) -> Rounds[int]:
    """How many leading buckets every party has finished in one and the same attempt.

    A bucket's run id names the attempt: of one that was done twice, no party may keep the earlier result.
    """
    if setting.me != setting.leader:
        theirs: bytes = yield Receive(setting.leader, "finished buckets", at_most=RUN * buckets)
        alike = 0
        while alike < len(runs) and runs[alike] == theirs[RUN * alike : RUN * (alike + 1)]:
            alike += 1
        yield Send(setting.leader, "kept buckets", alike.to_bytes(COUNT, "big"))
        start = yield from _at_most(setting.leader, "first bucket", alike)
        return start
    for client in setting.clients:
        yield Send(client, "finished buckets", b"".join(runs))
    start = len(runs)
    for client in setting.clients:
        start = min(start, (yield from _at_most(client, "kept buckets", len(runs))))
    for client in setting.clients:
        yield Send(client, "first bucket", start.to_bytes(COUNT, "big"))
    return start


def _at_most(sender: str, kind: str, most: int) -> Rounds[int]:
    told = int.from_bytes((yield from sizes.receive(sender, kind, COUNT)), "big")
    if told > most:
        raise RemoteProtocolError(f"{sender} says {told} as {kind!r}, where {most} are the most")
    return told


def _one_of(rounds: Rounds[Rows], bucket: int, buckets: int, size: int) -> Rounds[Rows]:
    """The rounds of one bucket, with their progress told as part of all: so that its end is foreseen."""

    def each(word: Round) -> Generator[Round, Any, Any]:
        if isinstance(word, Progress) and word.total and buckets > 1:
            done = bucket * size + size * word.done // word.total
            word = Progress(word.phase, done, buckets * size)
        return (yield word)

    return mapped(rounds, each)
