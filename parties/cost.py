"""What a phase of a run takes at this party."""

import time
from collections.abc import Callable
from typing import NamedTuple, TypeVar

from protos.rounds import Progress, Rounds, Traffic

T = TypeVar("T")

Clock = Callable[[], float]


class Cost(NamedTuple):
    """What one phase took at this party: wall-clock seconds and bytes on its wires."""

    seconds: float
    bytes_sent: int
    bytes_received: int

    @classmethod
    def between(cls, start: float, before: Traffic, end: float, after: Traffic) -> "Cost":
        return cls(round(end - start, 3), after.sent - before.sent, after.received - before.received)


def measured(phase: str, rounds: Rounds[T], clock: Clock = time.monotonic) -> Rounds[tuple[T, Cost]]:
    """The rounds of a phase, its name told first, and what they cost."""
    before, start = (yield Progress(phase, 0, 0)), clock()
    result = yield from rounds
    after = yield Progress(phase, 0, 0)
    return result, Cost.between(start, before, clock(), after)
