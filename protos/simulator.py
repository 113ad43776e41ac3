"""The driver for faults: all parties in one process, in virtual time, with parties that are killed at any
word. Everything follows from one seed.

The parties talk through the same `Line` and `Inbox` as over gRPC, on links that behave as those of
`parties.link` (`protos.virtual_link`), on paths that lose frames (`protos.lossy`).
"""

import random
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import suppress
from functools import partial
from typing import Any, Generic, TypeAlias, TypeVar

from protos.line import chunks
from protos.lossy import Clock, Faults, Lossy
from protos.rounds import (
    ANY,
    Bind,
    PeerFailed,
    PeerRestarted,
    PeerTimeout,
    Progress,
    Receive,
    RemoteProtocolError,
    Resume,
    Rounds,
    Save,
    Send,
)
from protos.virtual_link import PROGRESS, Net, VirtualLink

__all__ = ["Factory", "Faults", "Hang", "Killed", "Program", "Simulation"]

T = TypeVar("T")
Factory: TypeAlias = Callable[[Resume | None], Rounds[T]]
"""Makes a party's protocol anew: from the beginning, or from a `Save` of its own."""

Program: TypeAlias = Generator[Callable[[], Rounds[Any]], Any, T]
"""A party's process: it yields what to drive over a new link, once that is open, is sent what came of it or
thrown what ended it, and returns the party's result."""

STEP = 0.01  # virtual seconds of computing between two words, at most
START = 2.0  # until a process is up, at most
LONGEST = 100 * PROGRESS  # virtual seconds


class Hang(AssertionError):
    """Parties wait and nothing is under way, or virtual time ran out: never allowed."""


class Killed(BaseException):
    """What a program raises, or is thrown where its process dies: nothing that it does then has an effect."""


class _Process(Generic[T]):
    """A party's process, from its start to its end or death."""

    def __init__(self, name: str, program: Program[T]) -> None:
        self.name, self.program = name, program
        self.alive = True
        self.link: VirtualLink | None = None
        self.make: Callable[[], Rounds[Any]] | None = None
        self.rounds: Rounds[Any] | None = None
        self.waiting: Receive | None = None
        self.waits = 0  # counts what is waited for, so that a timeout knows whether its wait is still on
        self.sending: tuple[Send, Iterator[tuple[int, tuple[bytes, bool]]]] | None = None
        self.thaws = 0.0  # until when it is stopped


