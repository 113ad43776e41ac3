"""The link: drives a protocol's generator over lines to other parties. `parties.hub` and `parties.dial` put
the lines on gRPC; here is what both ends share: what is sent, taken, passed on to the protocol, and told.

A line outlives its streams: one that breaks, or is silent, is followed by another, which brings what is not
acknowledged once more. Only a neighbour that stays away, or comes back as another process, has failed.

Threads: the protocol runs on the caller's; each stream has one that reads (`Link.hear`) and one that writes
(`Wire.outgoing`), and one thread beats for all. One condition guards all state, and nobody blocks while
holding it: a reader never waits for a window, so two parties that both send more than the window get on.
"""

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from contextlib import suppress
from types import TracebackType
from typing import Literal, Self, TypeVar

from google.protobuf.message import DecodeError

from parties.limits import BEAT, FAREWELL, Limits
from parties.mail import Mail
from parties.news import DONE, ERRORS, FAILED, REASONS, reason_of
from parties.play import OnProgress, OnSave, Stage, play
from parties.seen import Seen
from parties.wire import Wire
from protos.line import CONTROL, FRAME_COST, HEARTBEAT, LONGEST_NAME, Line, chunks
from protos.party_pb2 import Frame
from protos.rounds import (
    Cancelled,
    LocalProtocolError,
    PeerFailed,
    RemoteProtocolError,
    Rounds,
    RoundsError,
    Send,
    Traffic,
)

T = TypeVar("T")


