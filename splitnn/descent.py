"""How weights step: clipping, learning rate, optimiser. Each party's by its own, whoever computes it."""

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn.utils import clip_grad_norm_

from splitnn.errors import TrainingError
from splitnn.local import Local
from splitnn.optimizers import MOMENTS, OPTIMIZERS
from splitnn.plan import Plan
from splitnn.rates import rate


class Descent:
    """Steps the weights of one party, or in `splitnn.reference` of all: each as its party alone would.

    The optimisers treat each weight by itself, so those of parties with the same choice are one optimiser.
    `clip_norm` bounds the norm of one party's gradient: the norm over all parties would need an exchange.
    """

    def __init__(self, plan: Plan, parties: Sequence[tuple[nn.Module, Local]], epoch_steps: int) -> None:
        self.plan, self.epoch_steps, self.steps = plan, epoch_steps, 0
        choices: dict[tuple[str, float], list[nn.Module]] = {}
        for module, local in parties:
            choices.setdefault(local.descent(plan), []).append(module)
        self.optimizers = [
            OPTIMIZERS[name](nn.ModuleList(modules), base, plan.weight_decay)
            for (name, base), modules in choices.items()
        ]
        self.bases = [base for _, base in choices]
        self.weights = [[*module.parameters()] for module, _ in parties]
        self.constant = plan.learning_rate_schedule == "constant" and not plan.warmup

    def step(self, local: bool = False) -> None:
        """One step by the gradients there are, which are then gone. TrainingError: one is not finite.

        local: after the exchange of the last step, whose learning rate it takes; it is not counted.
        """
        self.steps += not local
        if self.plan.clip_norm is not None:
            for weights in self.weights:
                try:
                    clip_grad_norm_(weights, self.plan.clip_norm, error_if_nonfinite=True)
                except RuntimeError as error:
                    raise TrainingError(
                        f"a weight's gradient is not finite at step {self.steps + 1}: lower learning_rate in "
                        "run.toml"
                    ) from error
        if not self.constant:
            factor = rate(self.plan, self.steps - 1, self.epoch_steps)
            for optimizer, base in zip(self.optimizers, self.bases, strict=True):
                for group in optimizer.param_groups:
                    group["lr"] = base * factor
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad()

    def moments(self) -> dict[int, dict[str, torch.Tensor]]:
        """What one party's optimiser keeps of each weight, by the weight's place."""
        [optimizer] = self.optimizers
        state: dict[int, dict[str, torch.Tensor]] = optimizer.state_dict()["state"]
        return state

    def load(self, moments: dict[int, dict[str, torch.Tensor]], steps: int, name: str) -> None:
        """name: of the optimiser. Raises ValueError for what it does not keep: torch would find out later."""
        [optimizer] = self.optimizers
        weights = [weight for group in optimizer.param_groups for weight in group["params"]]
        for place, kept in moments.items():
            weight = weights[place] if 0 <= place < len(weights) else None
            if weight is None or kept.keys() != MOMENTS[name]:
                raise ValueError(f"the optimiser {name} keeps something else")
            if any(moment.shape not in (weight.shape, ()) for moment in kept.values()):
                raise ValueError("a moment of another shape than its weight")
        groups = optimizer.state_dict()["param_groups"]
        optimizer.load_state_dict({"state": moments, "param_groups": groups})
        self.steps = steps
