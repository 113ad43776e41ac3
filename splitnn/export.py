"""A trained half as a program that runs without this one: torch.export (.pt2) and ONNX.

Inputs are what `Features.batch` gives, all of it tensors by name; any number of rows will do.

    bottom   numeric float32 [b, d], categorical int64 [b, c], and of each bag its codes int64 [k] and its
             offsets int64 [b + 1]   ->   activation float32 [b, cut]
    top      of each party, the label holder first, its activation float32 [b, cut]   ->   logits [b, outputs]
"""

import io
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from splitnn.custom import Custom
from splitnn.errors import TrainingError
from splitnn.models import Bottom
from splitnn.party_dropout import PartyDropout

ROWS: Final = 3
"""Made-up rows of the trace; export takes a dimension of 0 or 1 for one that is always so long."""

BAG: Final = "bag:"
"""Begins the names of a bag's inputs; no party's name has a colon."""


class _Bottom(nn.Module):
    """What `Bottom` computes, in operations that both formats have."""

    def __init__(self, bottom: Bottom) -> None:
        super().__init__()
        self.layers, self.codes = bottom.layers, bottom.embedding.num_embeddings > 0
        if self.codes:  # an empty table cannot be saved
            self.embedding = bottom.embedding
            self.offsets: Tensor
            self.register_buffer("offsets", bottom.offsets)
        self.bags = nn.ModuleList(_Means(table.get_parameter("weight")) for table in bottom.bags)

    def forward(self, *columns: Tensor) -> Tensor:
        numeric, categorical, *bags = columns
        inputs = [numeric]
        if self.codes:
            inputs.append(self.embedding(categorical + self.offsets).flatten(1))
        row = torch.arange(numeric.shape[0])  # not `len`, which is the number of the trace
        for table, codes, offsets in zip(self.bags, bags[::2], bags[1::2], strict=True):
            inputs.append(table(codes, offsets[row], offsets[row + 1]))
        output: Tensor = self.layers(torch.cat(inputs, 1))
        return output


class _Means(nn.Module):
    """The mean embedding of codes[start : end]: differences of running sums, in float64 so that those of a
    long batch round no more than each row's own would."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight.detach())

    def forward(self, codes: Tensor, start: Tensor, end: Tensor) -> Tensor:
        rows = self.weight.to(torch.float64)[codes]
        sums = torch.cat((rows.new_zeros(1, rows.shape[1]), rows.cumsum(0)))
        count = (end - start).clamp(min=1)
        return ((sums[end] - sums[start]) / count[:, None]).to(torch.float32)


class _CustomBottom(nn.Module):
    def __init__(self, custom: Custom) -> None:
        super().__init__()
        self.module = custom.module

    def forward(self, *columns: Tensor) -> Tensor:
        numeric, categorical, *bags = columns
        output: Tensor = self.module(numeric, categorical, *zip(bags[::2], bags[1::2], strict=True))
        return output


class _Top(nn.Module):
    """Of all parties; what stands in for an absent one is not needed then."""

    def __init__(self, top: nn.Module) -> None:
        super().__init__()
        held = top.top if isinstance(top, PartyDropout) else top
        self.top = held.module if isinstance(held, Custom) else held

    def forward(self, *activations: Tensor) -> Tensor:
        logits: Tensor = self.top([*activations])
        return logits


@dataclass(frozen=True)
class Part:
    """A half, its inputs by name (made-up ones: their dtype and shape is meant), and its output's name."""

    module: nn.Module
    inputs: Mapping[str, Tensor]
    output: str

    def described(self) -> dict[str, Any]:
        """Names, and of each input its dtype and number of columns (None of a vector)."""
        shapes = {
            name: {"dtype": str(one.dtype).removeprefix("torch."), "columns": [*one.shape[1:], None][0]}
            for name, one in self.inputs.items()
        }
        return {"inputs": shapes, "output": self.output}


def bottom_part(bottom: nn.Module, numeric: int, levels: int, bags: int) -> Part:
    """numeric: columns; levels: categorical columns; bags: how many. The model is on the CPU."""
    part = _CustomBottom(bottom) if isinstance(bottom, Custom) else _Bottom(bottom)  # type: ignore[arg-type]
    inputs = {"numeric": torch.zeros(ROWS, numeric), "categorical": _zeros(ROWS, levels)}
    for place in range(bags):
        inputs |= {
            f"{BAG}{place}.codes": _zeros(2 * ROWS),
            f"{BAG}{place}.offsets": 2 * torch.arange(ROWS + 1),
        }
    return Part(part.eval(), inputs, "activation")


def top_part(top: nn.Module, names: Sequence[str], cut: int) -> Part:
    """names: of the terms that it joins, its own first."""
    return Part(_Top(top).eval(), {name: torch.zeros(ROWS, cut) for name in names}, "logits")


def program(part: Part) -> ExportedProgram:
    """Raises TrainingError for a class of the user's that cannot be exported."""
    rows = Dim("rows", min=1)
    shapes = tuple(
        {0: Dim(f"entries{place}", min=0) if name.startswith(BAG) else rows}
        for place, name in enumerate(part.inputs)
    )
    try:
        with torch.no_grad(), _silent():
            return torch.export.export(part.module, (*part.inputs.values(),), dynamic_shapes=(shapes,))
    except Exception as error:  # whatever the user's code does; torch raises many classes
        said = str(error).strip().partition("\n")[0][:200]
        raise TrainingError(f"the {part.output} model cannot be exported: {said}") from error


def as_pt2(exported: ExportedProgram) -> bytes:
    """For `torch.export.load`."""
    file = io.BytesIO()
    torch.export.save(exported, file)
    return file.getvalue()


def as_onnx(exported: ExportedProgram, part: Part) -> bytes:
    """Raises ImportError where the packages for it are not installed, TrainingError where an operation of a
    user's class has no counterpart there."""
    import onnx  # noqa: F401
    import onnxscript  # noqa: F401

    try:
        with _silent():
            made = torch.onnx.export(
                exported, input_names=[*part.inputs], output_names=[part.output], dynamo=True, verbose=False
            )
        assert made is not None
        return bytes(made.model_proto.SerializeToString())
    except Exception as error:
        said = str(error).strip().partition("\n")[0][:200]
        raise TrainingError(f"the {part.output} model cannot be written as ONNX: {said}") from error


def _zeros(*shape: int) -> Tensor:
    return torch.zeros(*shape, dtype=torch.int64)


@contextmanager
def _silent() -> Iterator[None]:
    """Without what the exporters say of their own deprecations, and of packages that nobody asked for."""
    log = logging.getLogger("torch.onnx")
    before = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(before)
