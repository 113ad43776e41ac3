"""Which faults, at which moments: drawn from a seed, so that a list of points can be had again.

A moment is told by what the victim is doing: the processes' own speed then does not matter to the list.
"""

import random
from collections.abc import Sequence
from typing import Literal, NamedTuple

Kind = Literal["kill", "blackout", "stop", "cut", "hole", "slow"]
"""kill -9 and a later start, of the victim, of all at once; SIGSTOP and SIGCONT; the victim's line cut and
refused; its line dead without anybody being told; a tenth of the victim's speed."""

PHASES = (
    "starting",
    "handshake",
    "terms",
    "psi",
    "training",
    "checkpoint",
    "evaluation",
    "results",
    "ending",
)
"""In the order of a run. checkpoint: while a file of the unfinished run is written; evaluation: between the
last step of an epoch and the next; results: once the run's folder is there; ending: once it is all there."""


class Point(NamedTuple):
    """phase, part: the fault comes when the victim is in `phase` with this part (0 to 1) of it done, `delay`
    seconds after that is seen. seconds: how long it lasts. outlasting: longer than the budget."""

    kind: Kind
    victim: str
    phase: str
    part: float
    delay: float
    seconds: float
    outlasting: bool


class Plan(NamedTuple):
    """The faults of one run, in order."""

    shape: str
    points: tuple[Point, ...]


def draw(seed: int, count: int, shapes: dict[str, tuple[str, ...]], away: float) -> list[Plan]:
    """So many points over runs of these shapes (the parties' names of each, the label holder first).

    away: the budget, in seconds, that a fault lasts or outlasts.
    """
    drawn = random.Random(seed)
    plans: list[Plan] = []
    left, number = count, 0
    while left:
        shape = [*shapes][number % len(shapes)]
        size = min(left, drawn.randint(4, 7))
        phases = sorted(drawn.choices(PHASES, weights=(2, 2, 1, 4, 6, 4, 2, 2, 2), k=size), key=PHASES.index)
        points = sorted(
            (_point(drawn, phase, shapes[shape], away) for phase in phases),
            key=lambda point: (PHASES.index(point.phase) if point.phase in PHASES[:4] else 4, point.part),
        )
        plans.append(Plan(shape, tuple(points)))
        left, number = left - size, number + 1
    return plans


def _point(drawn: random.Random, phase: str, names: Sequence[str], away: float) -> Point:
    kinds: tuple[Kind, ...] = ("kill", "blackout", "stop", "cut", "hole", "slow")
    kind = drawn.choices(kinds, weights=(8, 1, 4, 4, 2, 2))[0]
    outlasting = kind not in ("blackout", "slow") and drawn.random() < 0.12
    seconds = {
        "kill": drawn.uniform(0.0, 2.0),
        "blackout": drawn.uniform(0.0, 1.0),
        "stop": drawn.choice((drawn.uniform(0.1, 2.0), drawn.uniform(0.3, 0.5) * away)),
        "cut": drawn.choice((0.0, drawn.uniform(0.1, 2.0), drawn.uniform(0.2, 0.4) * away)),
        "hole": drawn.choice((drawn.uniform(0.1, 2.0), drawn.uniform(0.2, 0.4) * away)),
        "slow": drawn.uniform(1.0, 5.0),
    }[kind]
    # a line belongs to the feature holder that dials
    victims = names[1:] if kind in ("cut", "hole") else names
    late = PHASES.index(phase) > 4
    part = {"results": 1.0, "ending": 1.0}.get(phase, drawn.random())
    delay = drawn.uniform(0.0, 0.0 if late else 0.05) if phase != "starting" else drawn.uniform(0.0, 3.0)
    return Point(kind, drawn.choice(victims), phase, part, delay, seconds, outlasting)
