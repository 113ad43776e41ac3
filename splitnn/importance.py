"""The test rows, scored by the trained network, and permutation importance: what the scores depend on.

How much worse the rows are predicted when some numbers are those of other rows (Breiman 2001, "Random
Forests", section 10; Fisher, Rudin and Dominici 2019): one party's activations, which the label holder has
anyway, or one group of columns. Its owner shuffles such a group at home and sends the activations that come
of it, so no column leaves its party. `splitnn.importance_reference` is the same in one process.
"""

import itertools
import math
import statistics
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import torch
from torch import Tensor, nn

from protos.rounds import Progress, Receive, RemoteProtocolError, Rounds, Send
from splitnn.crossing import Crossing, activations
from splitnn.errors import TrainingError
from splitnn.evaluation import EXAMINED, be_scored, score, send_chunks
from splitnn.features import Features
from splitnn.party_dropout import WithAndWithout
from splitnn.plan import Plan
from splitnn.randomness import permutation
from splitnn.schedule import chunks
from splitnn.tasks import Objective

REPEATS: Final = 5
"""Permutations of each: their deviation says how far to trust the mean."""
MOST_GROUPS: Final = 1024
"""Of one party: each crosses REPEATS times, and tells its owner something of the test labels."""

_GROUPS, _DROP = struct.Struct("<H"), struct.Struct("<2f")


class Drop(NamedTuple):
    """How much worse, over REPEATS permutations, in the unit of `Objective.lost`; NaN where the shuffled rows
    cannot be judged: a score overflows, or the rows examined have one class."""

    mean: float
    deviation: float

    @classmethod
    def of(cls, lost: Sequence[float]) -> "Drop":
        if not all(map(math.isfinite, lost)):
            return cls(math.nan, math.nan)
        return cls(statistics.fmean(lost), statistics.stdev(lost))

    @classmethod
    def told(cls, payload: bytes) -> "Drop":
        """Raises ValueError for what `payload` does not write."""
        mean, deviation = _DROP.unpack(payload)
        possible = math.isfinite(mean) and math.isfinite(deviation) and deviation >= 0
        if not possible and not (math.isnan(mean) and math.isnan(deviation)):
            raise ValueError("is no mean and deviation")
        return cls(round(mean, 3), round(deviation, 3))

    @property
    def payload(self) -> bytes:
        """To a thousandth, at most a million: a party that sends what it likes in place of a shuffled column
        learns a few bits of the test labels by each answer, not fifty."""
        return _DROP.pack(*(min(round(value, 3), 1e6) for value in self))


@dataclass(frozen=True)
class Importance:
    """parties: of each, the label holder first. groups: of each party's groups, if the plan has columns."""

    parties: tuple[Drop, ...]
    groups: tuple[tuple[Drop, ...], ...] = ()


class Judge:
    """How much worse the top model does with other activations of one party than with the true ones.

    cut: of each party, the label holder's first, [n, cut]. labels, logits: of these rows, and more.
    """

    def __init__(
        self, objective: Objective, labels: Tensor, top: nn.Module, cut: Sequence[Tensor], logits: Tensor
    ) -> None:
        self.objective, self.labels, self.top, self.cut = objective, labels[:EXAMINED], top.eval(), cut
        self.before = self._worth(logits[:EXAMINED])

    def lost(self, party: int, activation: Tensor) -> float:
        cut = [*self.cut[:party], activation, *self.cut[party + 1 :]]
        parts = zip(*map(chunks, cut), strict=True)
        with torch.no_grad():
            logits = torch.cat([self.top(list(part)) for part in parts])
        return self.objective.lost(self.before, self._worth(logits))

    def parties(self, seed: bytes) -> tuple[Drop, ...]:
        """seed: the label holder's."""
        return tuple(
            Drop.of(
                [self.lost(party, rows[order(seed, f"party {party}", n, len(rows))]) for n in range(REPEATS)]
            )
            for party, rows in enumerate(self.cut)
        )

    def _worth(self, logits: Tensor) -> float:
        try:
            [worth] = self.objective.judged_by(self.labels, logits).values()
        except TrainingError:
            return math.nan  # the network is trained: this is no reason to lose it
        return worth


def order(seed: bytes, what: str, repeat: int, n: int) -> Tensor:
    """From which row each of n rows takes its numbers. seed: private, of the party that shuffles."""
    return permutation(seed, f"importance {what} {repeat}", n)


def shuffled(
    features: Features, part: Tensor, group: int, seed: bytes, repeat: int
) -> Iterator[tuple[Any, ...]]:
    """Chunks of these rows' columns, one group's being those of others of the rows."""
    rows = part[:EXAMINED]
    others = rows[order(seed, f"group {group}", repeat, len(rows))]
    return map(features.mixed, chunks(rows), chunks(others), itertools.repeat(group))


