"""The link: drives a protocol's generator over lines to other parties. `parties.hub` and `parties.dial` put
the lines on gRPC; here is everything that is not gRPC: what a party may do, wait for, and must be told.

Threads: the protocol runs on the caller's; each stream has one that reads (`Link.hear`) and one that writes
(`Wire.outgoing`), and one thread beats for all. One condition guards all state, and nobody who holds it
blocks: a reader never waits for a window, so two parties that both send more than the window get on.
"""

import queue
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final, Literal, NoReturn, TypeVar

from google.protobuf.message import DecodeError

from parties.errors import ConfigError
from protos.line import CHUNK, CONTROL, FRAME_COST, LONGEST_NAME, Inbox, Line, chunks
from protos.party_pb2 import Frame
from protos.rounds import (
    ANY,
    Bind,
    Cancelled,
    LocalProtocolError,
    PeerFailed,
    PeerTimeout,
    Progress,
    Receive,
    RemoteProtocolError,
    Round,
    Rounds,
    RoundsError,
    Save,
    Send,
    Traffic,
)

T = TypeVar("T")

BEAT: Final = 1.0
"""Seconds between heartbeats: every frame shows life and acknowledges, a heartbeat does nothing else."""

ACKNOWLEDGE_EVERY: Final = 4 << 20
"""Bytes received after which we acknowledge at once: the sender's window must not wait for the heartbeat."""

FAREWELL: Final = 2.0
"""Seconds that a party which gives up waits until its peers have been told."""

DONE: Final = CONTROL + "done"
"""The party named in the payload has finished: its silence is no failure from here on."""

FAILED: Final = CONTROL + "failed"
"""The party named in the payload has failed; a blank and one of REASONS follow. Never any details."""

REASONS: Final = {
    "error": "it stopped by an error on its side; ask there for the reason",
    "cancelled": "it was interrupted on its side",
    "protocol": "it refused a message as not allowed by the protocol; compare versions",
    "timeout": "it waited for a peer in vain; ask there for which",
    "peer": "it lost a peer; ask there for which",
    "lost": "its connection broke",
    "silent": "no sign of life from it; it is frozen or cut off",
    "breach": "it broke the protocol",
    "absent": "it never came",
}


@dataclass(frozen=True)
class Limits:
    """The bounds of a link. Raises ConfigError for values that cannot work together."""

    window: int = 32 << 20
    """Bytes sent and not yet acknowledged on one line, after which a `Send` waits."""

    inbox: int = 1 << 30
    """Bytes from one sender that may wait here unread; more is a RemoteProtocolError."""

    silence: float = 10.0
    """Seconds without any frame, heartbeats included, after which a peer counts as failed."""

    progress: float = 600.0
    """Seconds that a peer which is alive may take for its next message, where the protocol does not say."""

    def __post_init__(self) -> None:
        faults = []
        if self.window < CHUNK:
            faults.append(f"window: must be at least one chunk, {CHUNK} bytes")
        if self.inbox < self.window:
            faults.append("inbox: must be at least the window")
        if self.silence < 3 * BEAT:
            faults.append(f"silence: must be at least three heartbeats, {3 * BEAT:g} seconds")
        if self.progress < self.silence:
            faults.append("progress: must be at least the silence")
        if faults:
            raise ConfigError("; ".join(faults))


class Impostor(RemoteProtocolError):
    """A frame that claims to be from another party than the one whose certificate opened the stream."""


