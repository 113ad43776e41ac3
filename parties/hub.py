"""The label holder's end: the one party that listens. Who dials is known by certificate and pinned key alone.

What feature holders say to one another passes through here, sealed (`parties.relay`). While it waits for room
on its second line, reading, and with it every acknowledgement, goes on: nothing waits in a circle.
"""

import secrets
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from parties.address import Address
from parties.certs import Identity
from parties.channels import listen, named_by, server_options
from parties.crash import report
from parties.errors import ConfigError
from parties.limits import Limits
from parties.link import Link
from parties.news import FAILED, REASONS
from parties.relay import Relay
from parties.wire import Wire
from protos.line import CONTROL, Inbox, Line
from protos.party_pb2 import DESCRIPTOR, Frame
from protos.rounds import PeerFailed, PeerRestarted, PeerTimeout, RemoteProtocolError, RoundsError

SERVICE = DESCRIPTOR.services_by_name["Link"].full_name

BEYOND_WINDOW = 4 << 20
"""Bytes that may wait to be relayed beside a sender's window: its last frame, and what frames cost."""

COME_AGAIN, FINISHED = "come again", "the run is finished"

REFUSALS = {
    "connected": (grpc.StatusCode.ALREADY_EXISTS, "this party is connected already"),
    "later": (grpc.StatusCode.UNAVAILABLE, COME_AGAIN),
    "over": (grpc.StatusCode.FAILED_PRECONDITION, "that session is over"),
    "finished": (grpc.StatusCode.FAILED_PRECONDITION, FINISHED),
    "another": (grpc.StatusCode.ABORTED, "another incarnation"),
}
"""Why a stream is not taken, to callers whose certificate is good. Only after the last three it is of no use
to dial again in the same session."""


class Impostor(RemoteProtocolError):
    """A frame that claims to be from another party than the one whose certificate opened the stream."""


