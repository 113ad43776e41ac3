"""How often a feature holder's activation of one row leaves it: what an account of noise is multiplied by."""

from torch import Tensor

from splitnn.importance import REPEATS
from splitnn.plan import Plan
from splitnn.schedule import Split
from splitnn.stopping import is_judged


def releases(plan: Plan, rows: Split, epochs: int | None = None, groups: int = 0) -> int:
    """Of the row that leaves most often, in training and in evaluation; every row is in one part.

    rows: places in this party's features. Where several examples point at one, it leaves as often.
    epochs: that were run; None: the most that the plan allows. groups: of this party's columns, that are
    measured: each permutation sends a row's other columns, and the group's in another row's place.
    """
    epochs = plan.epochs if epochs is None else epochs
    judged = sum(is_judged(plan, rows, epoch) for epoch in range(1, epochs + 1))
    shuffled = 2 * REPEATS * groups if plan.importance == "columns" else 0
    times = (epochs, judged, 1 + shuffled)
    return max(each * _most(part) for each, part in zip(times, rows, strict=True))


def _most(part: Tensor) -> int:
    """How often the commonest place is there."""
    return int(part.bincount().max()) if len(part) else 0