class Wire:
    """One stream to a neighbour: its line's state and what waits to be written. A reconnect would make a new
    wire for the same line. Used under the link's condition, but for `outgoing`."""

    def __init__(self, owner: str, neighbour: str, changed: threading.Condition) -> None:
        self.neighbour = neighbour
        self.line = Line()
        self.quiet = 0.0  # seconds of our own beats since the neighbour was heard
        self.sent = self.received = 0  # bytes
        self.heard = threading.Event()
        self.verdict: RemoteProtocolError | None = None  # how the neighbour broke the protocol
        self.open = True  # may we write?
        self._owner, self._changed = owner, changed
        self._owed = 0  # bytes that may be acknowledged, and are not yet
        self._queue: queue.SimpleQueue[bytes | Literal["beat", "end"]] = queue.SimpleQueue()
        self._beat_waits = False

    def post(
        self, sender: str, receiver: str, kind: str, payload: bytes, chunk: int = 0, last: bool = True
    ) -> None:
        frame = self.line.post(sender, receiver, kind, chunk, last, payload)
        self._put(frame)

    def beat(self) -> None:
        """At most one waits: a writer that is stuck must not pile them up."""
        if not self._beat_waits:
            self._beat_waits = True
            self._queue.put("beat")

    def owe(self, size: int) -> None:
        """So many bytes more may be acknowledged."""
        self._owed += size
        if self._owed >= ACKNOWLEDGE_EVERY:
            self._owed = 0
            self.beat()

    def end(self) -> None:
        """Write what waits, then no more."""
        if self.open:
            self.open = False
            self._queue.put("end")

    def outgoing(self) -> Iterator[bytes]:
        """What the stream's writer takes, waiting for more until the end."""
        while (item := self._queue.get()) != "end":
            if item != "beat":
                yield item
                continue
            with self._changed:  # made only now: it acknowledges what came while it waited
                self._beat_waits = False
                beat = self.line.heartbeat(self._owner, self.neighbour).SerializeToString()
                self.sent += len(beat)
            yield beat

    def _put(self, frame: Frame) -> None:
        data = frame.SerializeToString()
        self.sent += len(data)
        self._queue.put(data)


