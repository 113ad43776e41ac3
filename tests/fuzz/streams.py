"""What comes on a stream: frames, as the link and its parts take them."""

from contextlib import suppress
from typing import Any

from google.protobuf.message import DecodeError

from parties.dial import Spoke
from parties.hub import REFUSALS, Hub
from parties.link import Link
from parties.wire import Wire
from protos.line import Inbox, Line
from protos.party_pb2 import Frame
from protos.rounds import LocalProtocolError, PeerFailed, RemoteProtocolError
from tests.fuzz.target import HUB, NAMES, Target, identities, joined, pieces


def frame(sequence: int, **fields: Any) -> bytes:
    given = {"sender": "logistics", "receiver": HUB, "kind": "word", "last": True} | fields
    return Frame(sequence=sequence, **given).SerializeToString()


FRAMES = [
    joined(frame(1, payload=b"one"), frame(2, payload=b"two")),
    joined(frame(1, chunk=0, last=False, payload=b"a"), frame(2, chunk=1, payload=b"b")),
    joined(frame(1, run=bytes(32)), frame(2, run=bytes(32), acknowledgement=1), frame(2)),
    joined(frame(1, receiver="advertiser", payload=b"sealed"), frame(0, kind="")),
    joined(frame(1, kind="link/done", payload=b"logistics")),
    joined(frame(1, kind="link/failed", payload=b"logistics error")),
]


def line() -> Target:
    """`protos.line`: frames to messages."""

    def hear(data: bytes) -> None:
        one, inbox = Line(), Inbox("logistics", 4096)
        one.post(HUB, "logistics", "word", 0, True, b"said")
        for piece in pieces(data):
            before = repr(vars(one)), repr(vars(inbox))
            try:
                heard = Frame.FromString(piece)
                if not one.accept(heard):
                    continue
                before = repr(vars(one)), repr(vars(inbox))
                if inbox.put(heard):
                    inbox.take(heard.kind, 100)
            except (DecodeError, RemoteProtocolError):
                assert (repr(vars(one)), repr(vars(inbox))) == before
                return

    return Target(hear, FRAMES)


def link() -> Target:
    """`Link.hear`: whatever comes on a stream of the hub, and on one of a feature holder."""
    identity = identities()
    pins = {name: identity[name].fingerprint for name in NAMES if name != HUB}

    def hear(data: bytes) -> None:
        hub = Hub(identity[HUB], "127.0.0.1:0", pins)
        spoke = Spoke(identity["advertiser"], HUB, "127.0.0.1:1", ["logistics"])
        ends: list[tuple[Link, list[str]]] = [(hub, ["logistics", "advertiser"]), (spoke, [HUB])]
        for end, neighbours in ends:
            for name in neighbours:
                end._wires[name] = Wire(end.name, name, end._changed, 1000)
            end._start()
            wire = end._wires[neighbours[0]]
            for piece in pieces(data):
                end.hear(wire, piece)
            failure = end._mail.failure
            assert failure is None or isinstance(failure, RemoteProtocolError | PeerFailed)
            assert wire.verdict is None or failure is not None

    return Target(hear, FRAMES)


def first(**fields: Any) -> bytes:
    """The first frame of a stream, a heartbeat of its session."""
    given = {"sender": "logistics", "receiver": HUB, "session": 7} | fields
    return Frame(**given).SerializeToString()


def greeting() -> Target:
    """`Link.hear` on streams that have yet to say whose they are: new ones, resumed ones, other processes'.

    An empty piece is another stream of the same caller; one of a single byte ends the stream.
    """
    identity = identities()

    def hear(data: bytes) -> None:
        hub = Hub(identity[HUB], "127.0.0.1:0", {"logistics": identity["logistics"].fingerprint})
        hub._incarnation = 9
        spoke = Spoke(identity["logistics"], HUB, "127.0.0.1:1")
        spoke._line.session = 7
        for end, neighbour in ((hub, "logistics"), (spoke, HUB)):
            wire = None
            for piece in (b"", *pieces(data)):
                if wire is None or not piece:
                    wire = Wire(end.name, neighbour, end._changed, 1000, greeted=False)
                    if end is hub:
                        hub._callers[neighbour] = wire  # as `_admit` does
                    else:
                        wire.line = spoke._line
                elif len(piece) == 1:
                    end.lost(wire)
                else:
                    end.hear(wire, piece)
                failure = end._mail.failure
                if neighbour in end._wires and failure is None and piece[-1:] == b"\0":
                    with suppress(LocalProtocolError):  # it has started before
                        end._start()
                assert wire.refusal == "" or wire.refusal in REFUSALS
                assert wire.verdict is None or isinstance(wire.verdict, RemoteProtocolError)
                for one in hub._wires.values():
                    assert one.greeted
                    assert one.line.session
                    assert one.line.incarnation == 9
                assert failure is None or isinstance(failure, RemoteProtocolError | PeerFailed)

    word = frame(1, session=7, incarnation=9, payload=b"one")
    return Target(
        hear,
        [
            joined(first(), word),
            joined(first(), b"", first(incarnation=9), word),
            joined(first(), word, b"x", first(incarnation=9), word),
            joined(first(incarnation=8)),
            joined(first(), b"x", b"", first(session=8)),
            joined(first(incarnation=9, acknowledgement=1)),
        ],
    )
