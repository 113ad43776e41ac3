"""Lines that lose, repeat, delay, reorder and cut, in virtual time: what the simulator's parties talk over.

The lines form a star, as over gRPC: feature holders reach each other through the hub, which relays.
"""

import heapq
import itertools
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

from protos.line import Gap, Line
from protos.party_pb2 import Frame
from protos.rounds import RemoteProtocolError

RESEND_AFTER = 0.5  # virtual seconds


@dataclass(frozen=True, slots=True)
class Faults:
    """What may go wrong. drop, duplicate: probabilities a frame. delay: most seconds a frame takes, drawn
    for each, so that frames overtake one another. cuts, kills: how many, at random moments.
    restarts: a killed party comes back (and all rewind); otherwise it stays dead. chunk: bytes a frame.
    """

    drop: float = 0.0
    duplicate: float = 0.0
    delay: float = 0.01
    cuts: int = 0
    kills: int = 0
    restarts: bool = True
    chunk: int = 4096

    @classmethod
    def drawn(cls, seed: int) -> "Faults":
        """A mixture for one seed: most have a little of everything, some are calm."""
        draw = random.Random(seed)  # noqa: S311 - a simulation, not a key
        return cls(
            drop=draw.choice([0.0, 0.0, 0.02, 0.2]),
            duplicate=draw.choice([0.0, 0.02, 0.3]),
            delay=draw.choice([0.001, 0.05, 2.0]),
            cuts=draw.choice([0, 0, 1, 3]),
            kills=draw.choice([0, 0, 1, 2]),
            restarts=draw.random() < 0.7,
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
    """The lines between a hub and its feature holders, both ends of each.

    deliver: called with each frame that has arrived, once and in order, and its receiver. refuse: called
    with the party at whose end a frame broke the protocol. moved: a party's lines may have room again.
    """

    def __init__(
        self,
        hub: str,
        spokes: Iterable[str],
        faults: Faults,
        draw: random.Random,
        clock: Clock,
        deliver: Callable[[str, Frame], None],
        refuse: Callable[[str, RemoteProtocolError], None],
        moved: Callable[[str], None],
    ) -> None:
        self._hub, self._spokes, self._faults = hub, list(spokes), faults
        self._draw, self._clock = draw, clock
        self._deliver, self._refuse, self._moved = deliver, refuse, moved
        self._dead: set[str] = set()
        self._incarnation = -1
        self.refused = 0
        self.renew()
        for _ in range(faults.cuts):
            clock.after(draw.expovariate(1.0), self._cut)

    def renew(self) -> None:
        """All parties start again: fresh lines, with the old ones' frames still on their way."""
        self._incarnation += 1
        self._dead.clear()
        self._down: set[frozenset[str]] = set()
        self._lines: dict[tuple[str, str], Line] = {}
        for name in self._spokes:
            for source, target in ((name, self._hub), (self._hub, name)):
                line = self._lines[source, target] = Line(incarnation=self._incarnation)
                self._clock.after(RESEND_AFTER, partial(self._resend, source, target, line))

    def die(self, party: str) -> None:
        """It sends and takes nothing until all start again."""
        self._dead.add(party)

    def bind(self, party: str, run: bytes) -> None:
        for (end, _), line in self._lines.items():
            if end == party:
                line.bind(run)

    def has_room(self, sender: str, receiver: str, window: int) -> bool:
        return self._lines[sender, self._neighbour(sender, receiver)].unacknowledged_bytes <= window

    def send(self, sender: str, receiver: str, kind: str, chunk: int, last: bool, payload: bytes) -> None:
        neighbour = self._neighbour(sender, receiver)
        frame = self._lines[sender, neighbour].post(sender, receiver, kind, chunk, last, payload)
        self._put(sender, neighbour, frame)

    def _neighbour(self, sender: str, receiver: str) -> str:
        return receiver if sender == self._hub else self._hub

    def _put(self, source: str, target: str, frame: Frame) -> None:
        """A frame leaves `source` on the line to its neighbour `target`."""
        wire = frame.SerializeToString()
        copies = 1 + (self._draw.random() < self._faults.duplicate)
        if self._draw.random() < self._faults.drop or frozenset((source, target)) in self._down:
            copies = 0
        for _ in range(copies):
            self._clock.after(
                self._draw.random() * self._faults.delay, lambda: self._arrive(source, target, wire)
            )

    def _arrive(self, source: str, target: str, wire: bytes) -> None:
        if target in self._dead or frozenset((source, target)) in self._down:
            return
        line, frame = self._lines[target, source], Frame.FromString(wire)
        try:
            fresh = line.accept(frame)
        except Gap:
            return
        except RemoteProtocolError as error:
            self.refused += 1
            if frame.incarnation == self._incarnation:
                self._refuse(target, error)
            return
        if fresh:
            self._put(target, source, line.heartbeat(target, source))
            if frame.receiver == target:
                self._deliver(target, frame)
            else:
                onward = (frame.kind, frame.chunk, frame.last, frame.payload)
                post = self._lines[target, frame.receiver].post(frame.sender, frame.receiver, *onward)
                self._put(target, frame.receiver, post)
        self._moved(target)

    def _resend(self, source: str, target: str, line: Line) -> None:
        if self._lines[source, target] is line:
            if source not in self._dead:
                for frame in [*line.resend(), line.heartbeat(source, target)]:
                    self._put(source, target, frame)
            self._clock.after(RESEND_AFTER, partial(self._resend, source, target, line))

    def _cut(self) -> None:
        ends = frozenset(self._draw.choice(list(self._lines)))
        self._down.add(ends)
        self._clock.after(self._draw.random() * 5, lambda: self._down.discard(ends))