class Hub(Link):
    """Open it, `wait_for_peers`, `drive`, close. peers: each feature holder's pinned key (`sha256:<hex>`)."""

    def __init__(
        self,
        identity: Identity,
        listen: str,
        peers: Mapping[str, str],
        limits: Limits | None = None,
        plaintext: bool = False,
        say: Callable[[str], None] = lambda line: None,
    ) -> None:
        super().__init__(identity.party, peers, limits or Limits(), say)
        self._identity, self._pins = identity, dict(peers)
        self._address = Address.parse(listen)
        self._plaintext = plaintext
        if plaintext and not self._address.is_loopback:
            raise ConfigError(
                f"{listen}: plaintext is for experiments on 127.0.0.1 only; remove link.plaintext"
            )
        if self.name in self._pins or len({*self._pins.values(), identity.fingerprint}) <= len(self._pins):
            raise ConfigError("two parties have the same name or the same key; give each its own certificate")
        self.port = 0
        self._incarnation = 1 + secrets.randbelow(0xFFFFFFFF)
        self._relayed = Relay(self.name, self.peers, self.limits.window + BEYOND_WINDOW)
        self._refused: dict[str, str] = {}  # names of parties that came with another certificate, and why not
        self._stumbled = False  # an error in a stream's handler has been told
        self._server: grpc.Server | None = None
        self._health = health.HealthServicer(experimental_non_blocking=True)

    def open(self) -> None:
        """Start to listen. Raises NetworkError if the address cannot be had."""
        server = grpc.server(
            ThreadPoolExecutor(2 * len(self.peers) + 8, thread_name_prefix="hub"),
            # Twice the heartbeat's patience, which is the judge: a ping waits behind what fills a slow line.
            options=server_options(2 * self.limits.silence),
            maximum_concurrent_rpcs=4 * len(self.peers) + 16,
        )
        exchange = grpc.stream_stream_rpc_method_handler(self._exchange)  # bytes: `Link.hear` parses
        server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(SERVICE, {"Exchange": exchange}),)
        )
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        identity = None if self._plaintext else self._identity
        self.port = listen(server, self._address, identity, "link.listen")
        server.start()
        self._server = server
        for service in ("", SERVICE):
            self._health.set(service, health_pb2.HealthCheckResponse.SERVING)
        threading.Thread(target=self._beats, name="heartbeat", daemon=True).start()

    def wait_for_peers(
        self, within: float, on_wait: Callable[[list[str]], None] = lambda missing: None
    ) -> None:
        """Until every feature holder has dialled. on_wait: told who is missing, at first and at each change.

        Raises PeerTimeout that names the missing; those who came are told.
        """
        self._mail.phase = "gathering"
        known: list[str] | None = None

        def complete() -> bool:
            nonlocal known
            missing = [peer for peer in self.peers if not self._is_here(peer)]
            if missing != known:
                known = missing
                on_wait(missing)
            return not missing

        with self._changed:
            if not self._changed.wait_for(complete, within):
                missing = known or []
                self._state = "failed"
                for peer in missing:
                    self._tell(FAILED, f"{peer} absent")
                why = (
                    f"did not come within {within:g} s; is its `party` started there, and does its link.hub "
                    f"lead to port {self.port} of this machine?"
                )
                for refused in sorted({*self._refused}.intersection(missing)):
                    why += f" A caller named {refused} was refused: {self._refused[refused]}; ask {refused}"
                raise PeerTimeout(", ".join(missing), self._mail.phase, why)
        self._mail.phase = "handshake"

    def tell_finished(self, within: float) -> None:
        """Instead of `open` and gathering: answer every feature holder that calls that the run is finished;
        until all have called, at most so many seconds. Raises NetworkError if the address cannot be had."""
        with self._changed:
            self._state = "finished"  # before anybody can call
        self.open()
        with self._changed:
            self._changed.wait_for(lambda: self._gone.issuperset(self.peers), within)

    def _is_here(self, peer: str) -> bool:
        wire = self._wires.get(peer)
        return wire is not None and (wire.open or peer in self._mail.left)

    def close(self) -> None:
        """After a finished protocol: once all parties have finished (they may still need the relay), or the
        progress timeout is over. Otherwise at once, or as soon as the peers have been told.

        Raises RemoteProtocolError if a peer went on talking after the end.
        """
        try:
            self._health.enter_graceful_shutdown()
            self._farewell()
        finally:
            if self._server is not None:
                self._server.stop(grace=1.0).wait(3.0)
        if self._late is not None:
            raise self._late

    # ---- streams --------------------------------------------------------------------------------------

    def _exchange(self, incoming: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        with self._without_its_text(context):
            return self._opened(incoming, context)

    @contextmanager
    def _without_its_text(self, context: grpc.ServicerContext) -> Iterator[None]:
        """gRPC would tell the caller the text of what is raised here; it is for our own log."""
        try:
            yield
        except Exception as error:
            if context.code() is None:  # type: ignore[attr-defined]  # else it is how `abort` ends a call
                with self._changed:
                    if not self._stumbled:
                        self._said[report(error)] = None
                    self._stumbled = True
                context.abort(grpc.StatusCode.INTERNAL, "an error of the hub")
            raise

    def _opened(self, incoming: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        wire = self._admit(self._caller(context), context)
        if not context.add_callback(lambda: self.lost(wire)):
            self.lost(wire)

        def read() -> None:
            try:
                for data in incoming:
                    self.hear(wire, data)
            except grpc.RpcError:
                pass
            finally:
                self.lost(wire)

        threading.Thread(target=read, name=f"from {wire.neighbour}", daemon=True).start()
        return self._outgoing(wire, context)

    def _outgoing(self, wire: Wire, context: grpc.ServicerContext) -> Iterator[bytes]:
        with self._without_its_text(context):
            yield from wire.outgoing()
        if isinstance(wire.verdict, Impostor):
            context.abort(grpc.StatusCode.PERMISSION_DENIED, "not that party")
        if wire.verdict is not None:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "the stream broke the protocol")
        if wire.refusal:
            context.abort(*REFUSALS[wire.refusal])

    def _caller(self, context: grpc.ServicerContext) -> str:
        """Which party is this? By its certificate's name and its key, both: never by what it says."""
        if self._plaintext:
            claimed = dict(context.invocation_metadata()).get("party", "")
            name = claimed if isinstance(claimed, str) and claimed in self._pins else None
        else:
            name, refused = named_by(context, self._pins, self._identity)
            self._refused.update(refused)
        if name is None:
            context.abort(grpc.StatusCode.PERMISSION_DENIED, "not a party of this run")
        assert name is not None
        return name

    def _admit(self, name: str, context: grpc.ServicerContext) -> Wire:
        """A stream that has to say yet which line it is for; the newest of this caller only."""
        with self._changed:
            if self._closing.is_set():
                context.abort(*REFUSALS["later"])
            if name in self._callers:
                self._callers[name].cut()
            wire = Wire(self.name, name, self._changed, self.limits.window // 8, greeted=False)
            wire.abort = context.cancel
            self._callers[name] = wire
            return wire

    def _greet(self, wire: Wire, first: Frame) -> None:
        name = wire.neighbour
        del self._callers[name]
        before = self._wires.get(name)
        same = before is not None and before.line.session == first.session
        if first.incarnation not in (0, self._incarnation):
            self._refuse(wire, "another")
        elif before is not None and same and name not in self._gone:
            first.incarnation = self._incarnation  # it could not know it before our answer
            wire.beat()
            self._attach(wire, before.line, first)
        elif same or first.incarnation:
            self._refuse(wire, "over")
        elif before is not None and before.open:
            self._refuse(wire, "connected")  # if that one is dead, we shall notice soon
        elif self._state == "finished" and (before is None or self._expects(before)):
            self._refuse(wire, "finished")
            self._gone.add(name)
        elif self._state == "gathering":
            self._forget(name)
            first.incarnation = self._incarnation
            wire.beat()
            self._attach(wire, Line(first.session, self._incarnation), first)
        else:
            self._refuse(wire, "later")
            if before is not None and self._expects(before):
                error = PeerRestarted(name, self._mail.phase, REASONS["restarted"])
                self._fail(error, name, "restarted")

    def _refuse(self, wire: Wire, why: str) -> None:
        wire.refusal = why
        wire.end()

    # ---- what differs from a feature holder -----------------------------------------------------------

    def _wire_to(self, peer: str) -> Wire:
        return self._wires[peer]

    def _start(self) -> None:
        with self._changed:
            for peer in self.peers:
                if peer not in self._wires:
                    raise PeerFailed(peer, self._mail.phase, "it is not connected")
            super()._start()

    def _check_sender(self, wire: Wire, frame: Frame) -> None:
        if frame.sender != wire.neighbour:
            raise Impostor(f"{wire.neighbour!r} sent a frame as if it were {frame.sender!r}")

    def _check_news(self, wire: Wire, name: str) -> None:
        if name != wire.neighbour:
            raise Impostor(f"{wire.neighbour!r} tells the end of {name!r}")

    def _expects(self, wire: Wire) -> bool:
        name = wire.neighbour
        return name not in self._mail.left and name not in self._gone and not self._closing.is_set()

    def _look_at(self, wire: Wire) -> str:
        return "see its own output, and the line to it"

    def _relay(self, wire: Wire, frame: Frame) -> None:
        source, target = frame.sender, frame.receiver
        if target not in self._pins or target == source or frame.kind.startswith(CONTROL):
            raise RemoteProtocolError(f"{source!r} sent a frame for {target!r}, which cannot be relayed")
        if source in self._mail.left:
            raise RemoteProtocolError(f"{source!r} sent {frame.kind!r} after the end")
        if target in self._mail.left:
            raise RemoteProtocolError(f"{source!r} sent {frame.kind!r} to {target!r}, which has finished")
        if target not in self._gone:
            self._relayed.take(wire, frame)

    def _moved(self) -> None:
        if self._state != "gathering":  # until then a feature holder may start anew
            self._relayed.pass_on(self._wires, self.limits.window, self._bound)

    def _peer_left(self, name: str) -> None:
        self._relayed.left(name)

    def _fail(self, error: RoundsError, peer: str, reason: str) -> None:
        self._wires[peer].end()
        if self._state == "gathering":  # nothing has begun: it may dial again
            self._forget(peer)
            return
        self._gone.add(peer)
        self._relayed.drop(peer, self._wires)
        super()._fail(error, peer, reason)
        self._tell(FAILED, f"{peer} {reason}")

    def _forget(self, peer: str) -> None:
        self._wires.pop(peer, None)
        self._mail.left.discard(peer)
        self._mail.inboxes[peer] = Inbox(peer, self.limits.inbox)
        self._relayed.forget(peer)

    def _settled(self) -> bool:
        if self._state != "finished":
            return super()._settled()
        return not any(map(self._expects, self._wires.values())) and super()._settled()
