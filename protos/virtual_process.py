"""A party's process in virtual time: the words of its protocol, one attempt after the other."""

import random
from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from typing import Any, Generic, Protocol, TypeAlias, TypeVar

from protos.line import chunks
from protos.lossy import Clock, Faults
from protos.rounds import (
    ANY,
    Bind,
    PeerFailed,
    PeerTimeout,
    Progress,
    Receive,
    RemoteProtocolError,
    Rounds,
    Save,
    Send,
)
from protos.virtual_link import PROGRESS, Net, VirtualLink

T = TypeVar("T")

Program: TypeAlias = Generator[Callable[[], Rounds[Any]], Any, T]
"""A party's process: it yields what to drive over a new link, once that is open, is sent what came of it or
thrown what ended it, and returns the party's result."""

STEP = 0.01  # virtual seconds of computing between two words, at most


class Killed(BaseException):
    """What a program raises, or is thrown where its process dies: nothing that it does then has an effect."""


class World(Protocol):
    """What a process needs of the simulation around it."""

    clock: Clock
    draw: random.Random
    faults: Faults
    net: Net
    names: tuple[str, ...]

    def dies_now(self) -> bool:
        """One word more of all parties': is it this one's last?"""

    def saved(self, name: str, word: Save) -> None: ...

    def began(self) -> None:
        """A link was opened."""

    def died(self, process: "Process[Any]") -> None: ...

    def ended(self, process: "Process[Any]", outcome: Any) -> None: ...


