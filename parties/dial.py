"""A feature holder's end: it dials the hub, and listens to nobody.

TLS checks that the hub's certificate has the hub's name and comes from the CA. It cannot check the pinned
key (gRPC for Python does not show a client the server's certificate); the handshake's signatures do, before
any data moves. A stream that breaks is dialled again for as long as the hub may be away.
"""

import random
import secrets
import threading
import time
from collections.abc import Callable, Collection

import grpc

from parties.address import Address
from parties.certs import Identity
from parties.channels import dial
from parties.errors import ConfigError, IdentityError, NetworkError, RunFinished
from parties.hub import COME_AGAIN, FINISHED, SERVICE
from parties.limits import FAREWELL, Limits
from parties.link import Link
from parties.news import REASONS
from parties.probe import look_at_hub
from parties.wire import Wire
from protos.line import Line
from protos.party_pb2 import Frame
from protos.rounds import PeerFailed, PeerRestarted, RemoteProtocolError

FIRST_DELAY, LONGEST_DELAY = 0.1, 5.0
"""Seconds between attempts: half as much again each time, times a random 0.5 to 1.5."""

ATTEMPT = 10.0
"""Seconds for one attempt."""

PROBE = 5.0
"""Seconds for one look at why an attempt failed."""

OVER = {
    grpc.StatusCode.PERMISSION_DENIED: "it does not take our certificate any more; compare run.toml there",
    grpc.StatusCode.FAILED_PRECONDITION: "it has given us up, or met another process of ours; see its output",
    grpc.StatusCode.INVALID_ARGUMENT: "it refused what we sent; compare versions, and see its output",
}
"""Why it is of no use to dial again in this session."""


