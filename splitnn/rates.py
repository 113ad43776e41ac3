"""Learning-rate schedules: by what the learning rate is multiplied at each step."""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from splitnn.plan import Plan


def rate(plan: "Plan", step: int, epoch_steps: int) -> float:
    """The factor, in [0, 1], of step `step` (from 0) where an epoch has `epoch_steps`.

    The first `warmup` steps rise linearly to 1 (Goyal et al. 2017, section 2.2); then the schedule follows.
    """
    if step < plan.warmup:
        return (step + 1) / plan.warmup
    return RATES[plan.learning_rate_schedule](plan, step, epoch_steps)


def _constant(plan: "Plan", step: int, epoch_steps: int) -> float:
    return 1.0


def _cosine(plan: "Plan", step: int, epoch_steps: int) -> float:
    """Half a cosine from the warm-up's end to the last epoch (Loshchilov and Hutter 2017, equation 5)."""
    length = max(1, plan.epochs * epoch_steps - plan.warmup)
    # The last step of all is above 0; where more are taken than that, they keep its rate.
    return (1 + math.cos(math.pi * min(step - plan.warmup, length - 1) / length)) / 2


def _step(plan: "Plan", step: int, epoch_steps: int) -> float:
    """Times `decay` after every `decay_epochs` epochs."""
    return plan.decay ** (step // (epoch_steps * plan.decay_epochs))


RATES: dict[str, Callable[["Plan", int, int], float]] = {
    "constant": _constant,
    "cosine": _cosine,
    "step": _step,
}
