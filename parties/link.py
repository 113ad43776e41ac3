"""The link: drives a protocol's generator over lines to other parties. `parties.hub` and `parties.dial` put
the lines on gRPC; here is what both ends share: what is sent, taken, passed on to the protocol, and told.

Threads: the protocol runs on the caller's; each stream has one that reads (`Link.hear`) and one that writes
(`Wire.outgoing`), and one thread beats for all. One condition guards all state, and nobody blocks while
holding it: a reader never waits for a window, so two parties that both send more than the window get on.
"""

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any, Literal, NoReturn, Self, TypeAlias, TypeVar

from google.protobuf.message import DecodeError

from parties.limits import BEAT, FAREWELL, Limits
from parties.mail import Mail
from parties.news import DONE, ERRORS, FAILED, REASONS, reason_of
from parties.seen import Seen
from parties.wire import Wire
from protos.line import CONTROL, FRAME_COST, LONGEST_NAME, chunks
from protos.party_pb2 import Frame
from protos.rounds import (
    ANY,
    Bind,
    Cancelled,
    LocalProtocolError,
    PeerFailed,
    Progress,
    Receive,
    RemoteProtocolError,
    Rounds,
    RoundsError,
    Save,
    Send,
    Traffic,
)

T = TypeVar("T")
OnProgress: TypeAlias = Callable[[Progress, Traffic], None]
OnSave: TypeAlias = Callable[[int, bytes], None]


class Link(ABC):
    """A party's end of all its lines, for one protocol. peers: every other party, by name."""

    def __init__(self, name: str, peers: Iterable[str], limits: Limits) -> None:
        self.name = name
        self.peers = tuple(peers)
        self.limits = limits
        self._mail = Mail(self.peers, limits)
        self._changed = self._mail.changed
        self._wires: dict[str, Wire] = {}  # by neighbour
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
            result = self._play(rounds, on_progress, on_save)
            self._finish()
        except BaseException as error:
            self._give_up(error)
            if isinstance(error, KeyboardInterrupt):
                raise Cancelled(f"interrupted during {self._mail.phase}") from error
            raise
        finally:
            rounds.close()
        return result

    def _play(self, rounds: Rounds[T], on_progress: OnProgress, on_save: OnSave | None) -> T:
        answer: Any = None
        while True:
            try:
                word = rounds.send(answer)
            except StopIteration as stop:
                result: T = stop.value
                return result
            answer = None
            try:
                match word:
                    case Send():
                        self._send(word)
                    case Receive(sender=sender):
                        answer = self._mail.receive_any(word) if sender == ANY else self._mail.receive(word)
                    case Bind(run):
                        self._bind(run)
                    case Save(step, state):
                        if on_save:
                            on_save(step, state())
                    case Progress(phase):
                        self._mail.phase, answer = phase, self.traffic
                        self._mail.check()
                        on_progress(word, answer)
            except RoundsError as error:
                _throw(rounds, error)
            except KeyboardInterrupt as error:
                _throw(rounds, Cancelled(f"interrupted during {self._mail.phase}"), error)

    def _send(self, word: Send) -> None:
        to, kind, mail = word.to, word.kind, self._mail
        if to not in self.peers or kind.startswith(CONTROL) or not 0 < len(kind) <= LONGEST_NAME:
            raise LocalProtocolError(f"{self.name} sends {kind!r} to {to!r}, which cannot be sent")
        wire = self._wire_to(to)

        def room() -> Literal[True] | None:
            mail.check()
            if to in mail.left:
                raise PeerFailed(to, mail.phase, f"it has finished without waiting for {kind!r}")
            return wire.line.unacknowledged_bytes < self.limits.window or None

        for number, (chunk, last) in enumerate(chunks(word.payload)):
            with self._changed:
                mail.wait(room, None, to, f"it has not taken {kind!r}")
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
            if wire.open:
                wire.post(self.name, wire.neighbour, kind, payload.encode())

    def _farewell(self) -> None:
        """Before the streams close: wait, within bounds, until the neighbours have all that we sent."""
        self._give_up(Cancelled())  # unless the protocol has ended by itself
        patience = self.limits.progress if self._state == "finished" else FAREWELL
        with self._changed:
            self._changed.wait_for(self._settled, patience)
            self._closing.set()
            for wire in self._wires.values():
                wire.end()

    def _settled(self) -> bool:
        wires = self._wires.values()
        return all(not wire.open or wire.verdict or not wire.line.unacknowledged_bytes for wire in wires)

    # ---- the streams' threads -------------------------------------------------------------------------

    def hear(self, wire: Wire, data: bytes) -> None:
        """One frame from a neighbour, as it came. Whatever it is, this never raises."""
        with self._changed:
            if wire.verdict is not None or (self._state == "gathering" and not wire.open):
                return  # what follows a breach, or comes on a stream that was given up, is only drained
            wire.quiet = 0.0
            wire.received += len(data)
            wire.heard.set()
            try:
                frame = Frame.FromString(data)
                if wire.line.accept(frame):
                    self._take(wire, frame)
                self._moved()
            except (DecodeError, RemoteProtocolError) as error:
                no_frame = RemoteProtocolError(f"{wire.neighbour!r} sent bytes that are no frame")
                wire.verdict = error if isinstance(error, RemoteProtocolError) else no_frame
                if self._state == "finished":
                    self._late = wire.verdict
                self._fail(wire.verdict, wire.neighbour, "breach")
            self._changed.notify_all()

    def lost(self, wire: Wire) -> None:
        """The stream has ended, for whatever reason."""
        with self._changed:
            wire.end()
            wire.heard.set()
            if self._wires.get(wire.neighbour) is wire and self._expects(wire):
                self._fail_neighbour(wire, "lost", REASONS["lost"])
            self._changed.notify_all()

    def _beats(self) -> None:
        """The heartbeat thread. Silence is counted in our own beats: if it was this machine that paused,
        nobody else is to blame."""
        while not self._closing.wait(BEAT):
            with self._changed:
                for wire in [wire for wire in self._wires.values() if wire.open]:
                    wire.beat()
                    wire.quiet += BEAT
                    if wire.quiet > self.limits.silence and self._expects(wire):
                        wire.quiet = 0.0
                        why = f"no sign of life for {self.limits.silence:g} s; it is frozen or cut off"
                        self._fail_neighbour(wire, "silent", why)
                self._changed.notify_all()

    def _take(self, wire: Wire, frame: Frame) -> None:
        self._check_sender(wire, frame)
        if frame.receiver != self.name:
            self._relay(wire, frame)
        elif frame.kind.startswith(CONTROL):
            self._control(wire, frame)
            wire.beat()
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

    def _fail_neighbour(self, wire: Wire, reason: str, why: str) -> None:
        self._fail(PeerFailed(wire.neighbour, self._mail.phase, why), wire.neighbour, reason)

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
        """Would the end of this stream, now, be a failure?"""

    @abstractmethod
    def _relay(self, wire: Wire, frame: Frame) -> None:
        """A frame for another party. Raises RemoteProtocolError."""

    def _peer_left(self, name: str) -> None:  # noqa: B027 - only the hub passes it on
        """A peer has finished."""

    def _moved(self) -> None:  # noqa: B027 - only at the hub do frames wait for others
        """A line may have room again."""


def _throw(rounds: Rounds[T], error: RoundsError, cause: BaseException | None = None) -> NoReturn:
    """Through the protocol, which may have something to clean up, and out again."""
    try:
        rounds.throw(error)
    except StopIteration:
        raise error from cause
    raise LocalProtocolError("a protocol went on after an error that ends it") from error
