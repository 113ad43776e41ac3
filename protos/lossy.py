"""Paths that lose, repeat, delay, reorder and cut, in virtual time: what the simulator's frames travel on.

The paths form a star, as over gRPC: feature holders reach each other through the hub, which relays.
"""

import heapq
import itertools
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial


@dataclass(frozen=True, slots=True)
class Faults:
    """What may go wrong. drop, duplicate: probabilities a frame. delay: most seconds a frame takes, drawn
    for each, so that frames overtake one another. cuts: how many, each at a random moment and for at most
    `cut` seconds. freezes: how many parties stop for as long, as by SIGSTOP, and then go on. slow: how many
    times longer computing takes. kills: how many, each at one of the first `words` words. restarts: a killed
    party comes back, after at most `absence` seconds, otherwise it stays dead. chunk: bytes a frame.
    """

    drop: float = 0.0
    duplicate: float = 0.0
    delay: float = 0.01
    cuts: int = 0
    cut: float = 5.0
    freezes: int = 0
    slow: float = 1.0
    kills: int = 0
    words: int = 100
    restarts: bool = True
    absence: float = 10.0
    chunk: int = 4096

    @classmethod
    def drawn(cls, seed: int, words: int = 100) -> "Faults":
        """A mixture for one seed: most have a little of everything, some are calm.

        No cut, stop or absence outlasts the link's patience: those that do are for tests of their own.
        """
        draw = random.Random(seed)  # noqa: S311 - a simulation, not a key
        return cls(
            drop=draw.choice([0.0, 0.0, 0.02, 0.2]),
            duplicate=draw.choice([0.0, 0.02, 0.3]),
            delay=draw.choice([0.001, 0.05, 2.0]),
            cuts=draw.choice([0, 0, 1, 3]),
            cut=draw.choice([5.0, 20.0]),
            freezes=draw.choice([0, 0, 0, 1]),
            slow=draw.choice([1.0, 1.0, 10.0]),
            kills=draw.choice([0, 0, 1, 2]),
            words=words,
            restarts=draw.random() < 0.7,
            absence=draw.choice([1.0, 10.0, 20.0]),
            chunk=draw.choice([64, 1000, 1 << 19]),
        )


class Clock:
    """Virtual time: events in order of their moment, and of their planning where moments are equal."""

    def __init__(self) -> None:
        self.now = 0.0
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._count = itertools.count()

    def after(self, seconds: float, event: Callable[[], None]) -> None:
        heapq.heappush(self._events, (self.now + seconds, next(self._count), event))

    def step(self) -> bool:
        """Let the next event happen; False if there is none."""
        if not self._events:
            return False
        self.now, _, event = heapq.heappop(self._events)
        event()
        return True


class Lossy:
    """The paths between a hub and its feature holders.

    broken: called with the two ends of a path that is cut, and whether they see it at once.
    """

    def __init__(
        self,
        hub: str,
        spokes: Iterable[str],
        faults: Faults,
        draw: random.Random,
        clock: Clock,
        broken: Callable[[str, str, bool], None],
    ) -> None:
        self._hub, self._spokes, self._faults = hub, list(spokes), faults
        self._draw, self._clock, self._broken = draw, clock, broken
        self._down = dict.fromkeys(self._spokes, 0.0)  # until when
        for _ in range(faults.cuts):
            spoke, seconds = draw.choice(self._spokes), draw.random() * faults.cut
            clock.after(draw.expovariate(0.3), partial(self.cut, spoke, seconds))

    def is_up(self, one: str, other: str) -> bool:
        return self._down[other if one == self._hub else one] <= self._clock.now

    def cut(self, spoke: str, seconds: float) -> None:
        """Frames on their way are lost; the ends may see at once that the stream has ended, or not."""
        self._down[spoke] = max(self._down[spoke], self._clock.now + seconds)
        self._broken(self._hub, spoke, self._draw.random() < 0.5)

    def delay(self) -> float:
        return self._draw.random() * self._faults.delay

    def carry(self, source: str, target: str, arrive: Callable[[], None]) -> None:
        """A frame leaves `source` for its neighbour: `arrive` is called as often as it comes there."""
        copies = 1 + (self._draw.random() < self._faults.duplicate)
        if self._draw.random() < self._faults.drop or not self.is_up(source, target):
            return
        for _ in range(copies):
            self._clock.after(self.delay(), lambda: arrive() if self.is_up(source, target) else None)
