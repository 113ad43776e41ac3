"""What a phase of a run takes at this party."""

import time
from collections.abc import Callable, Generator
from itertools import pairwise
from typing import Any, Final, NamedTuple, TypeVar

from protos.rounds import Progress, Round, Rounds, Traffic, mapped

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
    last = phase

    def each(word: Round) -> Generator[Round, Any, Any]:
        nonlocal last
        if isinstance(word, Progress):
            last = word.phase
        return (yield word)

    before, start = (yield Progress(phase, 0, 0)), clock()
    result = yield from mapped(rounds, each)
    after = yield Progress(last, 0, 0)  # of a part that began meanwhile: the phase does not go back
    return result, Cost.between(start, before, clock(), after)


PARTS: Final = {
    "handshake": "handshake",
    "terms": "alignment",
    "psi": "alignment",
    "examples": "columns",
    "columns": "columns",
    "training": "training",
    "evaluation": "evaluation",
    "training again": "contribution",
    "training alone": "baselines",
}
"""The part of a run that begins with a phase ("training again without ann": by what is before "without"); any
other phase belongs to the part that it comes in."""


class Parts:
    """What each part of one attempt at a run takes. A part lasts until the next one begins."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._marks: list[tuple[str, float, Traffic]] = []
        self._seen = Traffic(0, 0)

    def over(self, rounds: Rounds[T]) -> Rounds[T]:
        """The same rounds, noted here."""

        def each(word: Round) -> Generator[Round, Any, Any]:
            answer = yield word
            if isinstance(word, Progress):
                self._seen = answer
                part = PARTS.get(word.phase.partition(" without ")[0])
                if part is not None and (not self._marks or self._marks[-1][0] != part):
                    self._marks.append((part, self._clock(), answer))
            return answer

        return mapped(rounds, each)

    def costs(self) -> dict[str, Cost]:
        """By part, in their order; of the one that is under way so far."""
        marks = [*self._marks, ("", self._clock(), self._seen)]
        return {
            part: Cost.between(start, before, end, after)
            for (part, start, before), (_, end, after) in pairwise(marks)
        }
