"""The driver for tests and experiments: all parties in one process, in lockstep, deterministic."""

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Generic, NamedTuple, TypeVar

from protos.rounds import (
    ANY,
    Bind,
    LocalProtocolError,
    PeerFailed,
    Progress,
    Receive,
    RemoteProtocolError,
    Round,
    Rounds,
    Save,
    Send,
    Traffic,
)

T = TypeVar("T")


class Said(NamedTuple):
    """One message, as an eavesdropper on all lines would note it."""

    sender: str
    receiver: str
    kind: str
    payload: bytes


@dataclass
class Together(Generic[T]):
    """What came of a lockstep run: each party's result, and every message in the order it was sent."""

    results: dict[str, T] = field(default_factory=dict)
    transcript: list[Said] = field(default_factory=list)


def together(
    parties: Mapping[str, Rounds[T]],
    on_round: Callable[[str, Round], None] = lambda party, word: None,
    transcript: bool = True,
) -> Together[T]:
    """Run the parties' generators until all have returned.

    on_round: sees each word as it is yielded. transcript: whether messages are kept. Whatever a party raises
    ends them all: the others are closed and the error goes to the caller. Raises LocalProtocolError when all
    wait for one another, and RemoteProtocolError when a party returns with messages unread.
    """
    outcome: Together[T] = Together()
    mail: dict[tuple[str, str], deque[tuple[str, bytes]]] = {}
    traffic = dict.fromkeys(parties, Traffic(0, 0))
    waiting: dict[str, Receive] = {}
    ready: deque[tuple[str, object]] = deque((name, None) for name in parties)

    def answer(name: str, want: Receive) -> object | None:
        senders = [want.sender] if want.sender != ANY else list(parties)
        for sender in senders:
            box = mail.get((sender, name))
            if not box or (want.sender == ANY and box[0][0] != want.kind):
                continue
            kind, payload = box.popleft()
            if kind != want.kind:
                raise RemoteProtocolError(f"expected {want.kind!r} from {sender!r}, got {kind!r}")
            if len(payload) > want.at_most:
                raise RemoteProtocolError(f"{kind!r} from {sender!r} is over its {want.at_most} bytes")
            traffic[name] = Traffic(traffic[name].sent, traffic[name].received + len(payload))
            return (sender, payload) if want.sender == ANY else payload
        return None

    def step(name: str, value: object) -> None:
        """Run one party until it has to wait for a message, or returns."""
        while True:
            try:
                word = parties[name].send(value)
            except StopIteration as stop:
                outcome.results[name] = stop.value
                return
            on_round(name, word)
            value = None
            match word:
                case Send(to, kind, payload):
                    if to not in parties or to == name:
                        raise LocalProtocolError(f"{name} sends {kind!r} to {to!r}, which is no other party")
                    whole = payload if isinstance(payload, bytes) else b"".join(payload)
                    if transcript:
                        outcome.transcript.append(Said(name, to, kind, whole))
                    traffic[name] = Traffic(traffic[name].sent + len(whole), traffic[name].received)
                    mail.setdefault((name, to), deque()).append((kind, whole))
                    if to in waiting and (got := answer(to, waiting[to])) is not None:
                        del waiting[to]
                        ready.append((to, got))
                case Receive():
                    got = answer(name, word)
                    if got is None:
                        if word.sender in outcome.results:
                            raise PeerFailed(word.sender, "its end", f"it returned without {word.kind!r}")
                        waiting[name] = word
                        return
                    value = got
                case Progress():
                    value = traffic[name]
                case Save() | Bind():
                    pass

    try:
        while ready:
            step(*ready.popleft())
        if waiting:
            stuck = ", ".join(f"{name} for {want.kind!r}" for name, want in waiting.items())
            raise LocalProtocolError(f"all parties wait: {stuck}")
        unread = [f"{kind!r} from {who[0]}" for who, box in mail.items() for kind, _ in box]
        if unread:
            raise RemoteProtocolError(f"messages after the end: {', '.join(unread)}")
    finally:
        for rounds in parties.values():
            rounds.close()
    return outcome
