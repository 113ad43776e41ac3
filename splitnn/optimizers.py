"""The optimisers a plan can name. They treat each weight by itself, so split weights step as joined ones."""

from collections.abc import Callable
from typing import Any

from torch import nn
from torch.optim import SGD, AdamW, Optimizer


def sgd(module: nn.Module, learning_rate: float, weight_decay: float) -> Optimizer:
    """SGD with momentum .9."""
    return SGD(_groups(module, weight_decay), lr=learning_rate, momentum=0.9, fused=True)


def adam(module: nn.Module, learning_rate: float, weight_decay: float) -> Optimizer:
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019, algorithm 2)."""
    return AdamW(_groups(module, weight_decay), lr=learning_rate, fused=True)


OPTIMIZERS: dict[str, Callable[[nn.Module, float, float], Optimizer]] = {"sgd": sgd, "adam": adam}

MOMENTS: dict[str, frozenset[str]] = {
    "sgd": frozenset({"momentum_buffer"}),
    "adam": frozenset({"step", "exp_avg", "exp_avg_sq"}),
}
"""What each keeps of a weight: `step` a scalar, all else of the weight's shape."""


def _groups(module: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Matrices decay; biases and the gains of norms, which are vectors, do not."""
    matrices = [parameter for parameter in module.parameters() if parameter.ndim > 1]
    vectors = [parameter for parameter in module.parameters() if parameter.ndim < 2]
    return [{"params": matrices, "weight_decay": weight_decay}, {"params": vectors, "weight_decay": 0.0}]
