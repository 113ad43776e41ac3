"""The cut of the joined model: what the codecs do to the split one's tensors is done to its tensors too."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from splitnn.crossing import Crossing
from splitnn.plan import Plan


class Lines:
    """The codecs between each feature holder and the label holder, which is the first of `seeds`."""

    def __init__(self, plan: Plan, seeds: Mapping[str, bytes]) -> None:
        hub, *others = seeds
        codec, cut = plan.codec, plan.cut
        self.exact = codec.exact
        self.ends = [
            (Crossing(codec, cut, seeds[name], hub), Crossing(codec, cut, seeds[hub], name))
            for name in others
        ]

    def at(self, step: int | None) -> Callable[[Sequence[Tensor]], list[Tensor]]:
        """What becomes of all parties' activations at this step of the optimiser; None: in evaluation."""

        def cross(cut: Sequence[Tensor]) -> list[Tensor]:
            if self.exact:
                return list(cut)
            own, *others = cut
            return [own, *(_cross(*ends, part, step) for ends, part in zip(self.ends, others, strict=True))]

        return cross


def _cross(here: Crossing, hub: Crossing, activation: Tensor, step: int | None) -> Tensor:
    """The activation as the label holder gets it, in the graph of the feature holder's."""
    rows = len(activation)
    sent, payload = here.send_activation(activation, 0, step)
    leaf, arrived = hub.receive_activation(payload, "activation", rows, 0)
    if step is None:
        return arrived.detach()
    at = step

    def back(gradient: Tensor) -> Tensor:
        (of_leaf,) = torch.autograd.grad(arrived, leaf, gradient)
        return here.receive_gradient(hub.send_gradient(of_leaf, 0, at), "gradient", rows, 0)

    joined: Tensor = _Line.apply(sent, arrived.detach(), back)  # type: ignore[no-untyped-call]
    return joined


class _Line(torch.autograd.Function):
    """What arrives in place of what was sent, and the gradient that comes back for it."""

    @staticmethod
    def forward(ctx: Any, sent: Tensor, arrived: Tensor, back: Callable[[Tensor], Tensor]) -> Tensor:
        ctx.back = back
        return arrived.clone()

    @staticmethod
    def backward(ctx: Any, *gradient: Tensor) -> tuple[Tensor, None, None]:
        return ctx.back(*gradient), None, None
