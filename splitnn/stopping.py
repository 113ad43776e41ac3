"""Early stopping: which epoch's weights to keep, and when to give up."""

from collections.abc import Sequence
from typing import Final

from protos.rounds import Receive, RemoteProtocolError, Rounds, Send
from splitnn.plan import Plan
from splitnn.tasks import TASKS


def judge(plan: Plan, history: Sequence[dict[str, float]]) -> tuple[bool, bool]:
    """Is the last epoch the best so far? Have `patience` epochs passed without a better one?"""
    task = TASKS[plan.task][plan.loss]
    worth = [task.sign * entry[task.stop_on] for entry in history]
    best = max(range(len(worth)), key=worth.__getitem__)  # the first of equals
    return best == len(worth) - 1, len(worth) - 1 - best >= plan.patience


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
