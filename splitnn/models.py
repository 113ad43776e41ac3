"""The two halves of the split network: bottom models below the cut layer, the top model above it.

Every module draws from random streams of its own: what one party draws cannot depend on what another does,
so the split network and the joined one of `splitnn.reference` see the same numbers.
"""

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.nn.utils import skip_init

from splitnn.plan import Plan
from splitnn.randomness import generator, uniform

EMBEDDING = 8
"""Width of each level's embedding. One width for all columns lets a single lookup serve them all."""


class Dropout(nn.Module):
    """Dropout with a generator of its own (torch's takes the one generator of the whole process)."""

    def __init__(self, share: float, seed: bytes, purpose: str) -> None:
        super().__init__()
        dropped = min(round(share * 65536), 65535)
        self.threshold = dropped - 32768
        self.scale = 65536 / (65536 - dropped)
        self.generator = generator(seed, purpose)

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.scale == 1:
            return x
        # Four 16-bit draws from each 64-bit word: a third of the time of `bernoulli_`.
        words = torch.empty(-(-x.numel() // 4), dtype=torch.int64)
        words.random_(-(2**63), None, generator=self.generator)
        draws = words.view(torch.int16)[: x.numel()].view_as(x)
        return x * (draws >= self.threshold) * self.scale


class Bottom(nn.Module):
    """One party's columns to its cut layer: (numeric [b, d], categorical [b, c]) to an activation [b, cut].

    levels: of each categorical column. seed: this party's private seed.
    """

    def __init__(self, plan: Plan, numeric: int, levels: Sequence[int], seed: bytes) -> None:
        super().__init__()
        self.embedding: nn.Embedding = skip_init(nn.Embedding, sum(levels), EMBEDDING)  # type: ignore[no-untyped-call]
        offsets = torch.tensor([0, *levels[:-1]], dtype=torch.int64).cumsum(0)[: len(levels)]
        self.offsets: Tensor
        self.register_buffer("offsets", offsets, persistent=False)
        inputs = numeric + EMBEDDING * len(levels)
        self.layers = _mlp(inputs, plan.bottom_hidden, plan.cut, plan.dropout, seed, "bottom")
        _initialise(self, seed, "bottom")

    def forward(self, numeric: Tensor, categorical: Tensor) -> Tensor:
        embedded = self.embedding(categorical + self.offsets).flatten(1)
        output: Tensor = self.layers(torch.cat((numeric, embedded), 1))
        return output


class Top(nn.Module):
    """All parties' activations (the label holder's first, then in contract order) to logits [b, outputs].

    Fusion: the activations side by side, and the sum of the products of all pairs of them (bi-interaction
    pooling: He and Chua 2017, section 3.2.1, equation 4), because what one party's columns mean often
    depends on another's, and a small network learns products poorly.
    """

    def __init__(self, plan: Plan, parties: int, seed: bytes, outputs: int = 1) -> None:
        super().__init__()
        inputs = plan.cut * (parties + 1)
        self.layers = _mlp(inputs, plan.top_hidden, outputs, plan.dropout, seed, "top")
        _initialise(self, seed, "top")

    def forward(self, activations: Sequence[Tensor]) -> Tensor:
        cut = torch.stack(tuple(activations))  # [parties, b, cut]
        pairs = (cut.sum(0).square() - cut.square().sum(0)) / 2
        logits: Tensor = self.layers(torch.cat((*cut, pairs), 1))
        return logits


def dropouts(module: nn.Module) -> Iterator[Dropout]:
    return (layer for layer in module.modules() if isinstance(layer, Dropout))


def _mlp(
    inputs: int, hidden: Sequence[int], outputs: int, dropout: float, seed: bytes, purpose: str
) -> nn.Sequential:
    layers: list[nn.Module] = []
    for depth, width in enumerate(hidden):
        layers += [_linear(inputs, width), nn.ReLU(), Dropout(dropout, seed, f"dropout {purpose} {depth}")]
        inputs = width
    return nn.Sequential(*layers, _linear(inputs, outputs))


def _linear(inputs: int, outputs: int) -> nn.Linear:
    layer: nn.Linear = skip_init(nn.Linear, inputs, outputs)  # type: ignore[no-untyped-call]
    return layer


@torch.no_grad()
def _initialise(module: nn.Module, seed: bytes, purpose: str) -> None:
    """Linear layers uniform in +-1/sqrt(inputs), torch's own default; embeddings the same by their width."""
    for name, layer in module.named_modules():
        if isinstance(layer, nn.Linear | nn.Embedding):
            for part, parameter in layer.named_parameters():
                bound = 1 / math.sqrt(layer.weight.shape[1])
                parameter.copy_(uniform(seed, f"{purpose} {name}.{part}", parameter.shape, bound))
