"""What an alignment will cost, before anybody pays: choosing a protocol; seconds and bytes in advance."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from protos.rounds import ANY, Receive, Rounds, Send
from psi.interface import Psi, Setting
from psi.registry import UnknownProtocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Alignments = Mapping[str, Rounds[NDArray[np.int64]]]

SMALLEST: Final = 1 << 10
LARGEST: Final = 1 << 18
ENOUGH: Final = 0.5
"""Seconds of a trial after which no larger one is made."""


def choose(counts: Sequence[int], protocols: Mapping[str, Psi]) -> str:
    """The protocol for `protocol = "auto"`: of those that fit, the one with the fewest bytes on all wires.

    counts: ids that each party announced, the leader's first. protocols: those installed at every party,
    by name. A pure function of what all parties know, so that each can verify the choice; which is why it
    weighs bytes (`Psi.traffic`, the smallest set taken as common to all), and not a time that every
    machine would measure differently. A protocol that is not `secure` is never chosen; maturity is not
    weighed. Equal bytes: the first name. Raises UnknownProtocol where none fits.
    """
    fit = {
        name: psi.traffic(counts, min(counts))
        for name, psi in protocols.items()
        if psi.secure and len(counts) in psi.parties
    }
    if not fit:
        raise UnknownProtocol(
            f"no protocol fits: none that all {len(counts)} parties have installed "
            f"({', '.join(sorted(protocols)) or 'none'}) is secure and takes so many parties"
        )
    return min(fit, key=lambda name: (fit[name], name))


@dataclass(frozen=True, slots=True)
class Calibration:
    """What a protocol takes on this machine, apart from any network.

    seconds: fixed and an id of each party, along the longest chain of work in which one party waits for
    another. hops: messages in the longest chain of messages. share: of all bytes, those that pass the busiest
    party in its busier direction. sizes: ids a party in the two trials.
    """

    fixed: float
    per_id: float
    hops: int
    share: float
    sizes: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Estimate:
    """One alignment: seconds = computing + transfer + waiting; bytes on all wires; in how many buckets."""

    computing: float
    transfer: float
    waiting: float
    bytes: int
    buckets: int

    @property
    def seconds(self) -> float:
        return self.computing + self.transfer + self.waiting


def estimate(
    psi: Psi, ids: int, parties: int, bandwidth: float, rtt: float, calibration: Calibration
) -> Estimate:
    """For parties with so many ids each, on machines like this one, if all ids are common (the most bytes).

    bandwidth: bytes a second that each party sends, and receives. rtt: seconds, between any two. Nothing
    is taken to overlap; a protocol that computes while it sends takes less.
    """
    from psi import buckets

    count = buckets.count(ids)
    size = buckets.padded(ids, count)
    each = psi.traffic([size] * parties, -(-ids // count))
    return Estimate(
        computing=count * (calibration.fixed + calibration.per_id * size),
        transfer=count * each * calibration.share / bandwidth,
        waiting=count * calibration.hops * rtt / 2,
        bytes=count * each,
        buckets=count,
    )


def calibrate(
    psi: Psi, parties: int, drive: Callable[[Alignments], object], timer: Callable[[], float]
) -> Calibration:
    """Run the protocol itself at two sizes that take about half a second, after one for nothing.

    drive: runs all parties in this process, such as `protos.memory.together`; one at a time, so that each
    has the machine to itself. timer: seconds, such as `time.perf_counter`.
    """
    _trial(psi, parties, SMALLEST // 4, drive, timer)  # code is loaded, or compiled
    size, before = SMALLEST, _trial(psi, parties, SMALLEST, drive, timer)
    while True:
        size *= 4
        clocks = _trial(psi, parties, size, drive, timer)
        if clocks.longest >= ENOUGH or size == LARGEST:
            break
        before = clocks
    per_id = max(clocks.longest - before.longest, 0.0) / (size - size // 4)
    passing = max(max(clocks.sent.values()), max(clocks.received.values()))
    return Calibration(
        fixed=max(before.longest - per_id * (size // 4), 0.0),
        per_id=per_id,
        hops=max(clocks.hops.values()),
        share=passing / sum(clocks.sent.values()),
        sizes=(size // 4, size),
    )


@dataclass
class Clocks:
    """Every party's own time: it passes while the party computes, and jumps to a message's when it waits."""

    now: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    hops: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    sent: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    received: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    under_way: dict[tuple[str, str], deque[tuple[float, int]]] = field(
        default_factory=lambda: defaultdict(deque)
    )

    @property
    def longest(self) -> float:
        return max(self.now.values())

    def follow(self, rounds: Rounds[Any], me: str, timer: Callable[[], float]) -> Rounds[Any]:
        """The same party, with its time and bytes kept here."""
        answer: Any = None
        while True:
            began = timer()
            try:
                word = rounds.send(answer)
                if isinstance(word, Send):
                    payload = word.payload if isinstance(word.payload, bytes) else b"".join(word.payload)
                    word = Send(word.to, word.kind, payload)
            except StopIteration as stop:
                return stop.value
            finally:
                self.now[me] += timer() - began
            if isinstance(word, Send):
                self.sent[me] += len(payload)
                self.under_way[me, word.to].append((self.now[me], self.hops[me] + 1))
            answer = yield word
            if isinstance(word, Receive):
                sender, payload = answer if word.sender == ANY else (word.sender, answer)
                self.received[me] += len(payload)
                sent_at, hops = self.under_way[sender, me].popleft()
                self.now[me], self.hops[me] = max(self.now[me], sent_at), max(self.hops[me], hops)


def _trial(
    psi: Psi, parties: int, ids: int, drive: Callable[[Alignments], object], timer: Callable[[], float]
) -> Clocks:
    """Align so many ids a party, half of them common."""
    import numpy as np

    names, clocks = tuple(f"party {i}" for i in range(parties)), Clocks()
    drawn = np.random.default_rng(ids)
    common = drawn.integers(0, 256, (ids // 2, 16), np.uint8)
    made = {}
    for me in names:
        own = np.concatenate((common, drawn.integers(0, 256, (ids - ids // 2, 16), np.uint8)))
        rounds = psi.align(Setting(me, names, bytes(32), at_most=ids), own)
        made[me] = clocks.follow(rounds, me, timer)
    drive(made)
    return clocks