class Link(ABC):
    """A party's end of all its lines, for one protocol.

    peers: every other party, by name. say: told, in a line, who is away and who is back.
    """

    def __init__(
        self, name: str, peers: Iterable[str], limits: Limits, say: Callable[[str], None] = lambda line: None
    ) -> None:
        self.name = name
        self.peers = tuple(peers)
        self.limits = limits
        self._mail = Mail(self.peers, limits)
        self._changed = self._mail.changed
        self._wires: dict[str, Wire] = {}  # by neighbour; the newest, which may be broken
        self._callers: dict[str, Wire] = {}  # streams that have not said yet which line they are for
        self._gone: set[str] = set()  # neighbours that we have given up
        self._say, self._said = say, dict[str, None]()
        self._state: Literal["gathering", "running", "finished", "failed"] = "gathering"
        self._bound = False
        self._late: RemoteProtocolError | None = None  # what came after our end
        self._closing = threading.Event()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def traffic(self) -> Traffic:
        """Bytes of all frames so far, heartbeats and (at the hub) relayed ones included."""
        with self._changed:
            wires = self._wires.values()
            return Traffic(sum(wire.sent for wire in wires), sum(wire.received for wire in wires))

    def peers_seen(self) -> dict[str, Seen]:
        """Each neighbour, in numbers."""
        with self._changed:
            return {
                name: Seen(wire.open, wire.quiet, wire.sent, wire.received, *wire.line.counts)
                for name, wire in self._wires.items()
            }

    def drive(
        self,
        rounds: Rounds[T],
        on_progress: OnProgress = lambda progress, traffic: None,
        on_save: OnSave | None = None,
    ) -> T:
        """Run the protocol to its end; once a link. Peers learn that we finished, or that we gave up.

        Raises what the protocol raises, and, thrown into it first, PeerFailed, PeerTimeout,
        RemoteProtocolError, LocalProtocolError, or Cancelled (for a KeyboardInterrupt).
        """
        try:
            self._start()
            stage = Stage(self._mail, self._send, self._bind, lambda: self.traffic)
            result = play(rounds, stage, on_progress, on_save)
            self._finish()
        except BaseException as error:
            self._give_up(error)
            if isinstance(error, KeyboardInterrupt):
                raise Cancelled(f"interrupted during {self._mail.phase}") from error
            raise
        finally:
            rounds.close()
        return result

    def _send(self, word: Send) -> None:
        to, kind, mail = word.to, word.kind, self._mail
        if to not in self.peers or kind.startswith(CONTROL) or not 0 < len(kind) <= LONGEST_NAME:
            raise LocalProtocolError(f"{self.name} sends {kind!r} to {to!r}, which cannot be sent")

        def room() -> Wire | None:
            mail.check()
            if to in mail.left:
                raise PeerFailed(to, mail.phase, f"it has finished without waiting for {kind!r}")
            wire = self._wire_to(to)  # the newest
            return wire if wire.line.unacknowledged_bytes < self.limits.window else None

        for number, (chunk, last) in enumerate(chunks(word.payload)):
            with self._changed:
                wire = mail.wait(room, None, to, f"it has not taken {kind!r}")
                wire.post(self.name, to, kind, chunk, number, last)

    def _bind(self, run: bytes) -> None:
        with self._changed:
            for wire in self._wires.values():
                wire.line.bind(run)
            self._bound = True
            self._moved()

    def _start(self) -> None:
        with self._changed:
            self._mail.check()
            if self._state != "gathering":
                raise LocalProtocolError("a link drives one protocol; open another link for the next")
            self._state = "running"
            self._moved()

    def _finish(self) -> None:
        with self._changed:
            for sender, inbox in self._mail.inboxes.items():
                if inbox:
                    raise RemoteProtocolError(f"{sender!r} sent {inbox.next_kind!r} after the end")
            self._state = "finished"
            self._tell(DONE, self.name)

    def _give_up(self, error: BaseException) -> None:
        with self._changed:
            if self._state in ("gathering", "running"):
                self._state = "failed"
                self._tell(FAILED, f"{self.name} {reason_of(error)}")

    def _tell(self, kind: str, payload: str) -> None:
        for wire in self._wires.values():
            if wire.neighbour not in self._gone:
                wire.post(self.name, wire.neighbour, kind, payload.encode())

    def _farewell(self) -> None:
        """Before the streams close: wait, within bounds, until the neighbours have all that we sent."""
        self._give_up(Cancelled())  # unless the protocol has ended by itself
        patience = self.limits.progress if self._state == "finished" else FAREWELL
        try:
            with self._changed:
                self._changed.wait_for(self._settled, patience)
        finally:  # a signal, too, ends the streams: the hub's threads would outlive it
            with self._changed:
                self._closing.set()
                for wire in [*self._wires.values(), *self._callers.values()]:
                    wire.end()
        self._speak()

    def _settled(self) -> bool:
        return all(
            wire.verdict or not wire.line.unacknowledged_bytes or not (wire.open or self._expects(wire))
            for wire in self._wires.values()
        )

    # ---- the streams' threads -------------------------------------------------------------------------

    def hear(self, wire: Wire, data: bytes) -> None:
        """One frame from a neighbour, as it came. Whatever it is, this never raises."""
        with self._changed:
            if wire.verdict is not None or not wire.open:
                return  # what follows a breach, or comes on a stream that was given up, is only drained
            wire.quiet = 0.0
            wire.received += len(data)
            try:
                frame = Frame.FromString(data)
                if not wire.greeted:
                    self._meet(wire, frame)
                elif wire.line.accept(frame):
                    self._take(wire, frame)
                self._moved()
            except (DecodeError, RemoteProtocolError) as error:
                no_frame = RemoteProtocolError(f"{wire.neighbour!r} sent bytes that are no frame")
                wire.verdict = error if isinstance(error, RemoteProtocolError) else no_frame
                if self._wires.get(wire.neighbour) is not wire:
                    wire.end()  # nobody's line yet
                    wire.heard.set()
                else:
                    if self._state == "finished":
                        self._late = wire.verdict
                    self._fail(wire.verdict, wire.neighbour, "breach")
            self._changed.notify_all()

    def _meet(self, wire: Wire, first: Frame) -> None:
        """The first frame of a stream: whose line is it for?"""
        if first.kind != HEARTBEAT or first.sequence or not first.session:
            raise RemoteProtocolError(
                f"{wire.neighbour!r} opened a stream without a heartbeat of its session"
            )
        self._greet(wire, first)

    def _attach(self, wire: Wire, line: Line, greeting: Frame) -> None:
        """The line goes on over this stream: the newest wins, for its dialler knows best that the others
        are broken. Who that is, certificate and numbers have shown."""
        line.accept(greeting)  # what it acknowledges need not come again
        before = self._wires.get(wire.neighbour)
        wire.line = line
        self._wires[wire.neighbour] = wire
        wire.follow(before)
        if before is not None:
            before.cut()
            if before.broken and self._state != "gathering":
                self._note(f"{wire.neighbour} is back")

    def lost(self, wire: Wire, reason: str = "lost") -> None:
        """The stream has ended, for whatever reason; its line waits for the next."""
        with self._changed:
            wire.end()
            wire.heard.set()
            if self._callers.get(wire.neighbour) is wire:
                del self._callers[wire.neighbour]
            if self._wires.get(wire.neighbour) is wire and self._expects(wire) and not wire.broken:
                wire.broken, wire.quiet = reason, 0.0
                if self._state != "gathering":
                    self._note(f"{wire.neighbour} is away; waiting up to {self.limits.away:g} s")
            self._changed.notify_all()

    def _beats(self) -> None:
        """The heartbeat thread. Silence is counted in our own beats: if it was this machine that paused,
        nobody else is to blame."""
        while not self._closing.wait(BEAT):
            try:
                with self._changed:
                    for wire in [*self._wires.values(), *self._callers.values()]:
                        self._beat(wire)
                    self._changed.notify_all()
                self._speak()
            except Exception as error:
                with self._changed:
                    fault = LocalProtocolError(
                        f"the heartbeat of {self.name} stumbled: {type(error).__name__}"
                    )
                    self._mail.failure = self._mail.failure or fault
                    self._changed.notify_all()

    def _note(self, line: str) -> None:
        self._said.pop(line, None)  # the last of two that contradict each other is the last to be said
        self._said[line] = None

    def _speak(self) -> None:
        """Not under the condition: a terminal may block."""
        with self._changed:
            said, self._said = self._said, {}
        with suppress(OSError):  # or be gone
            for line in said:
                self._say(line)

    def _beat(self, wire: Wire) -> None:
        wire.quiet += BEAT
        if wire.open:
            if wire.greeted:
                wire.beat()
            if wire.quiet > self.limits.silence and (not wire.greeted or self._expects(wire)):
                self.lost(wire, "silent")
                wire.abort()
        elif wire.quiet > self.limits.away and self._state != "gathering" and self._expects(wire):
            how = "no sign of life" if wire.broken == "silent" else "its connection broke"
            self._gone.add(wire.neighbour)
            why = f"{how}, and it did not come back within {self.limits.away:g} s; {self._look_at(wire)}"
            self._fail(PeerFailed(wire.neighbour, self._mail.phase, why), wire.neighbour, wire.broken)

    def _take(self, wire: Wire, frame: Frame) -> None:
        self._check_sender(wire, frame)
        if frame.receiver != self.name:
            self._relay(wire, frame)
        elif frame.kind.startswith(CONTROL):
            wire.beat()  # before anything ends the stream
            self._control(wire, frame)
        elif self._state == "finished" or frame.sender in self._mail.left:
            raise RemoteProtocolError(f"{frame.sender!r} sent {frame.kind!r} after the end")
        elif self._state != "failed":
            self._mail.inboxes[frame.sender].put(frame)
            wire.owe(len(frame.payload) + FRAME_COST)

    def _control(self, wire: Wire, frame: Frame) -> None:
        name, _, reason = frame.payload.decode("ascii", "replace").partition(" ")
        self._check_news(wire, name)
        if name not in self.peers:
            raise RemoteProtocolError(f"{wire.neighbour!r} has news of a party that is none")
        if frame.kind == DONE and name not in self._mail.left:
            self._mail.left.add(name)
            self._peer_left(name)
        elif frame.kind == FAILED and reason in REASONS:
            self._fail(ERRORS.get(reason, PeerFailed)(name, self._mail.phase, REASONS[reason]), name, reason)
        else:
            raise RemoteProtocolError(f"{wire.neighbour!r} sent a control message that is none")

    def _fail(self, error: RoundsError, peer: str, reason: str) -> None:
        """A peer has failed: the protocol hears it at its next word, or at once where it waits."""
        if self._mail.failure is None and self._state in ("gathering", "running"):
            self._mail.failure = error

    # ---- where hub and feature holder differ ----------------------------------------------------------

    @abstractmethod
    def close(self) -> None:
        """End the streams. Raises RemoteProtocolError if a peer went on talking after the end."""

    @abstractmethod
    def _wire_to(self, peer: str) -> Wire:
        """The stream that leads to this party."""

    @abstractmethod
    def _check_sender(self, wire: Wire, frame: Frame) -> None:
        """May this neighbour hand us a frame of that sender? Raises RemoteProtocolError."""

    @abstractmethod
    def _check_news(self, wire: Wire, name: str) -> None:
        """May this neighbour tell us the end of that party? Raises RemoteProtocolError."""

    @abstractmethod
    def _expects(self, wire: Wire) -> bool:
        """Do we still need this neighbour, so that its line must go on if this stream breaks?"""

    @abstractmethod
    def _greet(self, wire: Wire, first: Frame) -> None:
        """Attach the stream to the line that its first frame, a heartbeat, names, or refuse it. Raises
        RemoteProtocolError."""

    @abstractmethod
    def _look_at(self, wire: Wire) -> str:
        """What to check, where this neighbour does not come back."""

    @abstractmethod
    def _relay(self, wire: Wire, frame: Frame) -> None:
        """A frame for another party. Raises RemoteProtocolError."""

    def _peer_left(self, name: str) -> None:  # noqa: B027 - only the hub passes it on
        """A peer has finished."""

    def _moved(self) -> None:  # noqa: B027 - only at the hub do frames wait for others
        """A line may have room again."""
