"""One end of a line between two parties, without the wire: frames in, messages out, exactly once, in order.

`parties.link` puts these frames on gRPC streams, `protos.simulator` on a line that loses them.
"""

from collections import deque
from collections.abc import Iterable, Iterator

from protos.party_pb2 import Frame
from protos.rounds import RemoteProtocolError

CHUNK = 512 << 10
"""Payload bytes a frame: large enough that per-frame cost vanishes, small enough to interleave."""

MOST_PAYLOAD = 1 << 20
"""The most payload bytes we accept in one frame (a peer may choose larger chunks than ours)."""

HEARTBEAT = ""
"""The kind of a frame that carries only an acknowledgement; its sequence is 0."""

CONTROL = "link/"
"""Kinds that begin so are the link's own. They need no run: a party may give up before it has one."""

LONGEST_NAME = 64
"""Characters of a kind or a party's name."""

FRAME_COST = 256
"""Bytes charged for holding a frame beside its payload: a million empty messages are not free either. About
what Python needs for one."""


def chunks(payload: bytes | Iterable[bytes], size: int = CHUNK) -> Iterator[tuple[bytes, bool]]:
    """Cut a payload into (chunk, is it the last); an empty payload is one empty chunk.

    A chunk is at most an eighth longer than `size`: a frame more for a header's few bytes would cost as much
    as all the rest of a message.
    """
    parts = [payload] if isinstance(payload, bytes) else payload
    held: bytes | None = None
    for part in parts:
        start = 0
        while start < len(part):
            if held is not None:
                yield held, False
            end = start + size if len(part) - start > size + size // 8 else len(part)
            held = part[start:end]
            start = end
    yield held or b"", True


class Gap(RemoteProtocolError):
    """Frames are missing on the line: it must be cut and resumed."""


class Line:
    """The state of one end of one line: what was sent and not yet acknowledged, and what was received.

    session, incarnation: stamped on, and required of, every frame.
    """

    def __init__(self, session: int = 0, incarnation: int = 0) -> None:
        self.run = b""
        self._claimed = b""  # the run that the peer's frames name: it may bind before we do
        self.session = session
        self.incarnation = incarnation
        self._sent = 0
        self._received = 0
        self._withheld: dict[int, None] = {}  # in order
        self._unacknowledged: deque[tuple[Frame, int]] = deque()  # and its payload's bytes
        self.unacknowledged_bytes = 0
        self._resumed = self._resent = 0

    def post(self, sender: str, receiver: str, kind: str, chunk: int, last: bool, payload: bytes) -> Frame:
        """Number a chunk and keep it until it is acknowledged."""
        self._sent += 1
        frame = Frame(
            run=self.run,
            session=self.session,
            incarnation=self.incarnation,
            sender=sender,
            receiver=receiver,
            sequence=self._sent,
            acknowledgement=self.acknowledgement,
            kind=kind,
            chunk=chunk,
            last=last,
            payload=payload,
        )
        self._unacknowledged.append((frame, len(payload)))
        self.unacknowledged_bytes += len(payload)
        return frame

    def heartbeat(self, sender: str, receiver: str) -> Frame:
        """A frame that only acknowledges; losing it loses nothing."""
        return Frame(
            run=self.run,
            session=self.session,
            incarnation=self.incarnation,
            sender=sender,
            receiver=receiver,
            acknowledgement=self.acknowledgement,
            kind=HEARTBEAT,
        )

    @property
    def acknowledgement(self) -> int:
        """What we tell the other end: all frames up to this one need not be kept any longer."""
        return next(iter(self._withheld)) - 1 if self._withheld else self._received

    def withhold(self, sequence: int) -> None:
        """Do not acknowledge this frame, the newest, yet: there is no room to relay it on its second line."""
        self._withheld[sequence] = None

    def release(self, sequence: int) -> None:
        """The frame may be acknowledged (as soon as all before it may be)."""
        self._withheld.pop(sequence, None)

    def accept(self, frame: Frame) -> bool:
        """Take note of a frame from the other end; is it the next one, to be delivered?

        A duplicate is answered False. Raises RemoteProtocolError, the state unchanged, for a frame of
        another run, session or incarnation, an acknowledgement of what was never sent, an oversize
        payload, or a gap in the sequence.
        """
        if max(len(frame.run), len(frame.kind), len(frame.sender), len(frame.receiver)) > LONGEST_NAME:
            raise RemoteProtocolError("a frame whose run, kind, sender or receiver is too long")
        if frame.session != self.session or frame.incarnation != self.incarnation:
            raise RemoteProtocolError(f"a frame of another session or incarnation from {frame.sender!r}")
        control = frame.kind.startswith(CONTROL)
        # A frame sent before the run was bound may come again after it.
        seen = frame.sequence <= self._received
        if not (seen or control) and frame.run != (self.run or self._claimed or frame.run):
            raise RemoteProtocolError(f"a frame of another run from {frame.sender!r}")
        if frame.acknowledgement > self._sent:
            raise RemoteProtocolError(f"{frame.sender!r} acknowledges a frame that was never sent")
        size = len(frame.payload)
        if size > MOST_PAYLOAD:
            raise RemoteProtocolError(f"a frame of {size} bytes from {frame.sender!r}")
        if frame.sequence > self._received + 1:
            raise Gap(f"{frame.sequence - self._received - 1} frames are missing on the line")
        while self._unacknowledged and self._unacknowledged[0][0].sequence <= frame.acknowledgement:
            self.unacknowledged_bytes -= self._unacknowledged.popleft()[1]
        if frame.sequence != self._received + 1:
            return False
        self._received += 1
        if not control:
            self._claimed = frame.run
        return True

    @property
    def counts(self) -> tuple[int, int, int, int]:
        """Frames numbered here, and taken from there, each once (heartbeats have no number); how often
        resumed, and frames sent once more."""
        return self._sent, self._received, self._resumed, self._resent

    def bind(self, run: bytes) -> None:
        """Every frame from here on carries this run id. RemoteProtocolError if the peer is in another run."""
        if self._claimed not in (b"", run):
            raise RemoteProtocolError("the other end of the line is in another run")
        self.run = run

    def resend(self) -> list[Frame]:
        """After a cut: what the other end may not have. The same bytes, but for the acknowledgement."""
        frames = [frame for frame, _ in self._unacknowledged]
        self._resumed += 1
        self._resent += len(frames)
        for frame in frames:
            frame.acknowledgement = self.acknowledgement
        return frames