class Spoke(Link):
    """peers: the other feature holders, whom the hub relays to and from. Open it, `drive`, close."""

    def __init__(
        self,
        identity: Identity,
        hub_name: str,
        address: str,
        peers: Collection[str] = (),
        limits: Limits | None = None,
        plaintext: bool = False,
        say: Callable[[str], None] = lambda line: None,
    ) -> None:
        super().__init__(identity.party, (hub_name, *peers), limits or Limits(), say)
        if len({self.name, *self.peers}) <= len(self.peers):
            raise ConfigError(f"{self.name}: a party cannot be its own peer, nor be there twice")
        self._identity, self._hub = identity, hub_name
        self._address = Address.parse(address)
        self._plaintext = plaintext
        if plaintext and not self._address.is_loopback:
            raise ConfigError(
                f"{address}: plaintext is for experiments on 127.0.0.1 only; remove link.plaintext"
            )
        self._channel: grpc.Channel | None = None
        self._call: grpc.Call | None = None
        self._reader: threading.Thread | None = None
        self._line = Line(session=1 + secrets.randbelow(0xFFFFFFFF))
        self._broken = threading.Event()  # there is something to dial for, or the end
        self._dialler = threading.Thread(target=self._keep_dialled, name="dial", daemon=True)
        self._why = ""  # the last attempt failed

    def open(self, within: float) -> None:
        """Dial until the hub admits us, at most `within` seconds.

        Raises NetworkError (nobody answers; not a hub) and, at once, IdentityError (TLS or the hub refuses)
        and RunFinished.
        """
        deadline, delay = time.monotonic() + within, FIRST_DELAY
        while not self._dial(deadline):
            why = self._why_not(deadline)
            pause = delay * random.uniform(0.5, 1.5)  # noqa: S311 - so that parties do not dial in step
            if time.monotonic() + pause > deadline:
                raise NetworkError(f"{why} (waited {within:g} s)")
            time.sleep(pause)
            delay = min(delay * 1.5, LONGEST_DELAY)
        threading.Thread(target=self._beats, name="heartbeat", daemon=True).start()
        self._dialler.start()

    def close(self) -> None:
        """As soon as the hub has all that we sent. Raises RemoteProtocolError for talk after the end."""
        try:
            self._farewell()
            self._broken.set()
            if self._reader is not None:
                self._reader.join(FAREWELL)
        finally:
            self._hang_up()
        if self._dialler.is_alive():
            self._dialler.join(FAREWELL)  # it hangs up what it was dialling
        if self._late is not None:
            raise self._late

    # ---- the stream -----------------------------------------------------------------------------------

    def _dial(self, deadline: float) -> bool:
        """One attempt: are we admitted?"""
        wire = Wire(self.name, self._hub, self._changed, self.limits.window // 8, self._line, greeted=False)
        wire.beat()  # tells which line the stream is for
        identity = None if self._plaintext else self._identity
        # Twice the heartbeat's patience, which is the judge: a ping waits behind what fills a slow line.
        channel = self._channel = dial(self._address, self._hub, identity, 2 * self.limits.silence)
        exchange = channel.stream_stream(f"/{SERVICE}/Exchange", None, None)  # bytes: `Link.hear` parses
        metadata = (("party", self.name),) if self._plaintext else ()
        call = self._call = exchange(wire.outgoing(), metadata=metadata)
        wire.abort = call.cancel

        def read() -> None:
            try:
                for data in call:
                    self.hear(wire, data)
            except grpc.RpcError:
                pass
            finally:
                self.lost(wire)

        self._reader = threading.Thread(target=read, name=f"from {self._hub}", daemon=True)
        self._reader.start()
        wire.heard.wait(min(ATTEMPT, max(deadline - time.monotonic(), 0.0)))
        with self._changed:
            if wire.greeted and wire.open:
                return True
            wire.end()
        return False

    def lost(self, wire: Wire, reason: str = "lost") -> None:
        super().lost(wire, reason)
        self._broken.set()

    def _keep_dialled(self) -> None:
        """The thread that dials whenever the stream has broken, until the hub is given up or the end."""
        delay, since = FIRST_DELAY, time.monotonic()
        while self._broken.wait() and not self._closing.is_set():
            self._broken.clear()
            if time.monotonic() - since > ATTEMPT:  # it held for a while
                delay = FIRST_DELAY
            while self._is_away() and not self._is_over():
                self._hang_up()
                if self._closing.wait(delay * random.uniform(0.5, 1.5)):  # noqa: S311 - as above
                    break
                delay = min(delay * 1.5, LONGEST_DELAY)
                until = time.monotonic() + ATTEMPT
                if self._dial(until):
                    since = time.monotonic()
                elif self._is_away() and not self._is_over():
                    try:
                        self._why = self._why_not(until + PROBE)
                    except (IdentityError, NetworkError) as error:
                        self._why = str(error)
        self._hang_up()

    def _is_away(self) -> bool:
        with self._changed:
            wire = self._wires[self._hub]
            return not wire.open and self._expects(wire)

    def _is_over(self) -> bool:
        """Did the hub end the newest stream with a status after which it is of no use to dial again?"""
        code = self._call.code() if self._call is not None and self._call.done() else None  # type: ignore[attr-defined]
        if code is not grpc.StatusCode.ABORTED and code not in OVER:
            return False
        with self._changed:
            self._gone.add(self._hub)
            if code is grpc.StatusCode.ABORTED:
                restarted = PeerRestarted(self._hub, self._mail.phase, REASONS["restarted"])
                self._fail(restarted, self._hub, "restarted")
            else:
                self._fail(PeerFailed(self._hub, self._mail.phase, OVER[code]), self._hub, "lost")
            self._changed.notify_all()
        return True

    def _why_not(self, deadline: float) -> str:
        """Why did the attempt fail? Answers the reason if another attempt may help, else raises it."""
        call = self._call
        assert call is not None
        done = call.done()  # type: ignore[attr-defined]
        code, text = (call.code(), call.details()) if done else (None, None)
        self._hang_up()
        if code is grpc.StatusCode.PERMISSION_DENIED:
            raise IdentityError(
                f"permission denied by the hub at {self._address}: {self._identity.certificate_file} is not "
                f"the certificate that its run.toml pins for {self.name}, or denied there; compare run.toml"
            )
        if code is grpc.StatusCode.ALREADY_EXISTS:
            return f"the hub at {self._address} has another process connected as {self.name}; stop that one"
        if code is grpc.StatusCode.FAILED_PRECONDITION and text == FINISHED:
            raise RunFinished(
                f"the hub at {self._address} is ending a finished run; begin the next in a minute"
            )
        if code is grpc.StatusCode.FAILED_PRECONDITION:
            raise NetworkError(f"the hub at {self._address} is in another run; let all parties start anew")
        if code is grpc.StatusCode.UNAVAILABLE and text == COME_AGAIN:
            return f"the hub at {self._address} is still ending an earlier run; see its output"
        if code is grpc.StatusCode.RESOURCE_EXHAUSTED:
            return f"the hub at {self._address} has too many callers at once; see its output"
        if code in (None, grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED, grpc.StatusCode.OK):
            return self._probe(min(PROBE, max(deadline - time.monotonic(), 0.5)))
        told = ascii((text or "")[:80])  # whoever that is, it does not write on our terminal
        raise NetworkError(f"{self._address} answers, but not as a hub ({code.name}: {told}); check link.hub")

    def _probe(self, within: float) -> str:
        """gRPC says UNAVAILABLE for all from a closed port to an expired certificate: look for ourselves."""
        try:
            look_at_hub(self._address, self._hub, None, None if self._plaintext else self._identity, within)
        except NetworkError as error:
            return str(error)
        return (
            f"{self._address} takes connections but not our stream; is the hub stopping, or another program?"
        )

    def _hang_up(self) -> None:
        if self._call is not None:
            self._call.cancel()  # type: ignore[no-untyped-call]
        if self._channel is not None:
            self._channel.close()

    # ---- what differs from the hub --------------------------------------------------------------------

    def _wire_to(self, peer: str) -> Wire:
        return self._wires[self._hub]

    def _start(self) -> None:
        with self._changed:
            if not self._wires:
                raise PeerFailed(self._hub, self._mail.phase, "it is not connected")
            super()._start()

    def _check_sender(self, wire: Wire, frame: Frame) -> None:
        if frame.sender not in self._mail.inboxes:
            raise RemoteProtocolError(
                f"{self._hub!r} relayed a frame from {frame.sender!r}, which is no party here"
            )

    def _check_news(self, wire: Wire, name: str) -> None:
        """The hub is the one that knows who is there."""

    def _expects(self, wire: Wire) -> bool:
        """The hub stays until all have finished, for its relay; we need it until it has all that we sent."""
        if self._closing.is_set() or self._hub in self._gone or wire.verdict or self._mail.failure:
            return False
        return self._state in ("gathering", "running") or wire.line.unacknowledged_bytes > 0

    def _greet(self, wire: Wire, first: Frame) -> None:
        self._line.incarnation = self._line.incarnation or first.incarnation
        self._attach(wire, self._line, first)

    def _look_at(self, wire: Wire) -> str:
        return self._why or f"see whether it runs, and the line to {self._address}"

    def _relay(self, wire: Wire, frame: Frame) -> None:
        raise RemoteProtocolError(f"{self._hub!r} sent a frame for {frame.receiver!r} to us")
