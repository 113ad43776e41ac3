"""A party's end of its lines in virtual time, with what `parties.link`, `hub` and `dial` do over gRPC: they
gather, notice that a peer is away and wait for it, resume a line, and tell one another how they end.

What differs: there is no TLS, frames travel on `protos.lossy`, and who is cut off is told when it happens
(at once or after `silence`) where the real link counts its heartbeats.
"""

import random
from collections.abc import Callable, Iterable
from functools import partial
from typing import Final, Literal

from protos.line import CONTROL, Gap, Inbox, Line
from protos.lossy import Clock, Lossy
from protos.party_pb2 import Frame
from protos.rounds import (
    PeerFailed,
    PeerRestarted,
    PeerTimeout,
    RemoteProtocolError,
    RoundsError,
    Traffic,
)

WAIT: Final = 300.0
"""Virtual seconds for the first meeting."""

AWAY: Final = 60.0
"""For which a peer that was cut off or died may be away."""

SILENCE: Final = 10.0
"""After which a peer that says nothing counts as cut off."""

PROGRESS: Final = 600.0
"""For which a peer that is there may take for its next message."""

FAREWELL: Final = 2.0
WINDOW: Final = 64 << 10
INBOX: Final = 1 << 26
FIRST_DELAY, LONGEST_DELAY = 0.1, 5.0

DONE, FAILED = CONTROL + "done", CONTROL + "failed"
ERRORS: dict[str, type[PeerFailed]] = {"restarted": PeerRestarted, "absent": PeerTimeout}


class End:
    """One end of the line to a neighbour. number: of the neighbour's link."""

    def __init__(self, line: Line, number: int) -> None:
        self.line, self.number = line, number
        self.away = self.gone = False  # gone: away for too long
        self.episode = 0  # counts absences, so that a deadline knows whether it is still its own
        self.resending = False


class Net:
    """The links of all parties as they are now. refused: frames of an earlier link that came late."""

    def __init__(self, paths: Lossy, hub: str, clock: Clock, draw: random.Random, delay: float) -> None:
        self.paths, self.hub, self.clock, self.draw = paths, hub, clock, draw
        self.resend_after = max(0.5, 2 * delay)
        self.links: dict[str, VirtualLink] = {}
        self.refused = 0
        self._numbers = 0

    def number(self) -> int:
        self._numbers += 1
        return self._numbers

    def broken(self, one: str, other: str, at_once: bool) -> None:
        """The stream between two parties has ended, if there was one."""
        for name, neighbour in ((one, other), (other, one)):
            if link := self.links.get(name):
                link.broken(neighbour, self.draw.random() * (0.1 if at_once else SILENCE))

    def vanish(self, name: str) -> None:
        """A party's process is gone, or its link was closed."""
        link = self.links.pop(name)
        link.state = "closed"
        at_once = self.draw.random() < 0.8  # the system ends the streams of a process that dies
        for neighbour in link.ends:
            if other := self.links.get(neighbour):
                other.broken(name, self.draw.random() * (0.1 if at_once else SILENCE), link.number)


