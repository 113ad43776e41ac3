"""Models on a device of their own: nothing there meets a tensor in main memory; what crosses is float32 here.

The device is torch's `meta`, which any machine has: it holds shapes and no numbers, and refuses to compute
with tensors of another device. Only the two copies across, which it cannot make, are replaced.
"""

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from splitnn.bags import MeanEmbedding
from splitnn.fusion import FUSIONS
from splitnn.local import Local
from splitnn.models import bottom_model, top_model
from splitnn.party_dropout import PartyDropout
from splitnn.placement import Placement
from splitnn.plan import NORMS, TOPS, Plan
from splitnn.secure_sum import SECURE_SUM

HERE, META = __name__, torch.device("meta")
ROWS = 5


class Inward(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        return tensor.to(META)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # type: ignore[override]
        return torch.ones(gradient.shape)


class Outward(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        ctx.dtype = tensor.dtype
        return torch.ones(tensor.shape)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # type: ignore[override]
        return gradient.to(META, ctx.dtype)


class OwnBottom(nn.Module):
    def __init__(self, numeric: int, levels: Sequence[int], cut: int, bags: Sequence[int]) -> None:
        super().__init__()
        self.out, self.bag = nn.Linear(numeric, cut), MeanEmbedding(bags[0], cut)

    def forward(self, numeric: Tensor, categorical: Tensor, bag: tuple[Tensor, Tensor]) -> Tensor:
        return self.out(numeric) + self.bag(*bag)


class OwnTop(nn.Module):
    def __init__(self, parties: int, cut: int, outputs: int) -> None:
        super().__init__()
        self.out = nn.Linear(parties * cut, outputs)

    def forward(self, activations: Sequence[Tensor]) -> Tensor:
        return self.out(torch.cat([*activations], 1))


@pytest.fixture
def local(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(Placement, "inward", lambda self, tensor: Inward.apply(tensor))
    monkeypatch.setattr(Placement, "outward", lambda self, tensor: Outward.apply(tensor))
    made = Placement.__init__

    def elsewhere(self: Placement, local: Local) -> None:
        made(self, local)
        self.device = META

    monkeypatch.setattr(Placement, "__init__", elsewhere)
    return lambda **choices: Local(**choices)


def check(module: nn.Module, *inputs: Any) -> None:
    output = module(*inputs)
    assert (output.device.type, output.dtype) == ("cpu", torch.float32)
    output.sum().backward()
    placed = module.top if isinstance(module, PartyDropout) else module  # the rest is where tensors cross
    assert {weight.device for weight in placed.parameters()} == {META}
    assert all(weight.grad is not None and weight.grad.device == META for weight in placed.parameters())


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("bottom", ["mlp", f"{HERE}:OwnBottom"])
def test_bottoms(local: Any, norm: str, bottom: str) -> None:
    plan = Plan(b"", cut=4, bottom_hidden=(6, 6), residual=True, norm=norm)
    module = bottom_model(plan, 2, (3, 4), b"seed", local(bottom=bottom), (7,))
    bag = torch.zeros(ROWS, dtype=torch.int64), torch.arange(ROWS + 1)
    check(module, torch.ones(ROWS, 2), torch.zeros(ROWS, 2, dtype=torch.int64), bag)


@pytest.mark.parametrize("fusion", [name for name in FUSIONS if name != SECURE_SUM])
@pytest.mark.parametrize("top", [*TOPS, f"{HERE}:OwnTop"])
@pytest.mark.parametrize("party_dropout", [0.0, 0.5])
def test_tops(local: Any, fusion: str, top: str, party_dropout: float) -> None:
    plan = Plan(b"", cut=4, fusion=fusion, top=top, party_dropout=party_dropout)
    module = top_model(plan, 3, b"seed", 2, local())
    leaves = [torch.ones(ROWS, 4, requires_grad=True) for _ in range(3)]
    check(module, leaves)
    assert all(leaf.grad is not None and leaf.grad.device.type == "cpu" for leaf in leaves)
