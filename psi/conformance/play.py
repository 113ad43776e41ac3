"""A driver that lets every party come to its own end, and messages be damaged on their way.

`protos.memory.together` stops all parties at the first error. Here an error ends the party that raises it,
and the others play on as far as they can: what they return in spite of it is what the kit judges.
"""

from __future__ import annotations

import reprlib
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from protos.rounds import (
    ANY,
    Bind,
    PeerFailed,
    Progress,
    Receive,
    RemoteProtocolError,
    Rounds,
    Save,
    Send,
    Traffic,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Message(NamedTuple):
    """One message; kind and payload are what the wire carries."""

    sender: str
    receiver: str
    kind: str
    payload: bytes


class BrokenRule(Exception):
    """A party did what no driver could carry out, such as yielding what is no round."""


Post = Callable[[Message], Iterable[Message]]
"""What arrives of a message: nothing, itself, something else, or more than one."""


@dataclass
class Ends:
    """How one play ended.

    rows: of those that returned. errors: of those that raised, by themselves or on what the driver threw.
    stopped: those that waited in vain; a driver ends them with PeerFailed. leftover: messages that a party
    which returned had not asked for. unread: the most bytes that lay between a sender and a receiver that
    had not asked for them. limits: the largest `at_most` that was asked for.
    """

    rows: dict[str, NDArray[np.int64]] = field(default_factory=dict)
    errors: dict[str, Exception] = field(default_factory=dict)
    stopped: set[str] = field(default_factory=set)
    transcript: list[Message] = field(default_factory=list)
    leftover: list[Message] = field(default_factory=list)
    unread: dict[tuple[str, str], int] = field(default_factory=lambda: defaultdict(int))
    limit: int = 0


def as_sent(message: Message) -> Iterable[Message]:
    return (message,)


def play(
    parties: Mapping[str, Rounds[NDArray[np.int64]]],
    post: Post = as_sent,
    mail: Iterable[Message] = (),
    slowest: str | None = None,
) -> Ends:
    """Run all generators, word by word, until none can go on.

    mail: what has arrived before the start; with it a recorded run can be played to one party alone (what
    is sent to somebody who does not play goes nowhere). slowest: steps only when nobody else can.
    """
    ends = Ends()
    boxes: dict[tuple[str, str], deque[Message]] = defaultdict(deque)
    for message in mail:
        boxes[message.sender, message.receiver].append(message)
    alive = dict(parties)
    order = sorted(alive, key=lambda name: name == slowest)
    waiting: dict[str, Receive] = {}
    traffic = {name: Traffic(0, 0) for name in parties}

    def step(name: str, answer: object) -> None:
        rounds = alive[name]
        try:
            word = rounds.throw(answer) if isinstance(answer, Exception) else rounds.send(answer)
            if isinstance(answer, Exception):
                rounds.close()
                raise BrokenRule(f"align goes on after the error {type(answer).__name__}")
            _allowed(word)
            if isinstance(word, Send):
                payload = word.payload if isinstance(word.payload, bytes) else b"".join(word.payload)
        except StopIteration as stop:
            ends.rows[name] = stop.value
            del alive[name]
        except Exception as error:  # whatever it is: the kit reports it
            ends.errors[name] = error
            del alive[name]
        else:
            match word:
                case Send(to, kind):
                    put(Message(name, to, kind, payload))
                case Receive():
                    waiting[name] = word
                    ends.limit = max(ends.limit, word.at_most)
                case Progress():
                    answers[name] = traffic[name]

    def put(message: Message) -> None:
        ends.transcript.append(message)
        name = message.sender
        traffic[name] = Traffic(traffic[name].sent + len(message.payload), traffic[name].received)
        for arrived in post(message):
            edge = arrived.sender, arrived.receiver
            boxes[edge].append(arrived)
            asked = waiting.get(arrived.receiver)
            lying = list(boxes[edge])[1 if asked and asked.sender in (arrived.sender, ANY) else 0 :]
            ends.unread[edge] = max(ends.unread[edge], sum(len(one.payload) for one in lying))

    def fetch(name: str) -> object | None:
        """The answer to what a party waits for, or None; an error where the wrong thing has come."""
        want = waiting[name]
        for sender in [want.sender] if want.sender != ANY else list(parties):
            box = boxes[sender, name]
            if not box or (want.sender == ANY and box[0].kind != want.kind):
                continue
            message = box.popleft()
            if message.kind != want.kind:
                return RemoteProtocolError(f"expected {want.kind!r} from {sender}, got {message.kind!r}")
            if len(message.payload) > want.at_most:
                return RemoteProtocolError(f"{want.kind!r} from {sender} is over its {want.at_most} bytes")
            traffic[name] = Traffic(traffic[name].sent, traffic[name].received + len(message.payload))
            return (sender, message.payload) if want.sender == ANY else message.payload
        return None

    answers: dict[str, object] = {}
    while alive:
        for name in order:
            if name not in alive:
                continue
            if name not in waiting:
                step(name, answers.pop(name, None))
                break
            if (answer := fetch(name)) is not None:
                del waiting[name]
                step(name, answer)
                break
        else:
            break
    for name in list(alive):
        ends.stopped.add(name)
        step(name, PeerFailed(waiting[name].sender, "psi", "it sent nothing more"))
    ends.leftover = [one for (_, receiver), box in boxes.items() if receiver in ends.rows for one in box]
    return ends


def _allowed(word: object) -> None:
    """Raises BrokenRule for what is no round, or one that no driver could carry out."""
    match word:
        case Save() | Bind():
            fault = f"yields {type(word).__name__}, which an alignment may not"
        case Send(_, str(), payload) if isinstance(payload, str | bytearray | memoryview):
            fault = f"sends {word.kind!r} as a {type(payload).__name__}, not as bytes or chunks of bytes"
        case Send(str(), str(), payload) if isinstance(payload, Iterable):
            return
        case Receive(str(), str(), int()) | Progress():
            return
        case Send() | Receive():
            fault = f"yields {reprlib.repr(word)}, whose fields are of the wrong type"
        case _:
            fault = f"yields {reprlib.repr(word)}, which is no round"
    raise BrokenRule(f"align {fault}")
