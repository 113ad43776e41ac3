"""Exported halves: written, read again, the same outputs to 1e-6 for any rows."""

import io
from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from splitnn.bags import Bag
from splitnn.errors import TrainingError
from splitnn.export import Part, as_onnx, as_pt2, bottom_part, program, top_part
from splitnn.features import Features
from splitnn.local import Local
from splitnn.models import bottom_model, top_model
from splitnn.plan import Plan

SEED = bytes(32)
Run = Callable[[Sequence[Tensor]], Tensor]


class Own(nn.Module):
    """A class of the user's, with bags."""

    def __init__(self, numeric: int, levels: Sequence[int], cut: int, bags: Sequence[int] = ()) -> None:
        super().__init__()
        self.out = nn.Linear(numeric + len(levels), cut)

    def forward(self, numeric: Tensor, categorical: Tensor, *bags: tuple[Tensor, Tensor]) -> Tensor:
        return self.out(torch.cat((numeric, categorical.float()), 1))


class Branching(Own):
    """Python that looks at values cannot be traced."""

    def forward(self, numeric: Tensor, categorical: Tensor, *bags: tuple[Tensor, Tensor]) -> Tensor:
        return super().forward(numeric, categorical) * (2 if numeric.sum().item() > 0 else 1)


def from_pt2(part: Part) -> Run:
    loaded = torch.export.load(io.BytesIO(as_pt2(program(part)))).module()
    return lambda inputs: loaded(*inputs)


def from_onnx(part: Part) -> Run:
    runtime = pytest.importorskip("onnxruntime", reason="needs the extra `export`")
    pytest.importorskip("onnxscript", reason="needs the extra `export`")
    session = runtime.InferenceSession(as_onnx(program(part), part))

    def run(inputs: Sequence[Tensor]) -> Tensor:
        named = dict(zip(part.inputs, (one.numpy() for one in inputs), strict=True))
        assert [one.name for one in session.get_outputs()] == [part.output]
        taken = {one.name: named[one.name] for one in session.get_inputs()}
        return torch.from_numpy(session.run([part.output], taken)[0])

    return run


@pytest.fixture(params=[from_pt2, from_onnx])
def read(request: pytest.FixtureRequest) -> Callable[[Part], Run]:
    found: Callable[[Part], Run] = request.param
    return found


def features(rows: int, numeric: int, levels: Sequence[int], bags: Sequence[int]) -> Features:
    random = torch.Generator().manual_seed(rows)

    def codes(count: int, levels: int) -> Tensor:
        return torch.randint(0, levels, (count,), generator=random)

    made = []
    for of in bags:  # the first row and the last have none, where there are several
        lengths = codes(rows, 5)
        lengths[[0, -1]] = 0
        made.append(
            Bag(codes(int(lengths.sum()), of), torch.cat((torch.zeros(1), lengths.cumsum(0))).long(), of)
        )
    columns = [codes(rows, of) for of in levels]
    categorical = torch.stack(columns, 1) if columns else torch.zeros(rows, 0, dtype=torch.int64)
    return Features(torch.randn(rows, numeric, generator=random), categorical, levels, made)


def assert_same(bottom: nn.Module, run: Run, shape: tuple[int, Sequence[int], Sequence[int]]) -> None:
    for rows in (1, 2, 3, 5, 300):
        batch = features(rows, *shape).batch(torch.arange(rows))
        flat = [one for entry in batch for one in (entry if isinstance(entry, tuple) else (entry,))]
        torch.testing.assert_close(run(flat), bottom(*batch).detach(), rtol=0, atol=1e-6)


def test_a_bottom_model_is_the_same_for_any_rows(read: Callable[[Part], Run]) -> None:
    plan = Plan(SEED, cut=4, bottom_hidden=(8, 8), norm="layer", residual=True)
    bottom = bottom_model(plan, 3, (5, 6), SEED, bags=(7, 4)).eval()
    assert_same(bottom, read(bottom_part(bottom, 3, 2, 2)), (3, (5, 6), (7, 4)))


@pytest.mark.parametrize("shape", [(2, (), ()), (0, (5,), ()), (0, (), (6,))])
def test_so_is_one_of_columns_of_one_kind(shape: tuple[int, Sequence[int], Sequence[int]]) -> None:
    numeric, levels, bags = shape
    bottom = bottom_model(Plan(SEED, cut=4), numeric, levels, SEED, bags=bags).eval()
    assert_same(bottom, from_pt2(bottom_part(bottom, numeric, len(levels), len(bags))), shape)


def test_a_top_model_is_the_same_for_any_rows(read: Callable[[Part], Run]) -> None:
    plan = Plan(SEED, cut=4, top_hidden=(8,), top="deepfm", fusion="attention", party_dropout=0.3)
    top = top_model(plan, 3, SEED, 2).eval()
    run = read(top_part(top, ("me", "a", "b"), 4))
    random = np.random.default_rng(1)
    for rows in (1, 2, 300):
        cut = [*torch.from_numpy(random.normal(size=(3, rows, 4)).astype(np.float32))]
        torch.testing.assert_close(run(cut), top(cut).detach(), rtol=0, atol=1e-6)


def test_a_class_of_the_users_is_exported_or_refused_in_a_line() -> None:
    plan = Plan(SEED, cut=4)
    bottom = bottom_model(plan, 2, (5,), SEED, Local(f"{__name__}:Own"), (3,))
    batch = features(7, 2, (5,), (3,)).batch(torch.arange(7))
    run = from_pt2(bottom_part(bottom, 2, 1, 1))
    torch.testing.assert_close(
        run([batch[0], batch[1], *batch[2]]), bottom(*batch).detach(), rtol=0, atol=1e-6
    )
    branching = bottom_model(plan, 2, (5,), SEED, Local(f"{__name__}:Branching"))
    with pytest.raises(TrainingError, match="the activation model cannot be exported: ") as error:
        program(bottom_part(branching, 2, 1, 0))
    assert "\n" not in str(error.value)