class Inbox:
    """Puts the chunks from one sender together into messages and holds them, within a bound.

    at_most: bytes that may wait here in all. While a `Receive` waits, its own bound holds as well.
    """

    def __init__(self, sender: str, at_most: int) -> None:
        self.sender = sender
        self._at_most = at_most
        self._held = 0
        self._whole: deque[tuple[str, bytes, int]] = deque()
        self._parts: list[bytes] = []
        self._part_bytes = 0
        self._kind = ""

    def put(self, frame: Frame) -> bool:
        """Take the next chunk; does it complete a message? Raises RemoteProtocolError, the chunk unused."""
        if frame.chunk != len(self._parts) or (self._parts and frame.kind != self._kind) or not frame.kind:
            raise RemoteProtocolError(f"{self.sender!r} mixed up the chunks of its message {frame.kind!r}")
        payload = frame.payload  # once: protobuf copies a field of bytes each time it is read
        cost = len(payload) + FRAME_COST
        if self._held + cost > self._at_most:
            raise RemoteProtocolError(
                f"{self.sender!r} sent more than the {self._at_most} bytes that may wait here unread"
            )
        if not frame.last and not payload:
            raise RemoteProtocolError(f"{self.sender!r} sent an empty chunk inside a message")
        self._held += cost
        self._part_bytes += len(payload)
        self._parts.append(payload)
        self._kind = frame.kind
        if not frame.last:
            return False
        whole = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
        self._whole.append((frame.kind, whole, self._part_bytes + FRAME_COST * len(self._parts)))
        self._parts, self._part_bytes = [], 0
        return True

    def take(self, kind: str, at_most: int) -> bytes | None:
        """The next message if it is here, None if it is not yet; it must be of this kind and size.

        Raises RemoteProtocolError as soon as the part that is here shows another kind or a size over
        `at_most`.
        """
        there, size = self._kind, self._part_bytes
        if self._whole:
            there, size = self._whole[0][0], len(self._whole[0][1])
        elif not self._parts:
            return None
        if there != kind:
            raise RemoteProtocolError(f"expected {kind!r} from {self.sender!r}, got {there!r}")
        if size > at_most:
            raise RemoteProtocolError(f"{kind!r} from {self.sender!r} is over its {at_most} bytes")
        if not self._whole:
            return None
        _, payload, cost = self._whole.popleft()
        self._held -= cost
        return payload

    @property
    def next_kind(self) -> str | None:
        """The kind of the next message, None if nothing of it is here."""
        if self._whole:
            return self._whole[0][0]
        return self._kind if self._parts else None

    def __bool__(self) -> bool:
        """Is anything here, whole or in part?"""
        return bool(self._whole or self._parts)