class Link(ABC):
    """A party's end of all its lines, for one protocol. `peers`: every other party, by name."""

    def __init__(self, name: str, peers: Iterable[str], limits: Limits) -> None:
        self.name = name
        self.peers = tuple(peers)
        self.limits = limits
        self.phase = "handshake"
        self._changed = threading.Condition()
        self._wires: dict[str, Wire] = {}  # by neighbour
        self._inboxes = {peer: Inbox(peer, limits.inbox) for peer in self.peers}
        self._left: set[str] = set()  # peers that have finished
        self._failure: RoundsError | None = None  # the first one counts: others follow from it
        self._state: Literal["gathering", "running", "finished", "failed"] = "gathering"
        self._bound = False
        self._closing = threading.Event()

    # ---- the protocol's thread ------------------------------------------------------------------------

    def drive(
        self,
        rounds: Rounds[T],
        on_progress: Callable[[Progress, Traffic], None] | None = None,
        on_save: Callable[[int, bytes], None] | None = None,
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
                raise Cancelled(f"interrupted during {self.phase}") from error
            raise
        finally:
            rounds.close()
        return result

    @property
    def traffic(self) -> Traffic:
        """Bytes of all frames so far, heartbeats and (at the hub) relayed ones included."""
        with self._changed:
            wires = self._wires.values()
            return Traffic(sum(wire.sent for wire in wires), sum(wire.received for wire in wires))

    def _play(
        self,
        rounds: Rounds[T],
        on_progress: Callable[[Progress, Traffic], None] | None,
        on_save: Callable[[int, bytes], None] | None,
    ) -> T:
        answer: Any = None
        while True:
            try:
                word: Round = rounds.send(answer)
            except StopIteration as stop:
                result: T = stop.value
                return result
            try:
                match word:
                    case Send():
                        self._send(word)
                        answer = None
                    case Receive(sender=sender):
                        answer = self._receive_any(word) if sender == ANY else self._receive(word)
                    case Bind(run):
                        self._bind(run)
                        answer = None
                    case Save(step, state):
                        answer = on_save(step, state()) if on_save else None
                    case Progress(phase):
                        self.phase, answer = phase, self.traffic
                        self._check()
                        if on_progress:
                            on_progress(word, answer)
            except RoundsError as error:
                _throw(rounds, error)
            except KeyboardInterrupt as error:
                _throw(rounds, Cancelled(f"interrupted during {self.phase}"), error)

    def _send(self, word: Send) -> None:
        if (
            word.to not in self._inboxes
            or word.kind.startswith(CONTROL)
            or not 0 < len(word.kind) <= LONGEST_NAME
        ):
            raise LocalProtocolError(f"{self.name} sends {word.kind!r} to {word.to!r}, which cannot be sent")
        wire = self._wire_to(word.to)

        def room() -> Literal[True] | None:
            self._check()
            if word.to in self._left:
                raise PeerFailed(word.to, self.phase, f"it has finished without waiting for {word.kind!r}")
            return wire.line.unacknowledged_bytes < self.limits.window or None

        for number, (chunk, last) in enumerate(chunks(word.payload)):
            with self._changed:
                self._wait(room, None, word.to, f"it has not taken {word.kind!r}")
                wire.post(self.name, word.to, word.kind, chunk, number, last)

    def _receive(self, word: Receive) -> bytes:
        inbox = self._inboxes.get(word.sender)
        if inbox is None:
            raise LocalProtocolError(f"{self.name} waits for {word.sender!r}, which is no other party")

        def arrived() -> bytes | None:
            got = inbox.take(word.kind, word.at_most)
            if got is None:
                self._check()
                if word.sender in self._left:
                    raise PeerFailed(
                        word.sender, self.phase, f"it has finished without sending {word.kind!r}"
                    )
            return got

        with self._changed:
            return self._wait(arrived, word.within, word.sender, f"it has not sent {word.kind!r}")

    def _receive_any(self, word: Receive) -> tuple[str, bytes]:
        def arrived() -> tuple[str, bytes] | None:
            ahead = []  # who has said something else: it may be a step ahead of the others
            for sender, inbox in self._inboxes.items():
                if inbox.next_kind == word.kind:
                    if (got := inbox.take(word.kind, word.at_most)) is not None:
                        return sender, got
                elif inbox or sender in self._left:
                    ahead.append(sender)
            self._check()
            if len(ahead) == len(self._inboxes):
                raise RemoteProtocolError(
                    f"expected {word.kind!r} from any party, and all have said another thing"
                )
            return None

        with self._changed:
            return self._wait(arrived, word.within, " or ".join(self.peers), f"none has sent {word.kind!r}")

    def _bind(self, run: bytes) -> None:
        with self._changed:
            for wire in self._wires.values():
                wire.line.bind(run)
            self._bound = True
            self._moved()

    def _wait(self, ready: Callable[[], T | None], within: float | None, peer: str, missing: str) -> T:
        """Under the condition: until `ready` answers other than None."""
        within = self.limits.progress if within is None else within
        deadline = time.monotonic() + within
        while (got := ready()) is None:
            left = deadline - time.monotonic()
            if left <= 0:
                reason = f"{missing} within {within:g} s, though it is alive; see its own output"
                raise PeerTimeout(peer, self.phase, reason)
            self._changed.wait(left)
        return got

    def _check(self) -> None:
        if self._failure is not None:
            raise self._failure

    # ---- the beginning and the end --------------------------------------------------------------------

    def _start(self) -> None:
        with self._changed:
            if self._state == "finished" or self._state == "running":
                raise LocalProtocolError("a link drives one protocol; open another link for the next")
            self._check()
            self._state = "running"
            self._moved()

    def _finish(self) -> None:
        with self._changed:
            for sender, inbox in self._inboxes.items():
                if inbox:
                    raise RemoteProtocolError(
                        f"{sender!r} sent {inbox.next_kind!r} after the end of the protocol"
                    )
            self._state = "finished"
            self._tell(DONE, self.name)

    def _give_up(self, error: BaseException) -> None:
        with self._changed:
            if self._state != "failed":
                self._state = "failed"
                self._tell(FAILED, f"{self.name} {_reason(error)}")

    def _tell(self, kind: str, payload: str) -> None:
        for wire in self._wires.values():
            if wire.open:
                wire.post(self.name, wire.neighbour, kind, payload.encode())

    def _farewell(self) -> None:
        """Before the streams close: wait, within bounds, until the neighbours have all that we sent."""
        with self._changed:
            patience = self.limits.progress if self._state == "finished" else FAREWELL
            self._changed.wait_for(lambda: self._state == "gathering" or self._settled(), patience)

    def _settled(self) -> bool:
        return all(
            not wire.open or wire.verdict or not wire.line.unacknowledged_bytes
            for wire in self._wires.values()
        )

    # ---- the streams' threads -------------------------------------------------------------------------

    def hear(self, wire: Wire, data: bytes) -> None:
        """One frame from a neighbour, as it came. Whatever it is, this never raises."""
        with self._changed:
            if wire.verdict is not None:
                return  # what follows a breach is only drained
            wire.quiet = 0.0
            wire.received += len(data)
            wire.heard.set()
            try:
                frame = Frame.FromString(data)
                if wire.line.accept(frame):
                    self._take(wire, frame)
                self._moved()
            except DecodeError:
                self._breach(wire, RemoteProtocolError(f"{wire.neighbour!r} sent bytes that are no frame"))
            except RemoteProtocolError as error:
                self._breach(wire, error)
            self._changed.notify_all()

    def _take(self, wire: Wire, frame: Frame) -> None:
        self._check_sender(wire, frame)
        if frame.sender in self._left and not frame.kind.startswith(CONTROL):
            raise RemoteProtocolError(f"{frame.sender!r} sent {frame.kind!r} after it had finished")
        if frame.receiver != self.name:
            self._relay(wire, frame)
            return
        if frame.kind in (DONE, FAILED):
            self._control(wire, frame)
            wire.beat()
            return
        if self._state in ("finished", "failed"):
            if self._state == "finished":
                raise RemoteProtocolError(
                    f"{frame.sender!r} sent {frame.kind!r} after the end of the protocol"
                )
            return
        self._inboxes[frame.sender].put(frame)
        wire.owe(len(frame.payload) + FRAME_COST)

    def _control(self, wire: Wire, frame: Frame) -> None:
        name, _, reason = frame.payload.decode("ascii", "replace").partition(" ")
        if name not in self._inboxes or (reason not in REASONS if frame.kind == FAILED else reason):
            raise RemoteProtocolError(f"{frame.sender!r} sent a {frame.kind!r} that is not one")
        self._check_news(wire, name)
        if frame.kind == DONE:
            self._left.add(name)
            self._peer_left(name)
        else:
            kind = PeerTimeout if reason == "absent" else PeerFailed
            self._fail(kind(name, self.phase, REASONS[reason]), name, reason)

    def lost(self, wire: Wire, why: str = REASONS["lost"]) -> None:
        """The stream has ended, for whatever reason."""
        with self._changed:
            wire.end()
            if self._wires.get(wire.neighbour) is wire and self._expects(wire):
                self._fail(PeerFailed(wire.neighbour, self.phase, why), wire.neighbour, "lost")
            self._changed.notify_all()

    def _breach(self, wire: Wire, error: RemoteProtocolError) -> None:
        wire.verdict = error
        self._fail(error, wire.neighbour, "breach")

    def _beats(self) -> None:
        """The heartbeat thread. Silence is counted in our own beats: after a pause of this machine, nobody
        else is to blame."""
        while not self._closing.wait(BEAT):
            with self._changed:
                for wire in [wire for wire in self._wires.values() if wire.open]:
                    wire.beat()
                    wire.quiet += BEAT
                    if wire.quiet > self.limits.silence and self._expects(wire):
                        wire.quiet = 0.0
                        why = f"no sign of life for {self.limits.silence:g} s; it is frozen or cut off"
                        self._fail(PeerFailed(wire.neighbour, self.phase, why), wire.neighbour, "silent")
                self._changed.notify_all()

    def _fail(self, error: RoundsError, peer: str, reason: str) -> None:
        """A peer has failed: the protocol is told at its next word or at once where it waits."""
        if self._failure is None and self._state in ("gathering", "running"):
            self._failure = error

    # ---- where hub and feature holder differ ----------------------------------------------------------

    @abstractmethod
    def _wire_to(self, peer: str) -> Wire:
        """The stream that leads to this party."""

    @abstractmethod
    def _check_sender(self, wire: Wire, frame: Frame) -> None:
        """May this neighbour hand us a frame from that sender? Raises RemoteProtocolError."""

    @abstractmethod
    def _check_news(self, wire: Wire, name: str) -> None:
        """May this neighbour tell us the end of party `name`? Raises RemoteProtocolError."""

    @abstractmethod
    def _expects(self, wire: Wire) -> bool:
        """Would the end of this stream, now, be a failure?"""

    @abstractmethod
    def _relay(self, wire: Wire, frame: Frame) -> None:
        """A frame for another party. Raises RemoteProtocolError."""

    def _peer_left(self, name: str) -> None:  # noqa: B027 - only the hub passes it on
        """A peer has finished."""

    def _moved(self) -> None:  # noqa: B027 - only the hub has frames that wait for others
        """A line may have room again."""


def _throw(rounds: Rounds[T], error: RoundsError, cause: BaseException | None = None) -> NoReturn:
    """Through the protocol, which may have something to clean up, and out again."""
    error.__cause__ = cause
    try:
        rounds.throw(error)
    except StopIteration:
        raise error from cause
    raise LocalProtocolError("a protocol went on after an error that ends it") from error


def _reason(error: BaseException) -> str:
    match error:
        case KeyboardInterrupt() | Cancelled():
            return "cancelled"
        case RemoteProtocolError():
            return "protocol"
        case PeerTimeout():
            return "timeout"
        case PeerFailed():
            return "peer"
        case _:
            return "error"
