"""Early stopping: when to look, which epoch's weights to keep, and when to give up."""

from collections.abc import Sequence
from typing import Final

from protos.rounds import Receive, RemoteProtocolError, Rounds, Send
from splitnn.plan import Plan
from splitnn.schedule import Split, steps_an_epoch
from splitnn.tasks import TASKS

SHARE: Final = 20
"""Where the plan does not say how often, validation costs less than a part in so many of the training."""
TRAINED_ROW, TRAINING_STEP, VALIDATED_ROW = 4, 1600, 2
"""What each costs, in microseconds: `docs/splitnn.md` says how they were measured."""


def epochs_between(plan: Plan, rows: Split) -> int:
    """Every how many epochs the validation rows are scored; the same number at every party."""
    if plan.every is not None:
        return plan.every
    steps = steps_an_epoch(len(rows.train), plan.batch)
    training = TRAINED_ROW * len(rows.train) + TRAINING_STEP * steps
    return SHARE * VALIDATED_ROW * len(rows.validation) // training + 1


def is_judged(plan: Plan, rows: Split, epoch: int) -> bool:
    """Whether this epoch, from 1, ends with a verdict. The last does, so that some weights are kept."""
    return epoch % epochs_between(plan, rows) == 0 or epoch == plan.epochs


def judge(plan: Plan, history: Sequence[dict[str, float]]) -> tuple[bool, bool]:
    """Is the last epoch, which was judged, the best so far? Have `patience` epochs passed since that one?"""
    task = TASKS[plan.task][plan.loss]
    worth = {
        epoch: task.sign * entry[task.stop_on] for epoch, entry in enumerate(history) if task.stop_on in entry
    }
    best = max(worth, key=worth.__getitem__)  # the first of equals
    return best == len(history) - 1, len(history) - 1 - best >= plan.patience


IMPROVED: Final = b"\x01"
WORSE: Final = b"\x00"
STOP: Final = b"\x02"
"""The label holder's verdict on an epoch: keep these weights / go on / stop and take the kept ones."""


def tell_verdict(feature_holders: Sequence[str], improved: bool, stop: bool) -> Rounds[None]:
    for name in feature_holders:
        yield Send(name, "verdict", IMPROVED if improved else STOP if stop else WORSE)


def hear_verdict(hub: str, epoch: int, any_kept: bool) -> Rounds[tuple[bool, bool]]:
    """(improved, stop) of this epoch, from 1. any_kept: some epoch's weights are kept already.

    Raises RemoteProtocolError for another message, or one that would leave nothing to keep.
    """
    verdict = yield Receive(hub, "verdict", at_most=1)
    if verdict not in (IMPROVED, WORSE, STOP) or (verdict != IMPROVED and not any_kept):
        raise RemoteProtocolError(f"an impossible verdict on epoch {epoch} from {hub!r}")
    return verdict == IMPROVED, verdict == STOP
