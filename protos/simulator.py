"""The driver for faults: all parties in one process, over lines that lose, repeat, delay, reorder and cut,
with parties that are killed at any round. Everything follows from one seed, in virtual time.

The parties talk through the same `Line` and `Inbox` as over gRPC, in a star: feature holders reach each
other through the hub. What a party saves survives its death; nothing else does.
"""

import heapq
import itertools
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, TypeAlias, TypeVar

from protos.line import Gap, Inbox, Line, chunks
from protos.party_pb2 import Frame
from protos.rounds import (
    ANY,
    Bind,
    PeerFailed,
    PeerTimeout,
    Progress,
    Receive,
    RemoteProtocolError,
    Resume,
    Rounds,
    Save,
    Send,
    Traffic,
)

T = TypeVar("T")
Factory: TypeAlias = Callable[[Resume | None], Rounds[T]]
"""Makes a party's protocol anew: from the beginning, or from a `Save` of its own."""

RESEND_AFTER = 0.5  # virtual seconds
SILENCE = 10.0
PROGRESS_TIMEOUT = 600.0
WINDOW = 64 << 10


@dataclass(frozen=True, slots=True)
class Faults:
    """What may go wrong. drop, duplicate: probabilities a frame. delay: most seconds a frame takes, drawn
    for each, so that frames overtake one another. cuts, kills: how many, at random moments.
    restarts: a killed party comes back (and all rewind); otherwise it stays dead.
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


class Hang(AssertionError):
    """Parties wait and nothing is under way, or virtual time ran out: never allowed."""


class _Party(Generic[T]):
    def __init__(self, name: str, factory: Factory[T], peers: list[str]) -> None:
        self.name, self.factory, self.peers = name, factory, peers
        self.saves: dict[int, bytes] = {}
        self.start(None)

    def start(self, resume: Resume | None) -> None:
        self.rounds: Rounds[T] = self.factory(resume)
        self.inboxes = {peer: Inbox(peer, at_most=1 << 26) for peer in self.peers}
        self.waiting: Receive | None = None
        self.waits = 0  # counts Receives, so that a timeout knows whether its wait is still on
        self.sending: Iterator[Callable[[], Frame]] | None = None
        self.phase = "handshake"
        self.traffic = Traffic(0, 0)
        self.broken: PeerFailed | None = None
        self.alive = True
        self.outcome: T | Exception | None = None
        self.ended = False


class Simulation(Generic[T]):
    """One run of all parties under the faults of one seed. `run` gives each party's result or error."""

    def __init__(self, parties: Mapping[str, Factory[T]], hub: str, seed: int, faults: Faults) -> None:
        self._draw = random.Random(seed)  # noqa: S311 - a simulation, not a key
        self._faults, self._hub = faults, hub
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._count = itertools.count()
        self._now = 0.0
        self._incarnation = 0
        self._kills = faults.kills
        self.refused = 0
        names = list(parties)
        self._parties = {
            name: _Party(name, make, [n for n in names if n != name]) for name, make in parties.items()
        }
        self._lay_lines()

    def run(self) -> dict[str, T | Exception]:
        """Raises Hang; whatever a protocol raises is its party's outcome."""
        for party in self._parties.values():
            self._soon(party, None)
        for _ in range(self._faults.cuts):
            self._at(self._draw.expovariate(1.0), self._cut)
        while not all(party.ended for party in self._parties.values()):
            if not self._events or self._now > 10 * PROGRESS_TIMEOUT:
                waiting = [(p.name, p.waiting) for p in self._parties.values() if not p.ended]
                raise Hang(f"at {self._now:.1f} s: {waiting}")
            self._now, _, event = heapq.heappop(self._events)
            event()
        return {name: party.outcome for name, party in self._parties.items()}  # type: ignore[misc]

    # Time

    def _at(self, after: float, event: Callable[[], None]) -> None:
        heapq.heappush(self._events, (self._now + after, next(self._count), event))

    def _soon(self, party: _Party[T], value: object) -> None:
        """Go on with a party after some computing; dropped if it was restarted meanwhile."""
        rounds = party.rounds
        self._at(
            self._draw.random() * 0.01, lambda: self._go(party, value) if party.rounds is rounds else None
        )

    # Lines

    def _lay_lines(self) -> None:
        self._lines: dict[tuple[str, str], Line] = {}
        self._down: set[frozenset[str]] = set()
        for name in self._parties:
            if name != self._hub:
                for ends in ((name, self._hub), (self._hub, name)):
                    self._lines[ends] = Line(incarnation=self._incarnation)
                    self._at(RESEND_AFTER, partial(self._resend, *ends, self._lines[ends]))

    def _put(self, source: str, target: str, frame: Frame) -> None:
        """A frame leaves `source` on the line to its neighbour `target`."""
        wire = frame.SerializeToString()
        copies = 1 + (self._draw.random() < self._faults.duplicate)
        if self._draw.random() < self._faults.drop or frozenset((source, target)) in self._down:
            copies = 0
        for _ in range(copies):
            self._at(self._draw.random() * self._faults.delay, lambda: self._arrive(source, target, wire))

    def _arrive(self, source: str, target: str, wire: bytes) -> None:
        line = self._lines[target, source]
        frame = Frame.FromString(wire)
        if not self._parties[target].alive or frozenset((source, target)) in self._down:
            return
        try:
            fresh = line.accept(frame)
        except Gap:
            return
        except RemoteProtocolError as error:
            if frame.incarnation == self._incarnation:
                self._fail(self._parties[target], error)
            self.refused += 1
            return
        if fresh:
            self._put(target, source, line.heartbeat(target, source))
            if frame.receiver == target:
                self._deliver(self._parties[target], frame)
            else:
                onward = self._lines[target, frame.receiver]
                post = onward.post(
                    frame.sender, frame.receiver, frame.kind, frame.chunk, frame.last, frame.payload
                )
                self._put(target, frame.receiver, post)
        self._pump(self._parties[target])

    def _resend(self, source: str, target: str, line: Line) -> None:
        if self._lines[source, target] is line:
            if self._parties[source].alive:
                for frame in line.resend():
                    self._put(source, target, frame)
                self._put(source, target, line.heartbeat(source, target))
            self._at(RESEND_AFTER, partial(self._resend, source, target, line))

    def _cut(self) -> None:
        ends = frozenset(self._draw.choice(list(self._lines)))
        self._down.add(ends)
        self._at(self._draw.random() * 5, lambda: self._down.discard(ends))

    # Parties

    def _deliver(self, party: _Party[T], frame: Frame) -> None:
        party.traffic = Traffic(party.traffic.sent, party.traffic.received + len(frame.payload))
        if party.ended:
            return
        try:
            party.inboxes[frame.sender].put(frame)
        except RemoteProtocolError as error:
            self._fail(party, error)
            return
        if party.waiting:
            self._look(party)

    def _look(self, party: _Party[T]) -> None:
        """Answer the pending Receive if its message is here; if not, and a peer is gone, fail."""
        want = party.waiting
        if want is None:
            return
        senders = [want.sender] if want.sender != ANY else party.peers
        self._draw.shuffle(senders)
        try:
            for sender in senders:
                payload = party.inboxes[sender].take(want.kind, want.at_most)
                if payload is not None:
                    party.waiting = None
                    self._soon(party, (sender, payload) if want.sender == ANY else payload)
                    return
        except RemoteProtocolError as error:
            self._fail(party, error)
            return
        if party.broken:
            self._fail(party, party.broken)

    def _pump(self, party: _Party[T]) -> None:
        """Send on what the window held back; once all is out, the Send is answered."""
        while party.sending is not None:
            line_to = self._hub if party.name != self._hub else None
            lines = [line for (a, b), line in self._lines.items() if a == party.name]
            if any(line.unacknowledged_bytes > WINDOW for line in lines):
                return
            post = next(party.sending, None)
            if post is None:
                party.sending = None
                self._soon(party, None)
                return
            frame = post()
            party.traffic = Traffic(party.traffic.sent + len(frame.payload), party.traffic.received)
            self._put(party.name, line_to or frame.receiver, frame)

    def _posts(self, party: _Party[T], send: Send) -> Iterator[Callable[[], Frame]]:
        line = self._lines[party.name, self._hub if party.name != self._hub else send.to]
        for index, (chunk, last) in enumerate(chunks(send.payload, self._faults.chunk)):
            yield partial(line.post, party.name, send.to, send.kind, index, last, chunk)

    def _go(self, party: _Party[T], value: Any) -> None:
        if self._kills and self._draw.random() < 0.01:
            self._kills -= 1
            self._kill(party)
            return
        try:
            word = party.rounds.send(value)
        except StopIteration as stop:
            if any(party.inboxes.values()):
                self._end(party, RemoteProtocolError("messages after the end"))
            else:
                self._end(party, stop.value)
            return
        except Exception as error:
            self._end(party, error)
            return
        match word:
            case Send():
                party.sending = self._posts(party, word)
                self._pump(party)
            case Receive():
                party.waiting = word
                party.waits += 1
                late = partial(self._late, party, party.rounds, party.waits)
                self._at(word.within or PROGRESS_TIMEOUT, late)
                self._look(party)
            case Save(step, state):
                party.saves[step] = state()
                self._soon(party, None)
            case Progress(phase=phase):
                party.phase = phase
                self._soon(party, party.traffic)
            case Bind(run):
                try:
                    for (end, _), line in self._lines.items():
                        if end == party.name:
                            line.bind(run)
                except RemoteProtocolError as error:
                    self._fail(party, error)
                else:
                    self._soon(party, None)

    def _late(self, party: _Party[T], rounds: Rounds[T], wait: int) -> None:
        if party.waiting and party.rounds is rounds and party.waits == wait:
            self._fail(party, PeerTimeout(party.waiting.sender, party.phase, "it does not get on"))

    def _fail(self, party: _Party[T], error: Exception) -> None:
        """Throw an error into a waiting protocol."""
        if party.ended:
            return
        party.waiting = party.sending = None
        try:
            party.rounds.throw(error)
        except Exception as raised:
            self._end(party, raised)
        else:
            self._end(party, AssertionError(f"{party.name} went on after {error!r}"))

    def _end(self, party: _Party[T], outcome: Any) -> None:
        party.ended, party.outcome = True, outcome
        party.rounds.close()
        if isinstance(outcome, Exception):
            self._tell(party, "it stopped with an error")

    def _tell(self, gone: _Party[T], reason: str) -> None:
        for other in self._parties.values():
            if other is not gone and not other.ended:
                failed = PeerFailed(gone.name, other.phase, reason)
                self._at(self._draw.random() * SILENCE, partial(self._break, other, other.rounds, failed))

    def _break(self, party: _Party[T], rounds: Rounds[T], failed: PeerFailed) -> None:
        if party.rounds is not rounds or party.ended:
            return
        party.broken = party.broken or failed
        if party.sending is not None:
            self._fail(party, failed)
        else:
            self._look(party)

    def _kill(self, party: _Party[T]) -> None:
        party.alive = False
        party.rounds.close()
        party.waiting = party.sending = None
        if self._faults.restarts:
            self._at(self._draw.random() * SILENCE, partial(self._restart, self._incarnation))
        else:
            self._end(party, PeerFailed(party.name, party.phase, "killed"))

    def _restart(self, incarnation: int) -> None:
        """Everyone goes back to the newest step that all have saved; old frames are still on their way."""
        if incarnation != self._incarnation:
            return
        self._incarnation += 1
        self._lay_lines()
        common = set.intersection(*(set(party.saves) for party in self._parties.values()))
        for party in self._parties.values():
            party.rounds.close()
            party.start(Resume(max(common), party.saves[max(common)]) if common else None)
            self._soon(party, None)