class VirtualLink:
    """One attempt's. peers: every other party. changed: called where a driver may want to look again."""

    def __init__(self, net: Net, name: str, peers: Iterable[str], changed: Callable[[], None]) -> None:
        self.net, self.name, self.peers, self._changed = net, name, tuple(peers), changed
        self.number = net.number()
        self.state: Literal["gathering", "running", "finished", "failed", "closed"] = "gathering"
        self.phase = "handshake"
        self.ends: dict[str, End] = {}
        self.inboxes = {peer: Inbox(peer, INBOX) for peer in self.peers}
        self.left: set[str] = set()
        self.failure: RoundsError | None = None
        self.traffic = Traffic(0, 0)
        self._relayed: list[tuple[End, Frame]] = []  # not before all are here
        self._run = b""
        self._closed: Callable[[], None] | None = None
        net.links[name] = self
        if name == net.hub:
            net.clock.after(WAIT, self._nobody_came)
        else:
            self._dial(net.clock.now + WAIT, FIRST_DELAY)

    @property
    def is_hub(self) -> bool:
        return self.name == self.net.hub

    @property
    def neighbours(self) -> tuple[str, ...]:
        return self.peers if self.is_hub else (self.net.hub,)

    # ---- what a driver asks for ------------------------------------------------------------------------

    def bind(self, run: bytes) -> None:
        self._run = run
        for end in self.ends.values():
            end.line.bind(run)

    def has_room(self, receiver: str) -> bool:
        return self._end(receiver).line.unacknowledged_bytes <= WINDOW

    def send(self, receiver: str, kind: str, chunk: int, last: bool, payload: bytes) -> None:
        self.traffic = Traffic(self.traffic.sent + len(payload), self.traffic.received)
        self._post(receiver if self.is_hub else self.net.hub, self.name, receiver, kind, chunk, last, payload)

    def finish(self) -> None:
        self.state = "finished"
        for neighbour in self.ends:
            self._tell(neighbour, DONE, self.name)

    def give_up(self, reason: str) -> None:
        self.state = "failed"
        for neighbour in self.ends:
            self._tell(neighbour, FAILED, f"{self.name} {reason}")

    def close(self, closed: Callable[[], None]) -> None:
        """Once the neighbours have what was sent (and, at the hub after a finished run, once all have
        finished), or in vain after a while."""
        self._closed = closed
        self.net.clock.after(PROGRESS if self.state == "finished" else FAREWELL, self._close)
        self._settle()

    # ---- gathering, absence, resuming ------------------------------------------------------------------

    def _dial(self, until: float, delay: float) -> None:
        """A feature holder tries until it is admitted, or let in again."""
        end, hub = self.ends.get(self.net.hub), self.net.links.get(self.net.hub)
        if self.state == "closed" or self.failure or (end and not end.away):
            return
        if self.net.clock.now > until and end is None:
            self.fail(PeerTimeout(self.net.hub, "gathering", "nobody answers"))
            return
        if hub and self.net.paths.is_up(self.name, self.net.hub) and hub.admit(self):
            return
        pause = delay * (0.5 + self.net.draw.random())
        self.net.clock.after(pause, partial(self._dial, until, min(delay * 1.5, LONGEST_DELAY)))

    def admit(self, spoke: "VirtualLink") -> bool:
        """A feature holder's stream is here, its first frame told both links' numbers; True where it is let
        in. In a run that has begun another number than before is another process: the run is over."""
        end, there = self.ends.get(spoke.name), spoke.ends.get(self.name)
        if self.state == "closed":
            return False
        known = end is not None and end.number == spoke.number
        if there and not (known and there.number == self.number):
            spoke.fail(PeerRestarted(self.name, spoke.phase, "its process was started anew"))
            return True
        if end and there:
            for ours in (end, there):
                ours.away = False
                ours.episode += 1
            self._resend(spoke.name, end)
            spoke._resend(self.name, there)
            return True
        if self.state == "gathering":
            self.inboxes[spoke.name] = Inbox(spoke.name, INBOX)
            self.ends[spoke.name] = End(Line(spoke.number, self.number), spoke.number)
            spoke.ends[self.name] = End(Line(spoke.number, self.number), self.number)
            if len(self.ends) == len(self.peers):
                self._begin()
            spoke._begin()
            return True
        if self.state == "running" and spoke.name not in self.left:
            self._news(spoke.name, "restarted", "its process was started anew")
        return False  # come again

    def _begin(self) -> None:
        self.state = "running"
        self._relay()
        self._changed()

    def _nobody_came(self) -> None:
        if self.state == "gathering":
            missing = [peer for peer in self.peers if peer not in self.ends]
            for peer in missing:
                self._news(peer, "absent", "it never came")

    def broken(self, neighbour: str, noticed: float, number: int | None = None) -> None:
        """The stream has ended, which is noticed after so many seconds. number: only if to that link."""
        end = self.ends.get(neighbour)
        if end and not end.away and number in (None, end.number):
            self.net.clock.after(noticed, partial(self._missed, neighbour, end, end.episode))

    def _missed(self, neighbour: str, end: End, episode: int) -> None:
        if self.ends.get(neighbour) is not end or end.episode != episode or end.away:
            return
        end.away = True
        self.net.clock.after(AWAY, partial(self._gone, neighbour, end, episode))
        if not self.is_hub:
            self._dial(0.0, FIRST_DELAY)
        self._settle()

    def _gone(self, neighbour: str, end: End, episode: int) -> None:
        if not end.away or end.episode != episode or self.ends.get(neighbour) is not end:
            return
        end.gone = True
        if self.state == "gathering" and self.is_hub:  # nothing has begun: it may dial again
            del self.ends[neighbour]
        else:
            self._news(neighbour, "lost", f"no sign of life from it for {AWAY:g} s")
        self._settle()

    # ---- how ends are told ----------------------------------------------------------------------------

    def fail(self, error: RoundsError) -> None:
        if self.failure is None and self.state in ("gathering", "running"):
            self.failure = error
            self._changed()

    def _news(self, name: str, reason: str, text: str) -> None:
        """A party has failed; the hub tells the others."""
        if self.is_hub and self.failure is None and self.state != "closed" and name not in self.left:
            for neighbour in self.ends:
                if neighbour != name:
                    self._tell(neighbour, FAILED, f"{name} {reason}")
        self.fail(ERRORS.get(reason, PeerFailed)(name, self.phase, text))

    def _control(self, frame: Frame) -> None:
        name, _, reason = frame.payload.decode().partition(" ")
        if frame.kind == FAILED:
            self._news(name, reason, reason)
        elif name not in self.left:
            self.left.add(name)
            for neighbour in self.ends if self.is_hub else ():
                if neighbour != name:
                    self._tell(neighbour, DONE, name)

    def _tell(self, neighbour: str, kind: str, payload: str) -> None:
        self._post(neighbour, self.name, neighbour, kind, 0, True, payload.encode())

    def _settle(self) -> None:
        """Close, if that was asked for and nobody needs us any longer."""
        if self._closed is None:
            return
        finished = self.state == "finished"
        gone = {peer for peer, end in self.ends.items() if (end.gone if finished else end.away)}
        if finished and self.is_hub and not self.left | gone >= {*self.peers}:
            return
        if all(peer in gone or not end.line.resend() for peer, end in self.ends.items()):
            self._close()

    def _close(self) -> None:
        if self.state != "closed":
            self.net.vanish(self.name)
            if self._closed is not None:
                self._closed()

    # ---- frames ---------------------------------------------------------------------------------------

    def _end(self, receiver: str) -> End:
        return self.ends[receiver if self.is_hub else self.net.hub]

    def _post(
        self, neighbour: str, sender: str, receiver: str, kind: str, chunk: int, last: bool, payload: bytes
    ) -> None:
        end = self.ends[neighbour]
        self._put(neighbour, end, end.line.post(sender, receiver, kind, chunk, last, payload))
        self._resend_later(neighbour, end)

    def _put(self, neighbour: str, end: End, frame: Frame) -> None:
        if not end.away:
            wire = frame.SerializeToString()
            self.net.paths.carry(self.name, neighbour, lambda: self._arrive(neighbour, wire))

    def _arrive(self, neighbour: str, wire: bytes) -> None:
        if link := self.net.links.get(neighbour):
            link.hear(self.name, Frame.FromString(wire))

    def hear(self, neighbour: str, frame: Frame) -> None:
        end = self.ends.get(neighbour)
        if end is None or (frame.session, frame.incarnation) != (end.line.session, end.line.incarnation):
            self.net.refused += 1
            return
        try:
            fresh = end.line.accept(frame)
            if frame.sequence:
                self._put(neighbour, end, end.line.heartbeat(self.name, neighbour))
            if fresh and frame.receiver != self.name:
                self._relayed.append((end, frame))
                self._relay()
            elif fresh and frame.kind.startswith(CONTROL):
                self._control(frame)
            elif fresh:
                self.inboxes[frame.sender].put(frame)
                sent, received = self.traffic
                self.traffic = Traffic(sent, received + len(frame.payload))
        except Gap:
            return  # it comes again
        except RemoteProtocolError as error:
            self.fail(error)
        self._changed()
        self._settle()

    def _relay(self) -> None:
        if self.state != "gathering":
            for end, frame in self._relayed:
                if self.ends[frame.sender] is end:
                    onward = (frame.receiver, frame.kind, frame.chunk, frame.last, frame.payload)
                    self._post(frame.receiver, frame.sender, *onward)
            self._relayed.clear()

    def _resend(self, neighbour: str, end: End) -> None:
        frames = end.line.resend()
        for frame in frames:
            self._put(neighbour, end, frame)
        if frames:
            self._resend_later(neighbour, end)

    def _resend_later(self, neighbour: str, end: End) -> None:
        """A timer runs as long as something is unacknowledged."""
        if not end.resending:
            end.resending = True
            self.net.clock.after(self.net.resend_after, partial(self._again, neighbour, end))

    def _again(self, neighbour: str, end: End) -> None:
        end.resending = False
        if self.state != "closed" and self.ends.get(neighbour) is end:
            self._resend(neighbour, end)