class Simulation(Generic[T]):
    """One run of all parties under the faults of one seed. `run` gives each party's result or error.

    parties: makes each party's protocol. What it saves survives its death, and all go on from the newest step
    that all have. Or `programs`: each party's process as it starts, which keeps its own. killed: called where
    a process dies, before what it was doing is unwound. again: how many seconds after an error that ended
    its process somebody starts a party again; None: it stays ended.
    """

    def __init__(
        self,
        parties: Mapping[str, Factory[T]],
        hub: str,
        seed: int,
        faults: Faults,
        programs: Mapping[str, Callable[[], Program[T]]] | None = None,
        killed: Callable[[str], None] = lambda name: None,
        again: Callable[[str, Exception], float | None] = lambda name, error: None,
    ) -> None:
        self._draw = random.Random(seed)  # noqa: S311 - a simulation, not a key
        self._faults, self._killed, self._again = faults, killed, again
        self._clock = Clock()
        self._saves: dict[str, dict[int, bytes]] = {name: {} for name in parties}
        self._common: dict[int, int] = {}  # by the hub's link, the step that its attempt began from
        self._in_memory = programs is None
        self._programs: Mapping[str, Callable[[], Program[T]]] = programs or {
            name: partial(self._attempts, name, make) for name, make in parties.items()
        }
        self.names = tuple(self._programs)
        self._kills = sorted(self._draw.randrange(max(faults.words, 1)) for _ in range(faults.kills))
        self.words = 0  # of all parties so far
        spokes = [name for name in self.names if name != hub]
        self._paths = Lossy(hub, spokes, faults, self._draw, self._clock, self._broken)
        self._net = Net(self._paths, hub, self._clock, self._draw, faults.delay)
        self._processes: dict[str, _Process[T]] = {}
        self._outcomes: dict[str, T | Exception] = {}
        for name in self.names:
            self._clock.after(self._draw.random() * START, partial(self._start, name))
        for _ in range(faults.freezes):
            self._clock.after(self._draw.expovariate(0.3), self._freeze)

    def run(self) -> dict[str, T | Exception]:
        """Raises Hang; whatever a protocol raises is its party's outcome."""
        while len(self._outcomes) < len(self.names):
            if not self._clock.step() or self._clock.now > LONGEST:
                waiting = [(p.name, p.waiting) for p in self._processes.values() if p.alive]
                self.abandon()
                raise Hang(f"at {self._clock.now:.1f} s: {waiting}")
        self.abandon()
        return {name: self._outcomes[name] for name in self.names}

    def abandon(self) -> None:
        """Let nothing be left of processes that still exist."""
        for process in self._processes.values():
            if process.alive:
                self._unwind(process)

    @property
    def now(self) -> float:
        return self._clock.now

    @property
    def refused(self) -> int:
        """Frames of an earlier link that came late and were refused."""
        return self._net.refused

    # ---- processes -------------------------------------------------------------------------------------

    def _start(self, name: str) -> None:
        self._outcomes.pop(name, None)
        process = self._processes[name] = _Process(name, self._programs[name]())
        self._proceed(process, None)

    def _proceed(self, process: _Process[T], value: Any, error: Exception | None = None) -> None:
        """A program, up to its next attempt or its end."""
        try:
            send = process.program.send
            process.make = send(value) if error is None else process.program.throw(error)
        except StopIteration as stop:
            self._end(process, stop.value)
        except Killed:
            self._kill(process)
        except Exception as raised:
            self._end(process, raised)
        else:
            peers = [name for name in self.names if name != process.name]
            process.link = None
            process.link = VirtualLink(self._net, process.name, peers, lambda: self._look(process))
            self._look(process)
            self._recall()

    def _recall(self) -> None:
        """A protocol has no barrier at its end: who has its result comes back for those who were killed."""
        if not (self._in_memory and self._faults.kills and self._faults.restarts):
            return
        if any(p.alive and p.link and p.link.state == "gathering" for p in self._processes.values()):
            for name in [name for name, found in self._outcomes.items() if not isinstance(found, Exception)]:
                del self._outcomes[name]
                self._clock.after(self._draw.random(), partial(self._start, name))

    def _end(self, process: _Process[T], outcome: Any) -> None:
        process.alive = False
        self._outcomes[process.name] = outcome
        after = self._again(process.name, outcome) if isinstance(outcome, Exception) else None
        if after is not None:
            del self._outcomes[process.name]
            self._clock.after(after, partial(self._start, process.name))
        self._recall()

    def _kill(self, process: _Process[T]) -> None:
        if process.link is not None and process.link.state != "closed":
            self._net.vanish(process.name)
        self._unwind(process)
        if not self._faults.restarts:
            phase = process.link.phase if process.link else "start"
            self._outcomes[process.name] = PeerFailed(process.name, phase, "killed")
            return
        comes_back = self._draw.random() * self._faults.absence
        self._clock.after(comes_back, partial(self._start, process.name))

    def _unwind(self, process: _Process[T]) -> None:
        process.alive = False
        self._killed(process.name)
        for generator in (process.rounds, process.program):
            if generator is not None:
                with suppress(Killed):
                    generator.close()

    def _freeze(self) -> None:
        """A party stops, sends and answers nothing, and goes on later."""
        name, seconds = self._draw.choice(self.names), self._draw.random() * self._faults.cut
        if process := self._processes.get(name):
            process.thaws = self._clock.now + seconds
        for other in self.names:
            if self._net.hub in (name, other) and name != other:
                self._paths.cut(other if name == self._net.hub else name, seconds)

    def _attempts(self, name: str, make: Factory[T]) -> Program[T]:
        """A process whose protocol goes on from what was saved in memory, as often as it must."""
        while True:
            try:
                result: T = yield lambda: make(self._newest_common(name))
            except PeerRestarted:
                continue
            return result

    def _newest_common(self, name: str) -> Resume | None:
        hub = self._net.links[self._net.hub].number
        if hub not in self._common:
            steps = set.intersection(*(set(saves) for saves in self._saves.values()))
            self._common[hub] = max(steps, default=0)
        step, saves = self._common[hub], self._saves[name]
        for newer in [saved for saved in saves if saved > step]:  # of an attempt that is over
            del saves[newer]
        return Resume(step, saves[step]) if step else None

    def _broken(self, one: str, other: str, at_once: bool) -> None:
        self._net.broken(one, other, at_once)

    # ---- words -----------------------------------------------------------------------------------------

    def _soon(self, process: _Process[T], value: object) -> None:
        """Go on after some computing; dropped if the process ended or began another attempt meanwhile."""
        rounds = process.rounds

        def go() -> None:
            if process.alive and process.rounds is rounds:
                if process.thaws > self._clock.now:
                    self._clock.after(process.thaws - self._clock.now, go)
                else:
                    self._word(process, value)

        self._clock.after(self._draw.random() * STEP * self._faults.slow, go)

    def _word(self, process: _Process[T], value: Any) -> None:
        """One word of a party's protocol."""
        self.words += 1
        if self._kills and self.words > self._kills[0]:
            self._kills.pop(0)
            self._kill(process)
            return
        link, rounds = process.link, process.rounds
        assert link is not None
        assert rounds is not None
        try:
            word = rounds.send(value)
            if isinstance(word, Save) and self._in_memory:
                self._saves[process.name][word.step] = word.state()
        except StopIteration as stop:
            unread = any(link.inboxes.values())
            late = RemoteProtocolError("messages after the end")
            self._over(process, None if unread else stop.value, late if unread else None)
            return
        except Killed:
            self._kill(process)
            return
        except Exception as error:
            self._over(process, None, error)
            return
        match word:
            case Send(payload=payload):
                process.sending = word, enumerate(chunks(payload, self._faults.chunk))
                self._wait_at_most(process, PROGRESS, word.to)
                self._pump(process)
            case Receive():
                process.waiting = word
                self._wait_at_most(process, word.within or PROGRESS, word.sender)
                self._look(process)
            case Save():
                self._soon(process, None)
            case Progress(phase=phase):
                link.phase = phase
                if link.failure is None:
                    self._soon(process, link.traffic)
                else:
                    self._throw(process, link.failure)
            case Bind(run):
                try:
                    link.bind(run)
                except RemoteProtocolError as error:
                    self._throw(process, error)
                else:
                    self._soon(process, None)

    def _pump(self, process: _Process[T]) -> None:
        """Send on what the window held back; once all is out, the Send is answered."""
        link = process.link
        while process.sending is not None and link is not None:
            (send, parts) = process.sending
            if link.failure is not None:
                self._throw(process, link.failure)
                return
            if send.to in link.left:
                self._throw(process, PeerFailed(send.to, link.phase, "it has finished without waiting"))
                return
            if not link.has_room(send.to):
                return
            part = next(parts, None)
            if part is None:
                process.sending = None
                self._soon(process, None)
                return
            index, (chunk, last) = part
            link.send(send.to, send.kind, index, last, chunk)

    def _look(self, process: _Process[T]) -> None:
        """Something has changed at the link: begin, send on, answer a Receive, or hear of a failure."""
        link = process.link
        if link is None or not process.alive or link.state == "closed":
            return
        if process.make is not None:
            if link.failure is not None:
                self._over(process, None, link.failure)
            elif link.state == "running":
                process.rounds, process.make = process.make(), None
                self._soon(process, None)
            return
        if process.sending is not None:
            self._pump(process)
        want = process.waiting
        if want is None:
            return
        senders = [want.sender]
        if want.sender == ANY:
            senders = [peer for peer in link.peers if link.inboxes[peer].next_kind == want.kind]
            self._draw.shuffle(senders)
        try:
            for sender in senders:
                payload = link.inboxes[sender].take(want.kind, want.at_most)
                if payload is not None:
                    process.waiting = None
                    self._soon(process, (sender, payload) if want.sender == ANY else payload)
                    return
        except RemoteProtocolError as error:
            self._throw(process, error)
            return
        if link.failure is not None:
            self._throw(process, link.failure)
        elif want.sender in link.left:
            self._throw(process, PeerFailed(want.sender, link.phase, f"it has not sent {want.kind!r}"))

    def _wait_at_most(self, process: _Process[T], seconds: float, peer: str) -> None:
        process.waits += 1
        rounds, wait = process.rounds, process.waits

        def late() -> None:
            waits = process.alive and process.rounds is rounds and process.waits == wait
            if waits and (process.waiting or process.sending) and process.link is not None:
                self._throw(process, PeerTimeout(peer, process.link.phase, "it does not get on"))

        self._clock.after(seconds, late)

    def _throw(self, process: _Process[T], error: Exception) -> None:
        """Throw an error into a waiting protocol."""
        process.waiting = process.sending = None
        assert process.rounds is not None
        try:
            process.rounds.throw(error)
        except Killed:
            self._kill(process)
        except Exception as raised:
            self._over(process, None, raised)
        else:
            self._over(process, None, AssertionError(f"{process.name} went on after {error!r}"))

    def _over(self, process: _Process[T], result: Any, error: Exception | None) -> None:
        """An attempt has ended: the peers are told, the link is closed, and the program goes on."""
        link, process.waiting, process.sending = process.link, None, None
        assert link is not None
        if process.rounds is not None:
            process.rounds.close()
        process.rounds = process.make = None
        if error is None:
            link.finish()
        else:
            link.give_up("peer" if isinstance(error, PeerFailed) else "error")
        link.close(lambda: self._closed(process, result, error))

    def _closed(self, process: _Process[T], result: Any, error: Exception | None) -> None:
        if process.alive:
            process.link = None
            self._proceed(process, result, error)
