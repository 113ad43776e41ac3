"""What waits at the hub to be passed on between feature holders.

A relayed frame is acknowledged to its sender only when it has found room on its second line: so the sender's
own window bounds what waits here, for how long its receiver may be away.
"""

from collections import deque
from collections.abc import Collection, Mapping
from typing import NamedTuple

from parties.news import DONE
from parties.wire import Wire
from protos.line import FRAME_COST
from protos.party_pb2 import Frame
from protos.rounds import RemoteProtocolError


class Waiting(NamedTuple):
    """What of a frame is needed to pass it on: a frame itself takes twice the memory."""

    sender: str
    kind: str
    payload: bytes
    sequence: int = 0
    chunk: int = 0
    last: bool = True
    in_run: bool = False


class Relay:
    """Used under the link's condition. at_most: bytes from one source, beyond which it ignores its window."""

    def __init__(self, hub: str, peers: Collection[str], at_most: int) -> None:
        self._hub, self._at_most = hub, at_most
        self.waiting: dict[str, dict[str, deque[Waiting]]] = {  # by target and source
            target: {source: deque() for source in peers} for target in peers
        }
        self._bytes = dict.fromkeys(peers, 0)  # by source

    def take(self, wire: Wire, frame: Frame) -> None:
        source, target = frame.sender, frame.receiver
        payload = frame.payload  # once: protobuf copies it each time
        self._bytes[source] += len(payload) + FRAME_COST
        if self._bytes[source] > self._at_most:
            raise RemoteProtocolError(f"{source!r} sent more for {target!r} than its window allows")
        wire.line.withhold(frame.sequence)
        waits = Waiting(source, frame.kind, payload, frame.sequence, frame.chunk, frame.last, bool(frame.run))
        self.waiting[target][source].append(waits)

    def pass_on(self, wires: Mapping[str, Wire], window: int, bound: bool) -> None:
        """What has room. bound: are we in the run? Its frames go not before, so that each line sees the run
        change once."""
        for target, wire in wires.items():
            for source, frames in self.waiting[target].items():
                while frames and wire.open and wire.line.unacknowledged_bytes < window:
                    frame = frames[0]
                    if frame.in_run and not bound:
                        break
                    frames.popleft()
                    wire.post(frame.sender, target, frame.kind, frame.payload, frame.chunk, frame.last)
                    self._release(wires[source], frame)

    def drop(self, target: str, wires: Mapping[str, Wire]) -> None:
        """It has failed: who sent it something need not keep that any longer."""
        for source, frames in self.waiting[target].items():
            while frames:
                self._release(wires[source], frames.popleft())

    def _release(self, wire: Wire, frame: Waiting) -> None:
        if frame.sender == wire.neighbour:  # no news of ours
            cost = len(frame.payload) + FRAME_COST
            self._bytes[wire.neighbour] -= cost
            wire.line.release(frame.sequence)
            wire.owe(cost)

    def left(self, name: str) -> None:
        """It has finished: the others learn it after the last frame that it sent them."""
        for target, sources in self.waiting.items():
            if target != name:
                sources[name].append(Waiting(self._hub, DONE, name.encode()))

    def forget(self, name: str) -> None:
        """It begins anew, as another process."""
        self._bytes[name] = 0
        for sources in self.waiting.values():
            sources[name].clear()
