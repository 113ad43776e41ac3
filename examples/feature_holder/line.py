"""The line to the hub: frames on one stream, messages on frames (docs/wire.md, "Frames and messages")."""

import queue
import secrets
import threading
import time
from pathlib import Path

import grpc
import party_pb2 as wire
import party_pb2_grpc

CHUNK = 512 << 10  # bytes of payload a frame
BEAT, SILENCE, PROGRESS = 1.0, 10.0, 600.0  # seconds


class Refused(Exception):
    """Why this party stops, in one line."""


def require(fine, why):
    if not fine:
        raise Refused(why)


class Line:
    """Sends and receives whole messages. A line that breaks ends the run: this party does not resume."""

    def __init__(self, me, hub, channel):
        self.me, self.hub, self.phase = me, hub, "connecting"
        self.session, self.incarnation = 1 + secrets.randbelow(0xFFFFFFFF), 0  # its own, the hub's
        self.run, self.hub_run = b"", b""  # as we know it, as the last frame said
        self.sent = self.received = self.acknowledged = 0
        self.heard, self.admitted = time.monotonic(), threading.Event()
        self.outbox, self.inbox = queue.SimpleQueue(), queue.SimpleQueue()
        self.call = party_pb2_grpc.LinkStub(channel).Exchange(iter(self.outbox.get, None))
        for loop in (self._read, self._beat):
            threading.Thread(target=loop, daemon=True).start()

    def send(self, kind, payload=b""):
        starts = range(0, max(len(payload), 1), CHUNK)
        for chunk, start in enumerate(starts):
            self.sent += 1
            part, last = payload[start : start + CHUNK], chunk == len(starts) - 1
            self.outbox.put(self._frame(sequence=self.sent, kind=kind, chunk=chunk, last=last, payload=part))

    def receive(self, kind, size, exact=True, within=PROGRESS):
        """The hub's next message: of this kind and of `size` bytes, or of so many at most."""
        payload, chunk, deadline = b"", 0, time.monotonic() + within
        while True:
            try:
                frame = self.inbox.get(timeout=BEAT)
            except queue.Empty:
                now = time.monotonic()
                require(now - self.heard < SILENCE, f"{self.hub} is silent during {self.phase}")
                require(now < deadline, f"{self.hub} sent no {kind!r} within {within:g} s; see its output")
                continue
            if isinstance(frame, Exception):
                raise frame
            require(frame.kind != "link/failed", f"a party gave up: {frame.payload[:80]!a}")
            require((frame.kind, frame.chunk) == (kind, chunk), f"expected {kind!r}, got {frame.kind!a}")
            require(frame.sender == self.hub and frame.receiver == self.me, "a frame that is not for us")
            require(frame.run == self.run or not self.run, "a frame of another run")
            payload, chunk, self.hub_run = payload + frame.payload, chunk + 1, frame.run
            require(len(payload) <= size, f"{kind!r} from {self.hub} is over its {size} bytes")
            if frame.last:
                require(len(payload) == size or not exact, f"{len(payload)} bytes of {kind!r}, not {size}")
                return payload

    def bind(self, run):
        """From here on every frame is of this run."""
        require(self.hub_run == run, f"{self.hub} is in another run")
        self.run = run

    def end(self, kind, told, within):
        """The last word; then wait until the hub has all that was sent."""
        self.send(kind, told.encode())
        deadline = time.monotonic() + within
        while self.acknowledged < self.sent and time.monotonic() < deadline and not self.call.done():
            time.sleep(0.01)
        self.outbox.put(None)

    def _frame(self, **fields):
        return wire.Frame(
            run=self.run,
            session=self.session,
            incarnation=self.incarnation,
            sender=self.me,
            receiver=self.hub,
            acknowledgement=self.received,
            **fields,
        )

    def _beat(self):
        self.outbox.put(self._frame())  # opens the session
        while not self.call.done():
            time.sleep(BEAT)
            if self.admitted.is_set():
                self.outbox.put(self._frame())

    def _read(self):
        try:
            for frame in self.call:
                self.heard = time.monotonic()
                self.incarnation = self.incarnation or frame.incarnation
                numbers = (frame.session, frame.incarnation)
                require(numbers == (self.session, self.incarnation), "a frame of another session")
                self.acknowledged = max(self.acknowledged, frame.acknowledgement)
                require(frame.sequence <= self.received + 1, "frames are missing on the line")
                if frame.sequence == self.received + 1:  # not a heartbeat (0), nor one that came before
                    self.received += 1
                    self.inbox.put(frame)
                self.admitted.set()
            end = Refused(f"{self.hub} closed the line")
        except grpc.RpcError as error:
            end = Refused(f"the line to {self.hub} ended: {error.code().name}, {error.details()[:120]!a}")
        except Refused as error:
            end = error
        self.inbox.put(end)


def dial(me, hub, link, tls):
    """Try until the hub admits us: its first frame, a heartbeat, says so."""
    ca, key, certificate = (Path(tls[name]).read_bytes() for name in ("ca", "key", "certificate"))
    credentials = grpc.ssl_channel_credentials(ca, key, certificate)
    options = [("grpc.ssl_target_name_override", hub), ("grpc.max_receive_message_length", 4 << 20)]
    deadline = time.monotonic() + link.get("wait", 60)
    while True:
        line = Line(me, hub, grpc.secure_channel(link["hub"], credentials, options))
        while not line.admitted.wait(0.1) and line.inbox.empty():
            require(time.monotonic() < deadline, f"no answer from {hub} at {link['hub']}")
        if line.admitted.is_set():
            return line
        why = str(line.inbox.get())
        require("PERMISSION_DENIED" not in why and time.monotonic() < deadline, why)
        time.sleep(0.5 + secrets.randbelow(1000) / 1000)
