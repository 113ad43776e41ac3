"""How the top model joins the parties' activations: cut [parties, b, width] to [b, `outputs`]."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.utils import skip_init

from splitnn.secure_sum import SECURE_SUM


class Concat(nn.Module):
    """Side by side, the label holder's first."""

    def __init__(self, parties: int, width: int) -> None:
        super().__init__()
        self.outputs = parties * width

    def forward(self, cut: Tensor) -> Tensor:
        return torch.cat((*cut,), 1)


class BiInteraction(nn.Module):
    """Side by side, and the sum of the products of all pairs (He and Chua 2017, section 3.2.1, equation 4).

    What one party's columns mean often depends on another's, and a small network learns products poorly.
    """

    def __init__(self, parties: int, width: int) -> None:
        super().__init__()
        self.outputs = (parties + 1) * width

    def forward(self, cut: Tensor) -> Tensor:
        products = pairs(cut)  # first: autograd adds gradients in this order, which the last bit tells
        return torch.cat((*cut, products), 1)


class Sum(nn.Module):
    """The sum: as wide as one activation, whatever the number of parties."""

    def __init__(self, parties: int, width: int) -> None:
        super().__init__()
        self.outputs = width

    def forward(self, cut: Tensor) -> Tensor:
        return cut.sum(0)


class Mean(Sum):
    """The mean."""

    def forward(self, cut: Tensor) -> Tensor:
        return cut.mean(0)


class Attention(nn.Module):
    """A mean weighted row by row: softmax over parties of v . tanh(W a + c) (Yang et al. 2016, eq. 5-7)."""

    def __init__(self, parties: int, width: int) -> None:
        super().__init__()
        self.outputs = width
        self.hidden: nn.Linear = skip_init(nn.Linear, width, width)  # type: ignore[no-untyped-call]
        self.score: nn.Linear = skip_init(nn.Linear, width, 1, bias=False)  # type: ignore[no-untyped-call]

    def forward(self, cut: Tensor) -> Tensor:
        shares = self.score(self.hidden(cut).tanh()).softmax(0)  # [parties, b, 1]
        joined: Tensor = (shares * cut).sum(0)
        return joined


Fusion = Concat | BiInteraction | Sum | Attention

FUSIONS: dict[str, Callable[[int, int], Fusion]] = {
    "bi-interaction": BiInteraction,
    "concat": Concat,
    "sum": Sum,
    "mean": Mean,
    "attention": Attention,
    SECURE_SUM: Sum,
}
"""A secure sum (`splitnn.secure_sum`) has two terms: the label holder's own, and that of all the others."""


def pairs(cut: Tensor) -> Tensor:
    """The sum over all pairs of parties of the product of their activations, [b, width]."""
    return (cut.sum(0).square() - cut.square().sum(0)) / 2
