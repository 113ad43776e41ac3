"""Early stopping: which epoch's weights to keep, and when to give up."""

from collections.abc import Sequence

from splitnn.plan import Plan
from splitnn.tasks import TASKS


def judge(plan: Plan, history: Sequence[dict[str, float]]) -> tuple[bool, bool]:
    """Is the last epoch the best so far? Have `patience` epochs passed without a better one?"""
    task = TASKS[plan.task][plan.loss]
    worth = [task.sign * entry[task.stop_on] for entry in history]
    best = max(range(len(worth)), key=worth.__getitem__)  # the first of equals
    return best == len(worth) - 1, len(worth) - 1 - best >= plan.patience
