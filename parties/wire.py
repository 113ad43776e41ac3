"""One stream to a neighbour, without gRPC: frames to write, when it was last heard, what it acknowledged."""

import queue
import threading
from collections.abc import Callable, Iterator
from typing import Literal

from protos.line import Line
from protos.party_pb2 import Frame
from protos.rounds import RemoteProtocolError


class Wire:
    """Used under the link's condition `changed`, but for `outgoing`, which the stream's writer runs.

    owner, neighbour: the parties at this and at the other end. acknowledge_every: bytes. line: what the
    stream carries; a stream that breaks is followed by another wire for the same line.
    """

    def __init__(
        self,
        owner: str,
        neighbour: str,
        changed: threading.Condition,
        acknowledge_every: int,
        line: Line | None = None,
        greeted: bool = True,
    ) -> None:
        self.neighbour = neighbour
        self.line = line or Line()
        self.greeted = greeted  # has its first frame told whose stream it is?
        self.open = True  # may we write, and hear?
        self.broken = ""  # the word of `parties.news` for how it ended against our will
        self.heard = threading.Event()  # the first frame, or the end
        self.quiet = 0.0  # seconds of our own heartbeats since the neighbour was last heard, or it broke
        self.sent = self.received = 0  # bytes, those of the wires before included
        self.verdict: RemoteProtocolError | None = None  # how the neighbour broke the protocol
        self.refusal = ""  # why the hub does not take the stream
        self.abort: Callable[[], None] = lambda: None  # ends the stream at once, whatever waits
        self._owner, self._changed, self._acknowledge_every = owner, changed, acknowledge_every
        self._owed = 0
        self._beat_waits = False
        self._queue: queue.SimpleQueue[Frame | Literal["beat", "end"]] = queue.SimpleQueue()

    def post(
        self, sender: str, receiver: str, kind: str, payload: bytes, chunk: int = 0, last: bool = True
    ) -> None:
        """Number a chunk of a message and let it be written, here or on the line's next wire."""
        frame = self.line.post(sender, receiver, kind, chunk, last, payload)
        if self.open:
            self._write(frame)

    def follow(self, before: "Wire | None") -> None:
        """Go on where that wire of the same line ended: what it may not have brought across comes again."""
        if before is not None:
            self.sent += before.sent
            self.received += before.received
        self.greeted = True
        self.heard.set()
        for frame in self.line.resend() if before is not None else ():
            self._write(frame)

    def _write(self, frame: Frame) -> None:
        self.sent += frame.ByteSize()
        self._queue.put(frame)  # bytes only where it is written: who dials again and again costs no memory

    def beat(self) -> None:
        """At most one heartbeat waits: a writer that is stuck must not pile them up."""
        if not self._beat_waits:
            self._beat_waits = True
            self._queue.put("beat")

    def owe(self, size: int) -> None:
        """So many bytes more may be acknowledged: the neighbour's window must not wait for the heartbeat."""
        self._owed += size
        if self._owed >= self._acknowledge_every:
            self._owed = 0
            self.beat()

    def end(self) -> None:
        """Write what waits, then no more."""
        if self.open:
            self.open = False
            self._queue.put("end")

    def cut(self) -> None:
        """No more, at once: nobody reads at the other end."""
        if self.open:
            self.end()
            self.abort()

    def outgoing(self) -> Iterator[bytes]:
        """What the stream's writer takes, waiting for more until the end."""
        while (item := self._queue.get()) != "end":
            if isinstance(item, Frame):
                yield item.SerializeToString()
                continue
            with self._changed:  # made only now: it acknowledges what came while it waited
                self._beat_waits = False
                beat = self.line.heartbeat(self._owner, self.neighbour).SerializeToString()
                self.sent += len(beat)
            yield beat