def activation_of(bottom: nn.Module, columns: Iterable[tuple[Any, ...]]) -> Tensor:
    """[n, cut], chunk by chunk as they would cross."""
    with torch.no_grad():
        return torch.cat([bottom(*chunk) for chunk in columns])


def examine(
    plan: Plan,
    crossings: Mapping[str, Crossing],
    bottom: nn.Module,
    top: nn.Module,
    features: Features,
    part: Tensor,
    labels: Tensor,
    objective: Objective,
    seed: bytes,
    number: int,
    kept: list[list[Tensor]] | None = None,
) -> Rounds[tuple[Tensor, Importance | None]]:
    """At the label holder: the test part's logits, as `WithAndWithout` has them, and what they depend on.

    labels: of these rows. number: of the first chunk's exchange. kept: gets the activations, as `score` says.
    Errors as of `splitnn.exact.label_holder`.
    """
    if kept is None and plan.importance != "none":
        kept = []
    views = WithAndWithout(top)
    yield Progress("evaluation", 0, 0)
    logits = yield from score(crossings, "test", bottom, views, features, part, number, kept=kept)
    if kept is None or plan.importance == "none":
        return logits, None
    bottom.eval()
    judge = Judge(objective, labels, top, [torch.cat(rows) for rows in zip(*kept, strict=True)], logits[0])
    parties = judge.parties(seed)
    if plan.importance == "parties":
        return logits, Importance(parties)
    counts = [len(features.groups)]
    for name in crossings:
        counts.append((yield from _hear_groups(name)))
    groups: list[list[Drop]] = [[] for _ in counts]
    for group in range(max(counts)):
        yield Progress("importance", group, max(counts))
        if group < counts[0]:
            moved = (shuffled(features, part, group, seed, repeat) for repeat in range(REPEATS))
            groups[0].append(Drop.of([judge.lost(0, activation_of(bottom, rows)) for rows in moved]))
        # One group of each in turn, so that nobody waits for all of another's.
        for party, (name, crossing) in enumerate(crossings.items(), 1):
            if group < counts[party]:
                first = first_exchange(number, part, group)
                groups[party].append((yield from _of_peer(judge, party, name, crossing, first)))
    return logits, Importance(parties, tuple(map(tuple, groups)))


def be_examined(
    plan: Plan,
    crossing: Crossing,
    hub: str,
    bottom: nn.Module,
    features: Features,
    part: Tensor,
    seed: bytes,
    number: int,
) -> Rounds[tuple[Drop, ...]]:
    """The feature holder's end of `examine`: of its own groups, to a thousandth; none if not agreed."""
    yield Progress("evaluation", 0, 0)
    yield from be_scored(crossing, hub, "test", bottom, features, part, number)
    if plan.importance != "columns":
        return ()
    count = len(features.groups)
    yield Send(hub, "groups", _GROUPS.pack(count))
    drops = []
    for group in range(count):
        yield Progress("importance", group, count)
        for repeat in range(REPEATS):
            rows = shuffled(features, part, group, seed, repeat)
            first = first_exchange(number, part, group, repeat)
            yield from send_chunks(crossing, hub, "importance", bottom, rows, first)
        payload = yield Receive(hub, "drop", at_most=_DROP.size)
        if len(payload) != _DROP.size:
            raise RemoteProtocolError(f"drop from {hub!r} has {len(payload)} bytes instead of {_DROP.size}")
        try:
            drops.append(Drop.told(payload))
        except ValueError as error:
            raise RemoteProtocolError(f"drop from {hub!r} {error}") from error
    return tuple(drops)


def _of_peer(judge: Judge, party: int, name: str, crossing: Crossing, number: int) -> Rounds[Drop]:
    """One group of a feature holder, which gets the answer. number: of the first chunk's exchange."""
    lost = []
    for _ in range(REPEATS):
        arrived = []
        for own in chunks(judge.cut[0]):
            _, (_, activation) = yield from activations({name: crossing}, "importance", own, number)
            arrived.append(activation.detach())
            yield Send(name, "scored", b"")
            number += 1
        lost.append(judge.lost(party, torch.cat(arrived)))
    drop = Drop.of(lost)
    yield Send(name, "drop", drop.payload)
    return drop


def _hear_groups(name: str) -> Rounds[int]:
    payload = yield Receive(name, "groups", at_most=_GROUPS.size)
    count = int.from_bytes(payload, "little")
    if len(payload) != _GROUPS.size or not 1 <= count <= MOST_GROUPS:
        raise RemoteProtocolError(f"groups from {name!r}: not a number from 1 to {MOST_GROUPS}")
    return count


def first_exchange(number: int, part: Tensor, group: int, repeat: int = 0) -> int:
    """Of a group's chunks; those of the test part itself have the numbers before, from `number` on."""
    tested, examined = (sum(1 for _ in chunks(rows)) for rows in (part, part[:EXAMINED]))
    return number + tested + (group * REPEATS + repeat) * examined
