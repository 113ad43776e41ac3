"""The vocabulary of rounds: everything that parties do together is a generator of these words.

A protocol is straight-line Python that yields rounds and returns its result::

    def feature_holder(...) -> Rounds[Bottom]:
        yield Send(hub, "activation", encode(activation))
        gradient = decode((yield Receive(hub, "gradient", at_most=1 << 20)))
        ...
        return bottom

It opens no socket, no file and no clock, and takes its randomness as an argument. A driver runs it:
`parties.link` over gRPC, `protos.memory` in lockstep, `protos.simulator` under seeded faults.

Messages between one sender and one receiver arrive exactly once and in the order they were sent, or the
driver throws one of the errors below into the generator. A protocol never catches them to go on: they are
the end of the run. No `yield` in a `finally`.
"""

from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, TypeAlias, TypeVar

T = TypeVar("T")

ANY: Final = "*"
"""As the sender of a `Receive`: whoever is first. Only where the order of arrival cannot matter."""


@dataclass(frozen=True, slots=True)
class Send:
    """Hand one message to `to`. A large payload is an iterable of chunks, sent as they are made.

    The driver answers None, as soon as it holds the bytes: sending never waits for the peer's program,
    only (when the window is full) for the peer's link.
    """

    to: str
    kind: str
    payload: bytes | Iterable[bytes]


@dataclass(frozen=True, slots=True)
class Receive:
    """Wait for the next message from `sender`, which must be of this `kind`.

    The driver answers its payload (`bytes`); for `sender=ANY` it answers `(sender, payload)`.

    at_most: bytes; a longer message is a RemoteProtocolError before it is held in memory.
    within: seconds; None is the driver's progress timeout.
    """

    sender: str
    kind: str
    at_most: int
    within: float | None = None


@dataclass(frozen=True, slots=True)
class Save:
    """A point from which this protocol can start again: `step` is the same number at every party.

    `state` is called only by a driver that keeps it; its bytes come back as the protocol's `resume=`.
    """

    step: int
    state: Callable[[], bytes]


@dataclass(frozen=True, slots=True)
class Progress:
    """`done` of `total` units of `phase`; a total of 0 is not known, and with 0 done only names the phase.

    The driver answers the `Traffic` on its wires so far.
    """

    phase: str
    done: int
    total: int


@dataclass(frozen=True, slots=True)
class Bind:
    """The handshake has agreed: from here on every frame carries this run id, and others are refused."""

    run: bytes


class Traffic(NamedTuple):
    """Bytes that this party has put on, and taken from, its wires since its driver began."""

    sent: int
    received: int


class Resume(NamedTuple):
    """A `Save` given back to a protocol that starts again."""

    step: int
    state: bytes


Round: TypeAlias = Send | Receive | Save | Progress | Bind
Rounds: TypeAlias = Generator[Round, Any, T]
"""What a protocol is: yields rounds, is sent the driver's answers, returns T."""


def mapped(rounds: Rounds[T], each: Callable[[Round], Generator[Round, Any, Any]]) -> Rounds[T]:
    """The same protocol, with `each` between it and the driver: it gets a word, yields what the driver shall
    see of it, and returns the answer. What the driver, or `each`, throws ends both, the protocol first."""
    answer: Any = None
    try:
        while True:
            try:
                word = rounds.send(answer)
            except StopIteration as stop:
                result: T = stop.value
                return result
            try:
                answer = yield from each(word)
            except GeneratorExit:
                raise
            except BaseException as error:
                rounds.throw(error)
                raise
    finally:
        rounds.close()


class RoundsError(Exception):
    """What can end a protocol other than its result. The text is one line: what, where, what to do."""


class LocalProtocolError(RoundsError):
    """This program broke a rule of its own. Please report it."""


class RemoteProtocolError(RoundsError):
    """A peer said something that the protocol does not allow; nothing of it was used.

    Ask the peer which version it runs; a second time with the same versions is a bug or an attack.
    """


class PeerFailed(RoundsError):
    """A peer stopped: it died, it was cut off, or it told us that it gave up. Ask there for the reason."""

    def __init__(self, peer: str, phase: str, reason: str) -> None:
        super().__init__(f"{peer} failed during {phase}: {reason}")
        self.peer, self.phase, self.reason = peer, phase, reason


class PeerTimeout(PeerFailed):
    """A peer is alive but did not get on within the deadline, or never came."""


class PeerRestarted(PeerFailed):
    """A peer's process came back as another one, which knows nothing of this attempt: all begin a new one."""


class Cancelled(RoundsError):
    """Interrupted by Control-C or SIGTERM; a second signal ends the process at once."""
