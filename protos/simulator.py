"""The driver for faults: all parties in one process, over lines that lose (`protos.lossy`), with parties
that are killed at any round. Everything follows from one seed, in virtual time.

The parties talk through the same `Line` and `Inbox` as over gRPC. What a party saves survives its death;
nothing else does.
"""

import random
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, Generic, TypeAlias, TypeVar

from protos.line import Inbox, chunks
from protos.lossy import Clock, Faults, Lossy
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

__all__ = ["Factory", "Faults", "Hang", "Simulation"]

T = TypeVar("T")
Factory: TypeAlias = Callable[[Resume | None], Rounds[T]]
"""Makes a party's protocol anew: from the beginning, or from a `Save` of its own."""

KILL_CHANCE = 0.01  # at each word, until the kills are used up
SILENCE = 10.0  # virtual seconds until a death is noticed, at most
PROGRESS_TIMEOUT = 600.0
WINDOW = 64 << 10


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
        self.sending: tuple[Send, Iterator[tuple[int, tuple[bytes, bool]]]] | None = None
        self.phase = "handshake"
        self.traffic = Traffic(0, 0)
        self.broken: PeerFailed | None = None
        self.outcome: T | Exception | None = None
        self.ended = False


class Simulation(Generic[T]):
    """One run of all parties under the faults of one seed. `run` gives each party's result or error."""

    def __init__(self, parties: Mapping[str, Factory[T]], hub: str, seed: int, faults: Faults) -> None:
        self._draw = random.Random(seed)  # noqa: S311 - a simulation, not a key
        self._faults, self._kills, self._restarts = faults, faults.kills, 0
        self._clock = Clock()
        self._parties = {
            name: _Party(name, make, [n for n in parties if n != name]) for name, make in parties.items()
        }
        self._lines = Lossy(
            hub,
            (name for name in parties if name != hub),
            faults,
            self._draw,
            self._clock,
            deliver=self._deliver,
            refuse=lambda name, error: self._fail(self._parties[name], error),
            moved=lambda name: self._pump(self._parties[name]),
        )

    def run(self) -> dict[str, T | Exception]:
        """Raises Hang; whatever a protocol raises is its party's outcome."""
        for party in self._parties.values():
            self._soon(party, None)
        while not all(party.ended for party in self._parties.values()):
            if not self._clock.step() or self._clock.now > 10 * PROGRESS_TIMEOUT:
                waiting = [(p.name, p.waiting) for p in self._parties.values() if not p.ended]
                raise Hang(f"at {self._clock.now:.1f} s: {waiting}")
        return {name: party.outcome for name, party in self._parties.items()}  # type: ignore[misc]

    @property
    def refused(self) -> int:
        """Frames of an earlier incarnation that came late and were refused."""
        return self._lines.refused

    def _soon(self, party: _Party[T], value: object) -> None:
        """Go on with a party after some computing; dropped if it ended or was restarted meanwhile."""
        rounds = party.rounds

        def go() -> None:
            if party.rounds is rounds and not party.ended:
                self._go(party, value)

        self._clock.after(self._draw.random() * 0.01, go)

    def _go(self, party: _Party[T], value: Any) -> None:
        """One word of a party's protocol."""
        if self._kills and self._draw.random() < KILL_CHANCE:
            self._kills -= 1
            self._kill(party)
            return
        try:
            word = party.rounds.send(value)
        except StopIteration as stop:
            unread = any(party.inboxes.values())
            self._end(party, RemoteProtocolError("messages after the end") if unread else stop.value)
            return
        except Exception as error:
            self._end(party, error)
            return
        match word:
            case Send(payload=payload):
                party.sending = word, enumerate(chunks(payload, self._faults.chunk))
                self._pump(party)
            case Receive():
                party.waiting = word
                party.waits += 1
                late = partial(self._late, party, party.rounds, party.waits)
                self._clock.after(word.within or PROGRESS_TIMEOUT, late)
                self._look(party)
            case Save(step, state):
                party.saves[step] = state()
                self._soon(party, None)
            case Progress(phase=phase):
                party.phase = phase
                self._soon(party, party.traffic)
            case Bind(run):
                try:
                    self._lines.bind(party.name, run)
                except RemoteProtocolError as error:
                    self._fail(party, error)
                else:
                    self._soon(party, None)

    def _pump(self, party: _Party[T]) -> None:
        """Send on what the window held back; once all is out, the Send is answered."""
        while party.sending is not None:
            (send, parts) = party.sending
            if not self._lines.has_room(party.name, send.to, WINDOW):
                return
            part = next(parts, None)
            if part is None:
                party.sending = None
                self._soon(party, None)
                return
            index, (chunk, last) = part
            party.traffic = Traffic(party.traffic.sent + len(chunk), party.traffic.received)
            self._lines.send(party.name, send.to, send.kind, index, last, chunk)

    def _deliver(self, name: str, frame: Frame) -> None:
        party = self._parties[name]
        party.traffic = Traffic(party.traffic.sent, party.traffic.received + len(frame.payload))
        if party.ended:
            return
        try:
            party.inboxes[frame.sender].put(frame)
        except RemoteProtocolError as error:
            self._fail(party, error)
            return
        self._look(party)

    def _look(self, party: _Party[T]) -> None:
        """Answer the pending Receive if its message is here; if not, and a peer is gone, fail."""
        want = party.waiting
        if want is None:
            return
        senders = [want.sender]
        if want.sender == ANY:
            senders = [peer for peer in party.peers if party.inboxes[peer].next_kind == want.kind]
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
                self._clock.after(
                    self._draw.random() * SILENCE, partial(self._break, other, other.rounds, failed)
                )

    def _break(self, party: _Party[T], rounds: Rounds[T], failed: PeerFailed) -> None:
        if party.rounds is not rounds or party.ended:
            return
        party.broken = party.broken or failed
        if party.sending is not None:
            self._fail(party, failed)
        else:
            self._look(party)

    def _kill(self, party: _Party[T]) -> None:
        self._lines.die(party.name)
        party.rounds.close()
        party.waiting = party.sending = None
        if self._faults.restarts:
            again = partial(self._restart, self._restarts)
            self._clock.after(self._draw.random() * SILENCE, again)
        else:
            self._end(party, PeerFailed(party.name, party.phase, "killed"))

    def _restart(self, restarts: int) -> None:
        """Everyone goes back to the newest step that all have saved; old frames are still on their way."""
        if restarts != self._restarts:
            return  # another one's death has brought all back already
        self._restarts += 1
        self._lines.renew()
        common = set.intersection(*(set(party.saves) for party in self._parties.values()))
        for party in self._parties.values():
            party.rounds.close()
            party.start(Resume(max(common), party.saves[max(common)]) if common else None)
            self._soon(party, None)