class Process(Generic[T]):
    """From its start to its end or death."""

    def __init__(self, world: World, name: str, program: Program[T]) -> None:
        self.name, self.program, self._world = name, program, world
        self.alive = True
        self.link: VirtualLink | None = None
        self.rounds: Rounds[Any] | None = None
        self.waiting: Receive | None = None
        self.thaws = 0.0  # until when it is stopped
        self._make: Callable[[], Rounds[Any]] | None = None
        self._waits = 0  # counts what is waited for, so that a timeout knows whether its wait is still on
        self._sending: tuple[Send, Iterator[tuple[int, tuple[bytes, bool]]]] | None = None

    def proceed(self, value: Any, error: Exception | None = None) -> None:
        """A program, up to its next attempt or its end."""
        try:
            send = self.program.send
            self._make = send(value) if error is None else self.program.throw(error)
        except StopIteration as stop:
            self._world.ended(self, stop.value)
        except Killed:
            self._world.died(self)
        except Exception as raised:
            self._world.ended(self, raised)
        else:
            peers = [name for name in self._world.names if name != self.name]
            self.link = None
            self.link = VirtualLink(self._world.net, self.name, peers, self._look)
            self._look()
            self._world.began()

    def _soon(self, value: object) -> None:
        """Go on after some computing; dropped if the process ended or began another attempt meanwhile."""
        rounds = self.rounds

        def go() -> None:
            if self.alive and self.rounds is rounds:
                if self.thaws > self._world.clock.now:
                    self._world.clock.after(self.thaws - self._world.clock.now, go)
                else:
                    self._word(value)

        self._world.clock.after(self._world.draw.random() * STEP * self._world.faults.slow, go)

    def _word(self, value: Any) -> None:
        """One word of a party's protocol."""
        if self._world.dies_now():
            self._world.died(self)
            return
        link, rounds = self.link, self.rounds
        assert link is not None
        assert rounds is not None
        try:
            word = rounds.send(value)
            if isinstance(word, Save):
                self._world.saved(self.name, word)
        except StopIteration as stop:
            unread = any(link.inboxes.values())
            late = RemoteProtocolError("messages after the end")
            self._over(None if unread else stop.value, late if unread else None)
            return
        except Killed:
            self._world.died(self)
            return
        except Exception as error:
            self._over(None, error)
            return
        match word:
            case Send(payload=payload):
                self._sending = word, enumerate(chunks(payload, self._world.faults.chunk))
                self._wait_at_most(PROGRESS, word.to)
                self._pump()
            case Receive():
                self.waiting = word
                self._wait_at_most(word.within or PROGRESS, word.sender)
                self._look()
            case Save():  # the world has looked at it
                self._soon(None)
            case Progress(phase=phase):
                link.phase = phase
                if link.failure is None:
                    self._soon(link.traffic)
                else:
                    self._throw(link.failure)
            case Bind(run):
                try:
                    link.bind(run)
                except RemoteProtocolError as error:
                    self._throw(error)
                else:
                    self._soon(None)

    def _pump(self) -> None:
        """Send on what the window held back; once all is out, the Send is answered."""
        link = self.link
        while self._sending is not None and link is not None:
            (send, parts) = self._sending
            if link.failure is not None:
                self._throw(link.failure)
                return
            if send.to in link.left:
                self._throw(PeerFailed(send.to, link.phase, "it has finished without waiting"))
                return
            if not link.has_room(send.to):
                return
            part = next(parts, None)
            if part is None:
                self._sending = None
                self._soon(None)
                return
            index, (chunk, last) = part
            link.send(send.to, send.kind, index, last, chunk)

    def _look(self) -> None:
        """Something has changed at the link: begin, send on, answer a Receive, or hear of a failure."""
        link = self.link
        if link is None or not self.alive or link.state == "closed":
            return
        if self._make is not None:
            if link.failure is not None:
                self._over(None, link.failure)
            elif link.state == "running":
                self.rounds, self._make = self._make(), None
                self._soon(None)
            return
        if self._sending is not None:
            self._pump()
        want = self.waiting
        if want is None:
            return
        senders = [want.sender]
        if want.sender == ANY:
            senders = [peer for peer in link.peers if link.inboxes[peer].next_kind == want.kind]
            self._world.draw.shuffle(senders)
        try:
            for sender in senders:
                payload = link.inboxes[sender].take(want.kind, want.at_most)
                if payload is not None:
                    self.waiting = None
                    self._soon((sender, payload) if want.sender == ANY else payload)
                    return
        except RemoteProtocolError as error:
            self._throw(error)
            return
        if link.failure is not None:
            self._throw(link.failure)
        elif want.sender in link.left:
            self._throw(PeerFailed(want.sender, link.phase, f"it has not sent {want.kind!r}"))

    def _wait_at_most(self, seconds: float, peer: str) -> None:
        self._waits += 1
        rounds, wait = self.rounds, self._waits

        def late() -> None:
            waits = self.alive and self.rounds is rounds and self._waits == wait
            if waits and (self.waiting or self._sending) and self.link is not None:
                self._throw(PeerTimeout(peer, self.link.phase, "it does not get on"))

        self._world.clock.after(seconds, late)

    def _throw(self, error: Exception) -> None:
        """Throw an error into a waiting protocol."""
        self.waiting = self._sending = None
        assert self.rounds is not None
        try:
            self.rounds.throw(error)
        except Killed:
            self._world.died(self)
        except Exception as raised:
            self._over(None, raised)
        else:
            self._over(None, AssertionError(f"{self.name} went on after {error!r}"))

    def _over(self, result: Any, error: Exception | None) -> None:
        """An attempt has ended: the peers are told, the link is closed, and the program goes on."""
        link, self.waiting, self._sending = self.link, None, None
        assert link is not None
        if self.rounds is not None:
            self.rounds.close()
        self.rounds = self._make = None
        if error is None:
            link.finish()
        else:
            link.give_up("peer" if isinstance(error, PeerFailed) else "error")
        link.close(lambda: self._closed(result, error))

    def _closed(self, result: Any, error: Exception | None) -> None:
        if self.alive:
            self.link = None
            self.proceed(result, error)

    def unwind(self) -> None:
        """It is dead: drop what it was doing."""
        self.alive = False
        for generator in (self.rounds, self.program):
            if generator is not None:
                with suppress(Killed):
                    generator.close()
