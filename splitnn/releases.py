"""How often a feature holder's activation of one row leaves it: what an account of noise is multiplied by.

What is done again after a break, to the bit as before, is no further release: it has the noise that it had.
By other weights, as after other gradients, it has noise of its own (`splitnn.embedding_dp`) and counts again.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from typing import NamedTuple

from torch import Tensor

from splitnn.importance import REPEATS
from splitnn.plan import Plan
from splitnn.schedule import EVALUATION_ROWS, Split, steps_an_epoch
from splitnn.stopping import is_judged

KINDS = ("activation", "validation", "test", "importance")
"""Of the messages that hold activations, in the order of `Times`."""


class Times(NamedTuple):
    """How often all rows of a part left. columns: all groups' permutations of the test part."""

    train: int = 0
    validation: int = 0
    test: int = 0
    columns: int = 0


class Release(NamedTuple):
    """One message. turn: which epoch's, 0 in the end; place: its number in the turn, so which rows it holds.
    noise: names what was drawn for it; empty where nothing is drawn."""

    kind: str
    turn: int
    place: int
    noise: bytes


def planned(plan: Plan, rows: Split, epochs: int | None = None) -> Times:
    """In a run of so many epochs; None: of the most that the plan allows."""
    epochs = plan.epochs if epochs is None else epochs
    judged = sum(is_judged(plan, rows, epoch) for epoch in range(1, epochs + 1))
    return Times(epochs, judged, 1, int(plan.importance == "columns"))


def releases(rows: Split, times: Times, groups: int = 0) -> int:
    """Of the row that leaves most often; every row is in one part.

    rows: places in this party's features. Where several examples point at one, it leaves as often.
    groups: of this party's columns, that are measured: each permutation sends a row's other columns, and the
    group's in another row's place.
    """
    shuffled = 2 * REPEATS * groups * times.columns
    often = (times.train, times.validation, times.test + shuffled)
    return max(each * _most(part) for each, part in zip(often, rows, strict=True))


class Released:
    """What a run has released so far, over all attempts at it.

    resumed: the epoch after which this attempt goes on. before: what earlier ones released; None where nobody
    noted it: then each turn up to there is taken to have left once. keep: told of each release before it
    leaves. lost: how often a row left beside all that.
    """

    def __init__(
        self,
        plan: Plan,
        rows: Split,
        resumed: int = 0,
        before: Iterable[Release] | None = None,
        keep: Callable[[Release], None] = lambda release: None,
        lost: int = 0,
    ) -> None:
        self.lost, self._planned, self._resumed, self._keep = lost, planned(plan, rows), resumed, keep
        self._steps = steps_an_epoch(len(rows.train), plan.batch)
        self._chunks = steps_an_epoch(len(rows.validation), EVALUATION_ROWS)
        self._judged = [epoch for epoch in range(1, plan.epochs + 1) if is_judged(plan, rows, epoch)]
        self._sent = Counter[str]()
        self._noise = b""
        self._noises: defaultdict[tuple[str, int], set[bytes]] = defaultdict(set)
        self._left: defaultdict[tuple[str, int], list[int]] = defaultdict(list)
        """By kind and turn: how often each message left, by its place."""
        if before is None:
            for epoch in range(1, resumed + 1):
                self._count(Release("activation", epoch, 0, b""))
                if epoch in self._judged:
                    self._count(Release("validation", epoch, 0, b""))
        for release in before or ():
            self._count(release)

    def draw(self, noise: bytes) -> None:
        """It was drawn for the message that leaves next."""
        self._noise = noise

    def next(self, kind: str) -> Release | None:
        """A message of that kind is to leave. None for one that has left before, or holds no activation."""
        if kind not in KINDS:
            return None
        number = self._sent[kind]
        self._sent[kind] += 1
        noise, self._noise = self._noise, b""
        turn, place = 0, number
        if kind == "activation":
            turn, place = divmod(number, self._steps)
            turn += self._resumed + 1
        elif kind == "validation":
            turn, place = divmod(number, self._chunks)
            turn = [epoch for epoch in self._judged if epoch > self._resumed][turn]
        return None if noise in self._noises[kind, turn] else Release(kind, turn, place, noise)

    def is_again(self, release: Release) -> bool:
        """Did the same rows leave in that turn before?"""
        return any(self._left[release.kind, release.turn][release.place : release.place + 1])

    def add(self, release: Release) -> None:
        self._keep(release)
        self._count(release)

    def left(self) -> Times:
        """Of a row that was, in each turn, in the message that left most often."""
        by_kind = Counter[str]()
        for (kind, _), times in self._left.items():
            by_kind[kind] += max(times, default=0)
        return Times(*(by_kind[kind] for kind in KINDS))

    def most(self, further: Release | None = None) -> Times:
        """What the plan allows, and what left beyond it. further: with this one, which is again."""
        beyond = Counter[str]()
        for (kind, turn), times in self._left.items():
            beyond[kind] += max(0, max(times, default=0) - 1)
            if further is not None and further[:2] == (kind, turn):
                beyond[kind] += times[further.place] == max(times)
        return Times(*(n + beyond[kind] for n, kind in zip(self._planned, KINDS, strict=True)))

    def _count(self, release: Release) -> None:
        times = self._left[release.kind, release.turn]
        times += [0] * (release.place + 1 - len(times))
        times[release.place] += 1
        if release.noise:
            self._noises[release.kind, release.turn].add(release.noise)


def _most(part: Tensor) -> int:
    """How often the commonest place is there."""
    return int(part.bincount().max()) if len(part) else 0
