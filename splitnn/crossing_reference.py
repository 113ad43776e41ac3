"""The cut of the joined model: what defences and codecs do to the split one's tensors is done to its too."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from splitnn.crossing import Crossing
from splitnn.fixed_point import FixedPoint
from splitnn.outgoing import Outgoing
from splitnn.plan import Plan
from splitnn.secure_sum import SECURE_SUM, added


class Lines:
    """What lies between each feature holder and the label holder, which is the first of `seeds`.

    outgoing: the label holder's, of gradients; None: they leave as they are.
    """

    def __init__(self, plan: Plan, seeds: Mapping[str, bytes], outgoing: Outgoing | None = None) -> None:
        hub, *self.others = seeds
        codec, cut = plan.codec, plan.cut
        self.fixed = plan.fixed_point if plan.fusion == SECURE_SUM else None
        self.exact, self.outgoing = codec.exact and self.fixed is None and not plan.embedding.on, outgoing
        self.ends = [
            (
                Crossing(codec, cut, seeds[name], hub, None, plan.embedding),
                Crossing(codec, cut, seeds[hub], name),
            )
            for name in self.others
        ]

    def at(
        self, step: int | None, batch: Tensor | None = None, exchange: int = 0
    ) -> Callable[[Sequence[Tensor]], list[Tensor]]:
        """What becomes of all parties' activations at this step of the optimiser, of these training rows
        (int64 [b]); None: in evaluation, where noise depends on the exchange."""

        def leaving(name: str) -> Callable[[Tensor], Tensor]:
            def defended(gradient: Tensor) -> Tensor:
                assert self.outgoing is not None
                assert step is not None
                assert batch is not None
                return self.outgoing.defended(name, gradient, batch, step)

            return defended if self.outgoing is not None else _as_it_is

        def cross(cut: Sequence[Tensor]) -> list[Tensor]:
            own, *others = cut
            if self.exact:
                for name, part in zip(self.others, others, strict=True):
                    if part.requires_grad:
                        part.register_hook(leaving(name))  # type: ignore[no-untyped-call]
                return list(cut)
            if self.fixed is not None:
                return [
                    own,
                    _added(self.fixed, self.ends, others, step, exchange, [*map(leaving, self.others)]),
                ]
            lines = zip(self.others, self.ends, others, strict=True)
            return [own, *(_cross(*ends, part, step, exchange, leaving(name)) for name, ends, part in lines)]

        return cross


def _cross(
    here: Crossing,
    hub: Crossing,
    activation: Tensor,
    step: int | None,
    exchange: int,
    leaving: Callable[[Tensor], Tensor],
) -> Tensor:
    """The activation as the label holder gets it, in the graph of the feature holder's."""
    rows = len(activation)
    sent, payload = here.send_activation(activation, exchange, step)
    leaf, arrived = hub.receive_activation(payload, "activation", rows, exchange)
    if step is None:
        return arrived.detach()
    at = step

    def back(gradient: Tensor) -> Tensor:
        (of_leaf,) = torch.autograd.grad(arrived, leaf, gradient)
        return here.receive_gradient(hub.send_gradient(leaving(of_leaf), 0, at), "gradient", rows, 0)

    joined: Tensor = _Line.apply(sent, arrived.detach(), back)  # type: ignore[no-untyped-call]
    return joined


def _as_it_is(gradient: Tensor) -> Tensor:
    return gradient


def _added(
    fixed: FixedPoint,
    ends: Sequence[tuple[Crossing, Crossing]],
    parts: Sequence[Tensor],
    step: int | None,
    exchange: int,
    leaving: Sequence[Callable[[Tensor], Tensor]],
) -> Tensor:
    """The secure sum of these activations, in the graph of each. Masks cancel, so there are none here."""
    parts = [here.defended(part, exchange, step) for (here, _), part in zip(ends, parts, strict=True)]
    total = fixed.number(added([fixed.words(part) for part in parts]), len(parts))
    if step is None:
        return total
    at = step

    def backs(gradient: Tensor) -> list[Tensor]:
        return [
            here.receive_gradient(hub.send_gradient(left(gradient), 0, at), "gradient", len(total), 0)
            for (here, hub), left in zip(ends, leaving, strict=True)
        ]

    joined: Tensor = _Total.apply(total, backs, *map(fixed.clip, parts))  # type: ignore[no-untyped-call]
    return joined


class _Total(torch.autograd.Function):
    """A sum in place of its terms, and the gradients that come back for each."""

    @staticmethod
    def forward(ctx: Any, total: Tensor, backs: Callable[[Tensor], list[Tensor]], *parts: Tensor) -> Tensor:
        ctx.backs = backs
        return total.clone()

    @staticmethod
    def backward(ctx: Any, *gradient: Tensor) -> tuple[Tensor | None, ...]:
        return None, None, *ctx.backs(*gradient)


class _Line(torch.autograd.Function):
    """What arrives in place of what was sent, and the gradient that comes back for it."""

    @staticmethod
    def forward(ctx: Any, sent: Tensor, arrived: Tensor, back: Callable[[Tensor], Tensor]) -> Tensor:
        ctx.back = back
        return arrived.clone()

    @staticmethod
    def backward(ctx: Any, *gradient: Tensor) -> tuple[Tensor, None, None]:
        return ctx.back(*gradient), None, None
