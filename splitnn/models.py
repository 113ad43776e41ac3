"""The two halves of the split network: bottom models below the cut layer, the top model above it.

Every module draws from random streams of its own: what one party draws cannot depend on what another does,
so the split network and the joined one of `splitnn.reference` see the same numbers.
"""

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.nn.utils import skip_init

from splitnn.bags import MeanEmbedding
from splitnn.custom import Custom
from splitnn.errors import TrainingError
from splitnn.fusion import FUSIONS, pairs
from splitnn.local import DEFAULTS, MLP, Local
from splitnn.party_dropout import PartyDropout
from splitnn.placement import Placement
from splitnn.plan import TOPS, Plan
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
        return x * (draws >= self.threshold).to(x.device) * self.scale


class Residual(nn.Sequential):
    """Layers whose output is added to their input (He et al. 2016, equation 1)."""

    def forward(self, x: Tensor) -> Tensor:
        added: Tensor = x + super().forward(x)  # type: ignore[no-untyped-call]
        return added


class Bottom(nn.Module):
    """One party's columns to its cut layer: a batch of `Features` to an activation [b, cut].

    levels: of each categorical column; bags: of each bag. seed: this party's private seed.
    """

    def __init__(
        self,
        plan: Plan,
        numeric: int,
        levels: Sequence[int],
        seed: bytes,
        local: Local = DEFAULTS,
        bags: Sequence[int] = (),
    ) -> None:
        super().__init__()
        self.placement = Placement(local)
        self.embedding: nn.Embedding = skip_init(nn.Embedding, sum(levels), EMBEDDING)  # type: ignore[no-untyped-call]
        offsets = torch.tensor([0, *levels[:-1]], dtype=torch.int64).cumsum(0)[: len(levels)]
        self.offsets: Tensor
        self.register_buffer("offsets", offsets, persistent=False)
        self.bags = nn.ModuleList(skip_init(MeanEmbedding, count, EMBEDDING) for count in bags)  # type: ignore[no-untyped-call]
        inputs = numeric + EMBEDDING * (len(levels) + len(bags))
        self.layers = _mlp(plan, inputs, plan.bottom_hidden, plan.cut, seed, "bottom")
        _initialise(self, seed, "bottom")
        self.to(self.placement.device)

    def forward(self, numeric: Tensor, categorical: Tensor, *bags: tuple[Tensor, Tensor]) -> Tensor:
        inward = self.placement.inward
        numeric, categorical = inward(numeric), inward(categorical)
        with self.placement.computing():
            inputs = [numeric]
            if self.embedding.num_embeddings:
                inputs.append(self.embedding(categorical + self.offsets).flatten(1))
            inputs += [table(*map(inward, bag)) for table, bag in zip(self.bags, bags, strict=True)]
            output: Tensor = self.layers(torch.cat(inputs, 1) if inputs[1:] else numeric)
        return self.placement.outward(output)


class Top(nn.Module):
    """All parties' activations (the label holder's first, then in contract order) to logits [b, outputs].

    They are joined by the plan's fusion, then pass hidden layers. With the top `deepfm` the logits are the
    sum of that, of a linear function of the activations, and of weighted products of all pairs (Guo et al.
    2017, equations 1 and 2, a party's activation in place of a field's embedding; weights of the products as
    in He and Chua 2017, section 3.3, so that there may be several outputs).
    """

    def __init__(self, plan: Plan, parties: int, seed: bytes, outputs: int, local: Local = DEFAULTS) -> None:
        super().__init__()
        self.placement = Placement(local)
        self.fusion = FUSIONS[plan.fusion](parties, plan.cut)
        self.layers = _mlp(plan, self.fusion.outputs, plan.top_hidden, outputs, seed, "top")
        self.machine = plan.top == "deepfm"
        if self.machine:
            self.linear = _linear(parties * plan.cut, outputs)
            self.products = _linear(plan.cut, outputs, bias=False)
        _initialise(self, seed, "top")
        self.to(self.placement.device)

    def forward(self, activations: Sequence[Tensor]) -> Tensor:
        with self.placement.computing():
            cut = self.placement.inward(torch.stack(tuple(activations)))  # [parties, b, cut]
            logits: Tensor = self.layers(self.fusion(cut))
            if self.machine:
                logits = logits + self.linear(torch.cat((*cut,), 1)) + self.products(pairs(cut))
        return self.placement.outward(logits)


def bottom_model(
    plan: Plan,
    numeric: int,
    levels: Sequence[int],
    seed: bytes,
    local: Local = DEFAULTS,
    bags: Sequence[int] = (),
) -> nn.Module:
    """The bottom model of a party's choice. Raises TrainingError for a class that is not one, and for warm
    weights of another model."""
    bottom: nn.Module
    if local.bottom == MLP:
        bottom = Bottom(plan, numeric, levels, seed, local, bags)
    else:
        arguments = (numeric, tuple(levels), plan.cut, *([tuple(bags)] if bags else []))
        bottom = Custom("bottom", local.bottom, arguments, plan.cut, seed, Placement(local))
    return _warm(bottom, "bottom", local)


def top_model(plan: Plan, parties: int, seed: bytes, outputs: int, local: Local = DEFAULTS) -> nn.Module:
    """The plan's top model, at the label holder. Raises TrainingError as `bottom_model` does."""
    top: nn.Module
    if plan.top in TOPS:
        top = Top(plan, parties, seed, outputs, local)
    else:
        top = Custom("top", plan.top, (parties, plan.cut, outputs), outputs, seed, Placement(local))
    if plan.party_dropout and parties > 1:
        top = PartyDropout(top, plan.party_dropout, parties, plan.cut, seed)
    return _warm(top, "top", local)


def _warm(module: nn.Module, half: str, local: Local) -> nn.Module:
    """With the weights of an earlier training, if there are any; random streams stay as they are."""
    if local.warm:
        held = {
            name.removeprefix(f"{half}."): weight
            for name, weight in local.warm.items()
            if name.startswith(f"{half}.")
        }
        try:
            module.load_state_dict(held)
        except RuntimeError as error:
            raise TrainingError(
                f"the {half} model has other layers than the weights to start from"
            ) from error
    return module


def dropouts(module: nn.Module) -> Iterator[Dropout]:
    return (layer for layer in module.modules() if isinstance(layer, Dropout))


def generators(module: nn.Module) -> Iterator[torch.Generator]:
    """The random streams that the next step will draw from."""
    drawing = Dropout | Custom | PartyDropout
    return (layer.generator for layer in module.modules() if isinstance(layer, drawing))


def _mlp(
    plan: Plan, inputs: int, hidden: Sequence[int], outputs: int, seed: bytes, purpose: str
) -> nn.Sequential:
    layers: list[nn.Module] = []
    for depth, width in enumerate(hidden):
        layer = [_linear(inputs, width), *_norm(plan.norm, width), nn.ReLU()]
        layer += [Dropout(plan.dropout, seed, f"dropout {purpose} {depth}")]
        layers += [Residual(*layer)] if plan.residual and depth and inputs == width else layer
        inputs = width
    return nn.Sequential(*layers, _linear(inputs, outputs))


def _norm(name: str, width: int) -> list[nn.Module]:
    """Over the units of one row, so that a batch of any size will do and no row sees another."""
    return [nn.LayerNorm(width)] if name == "layer" else []


def _linear(inputs: int, outputs: int, bias: bool = True) -> nn.Linear:
    layer: nn.Linear = skip_init(nn.Linear, inputs, outputs, bias=bias)  # type: ignore[no-untyped-call]
    return layer


@torch.no_grad()
def _initialise(module: nn.Module, seed: bytes, purpose: str) -> None:
    """Linear layers uniform in +-1/sqrt(inputs), torch's own default; embeddings the same by their width."""
    for name, layer in module.named_modules():
        if isinstance(layer, nn.Linear | nn.Embedding):
            for part, parameter in layer.named_parameters():
                bound = 1 / math.sqrt(layer.weight.shape[1])
                parameter.copy_(uniform(seed, f"{purpose} {name}.{part}", parameter.shape, bound))
