"""Columns that hold a list of codes a row (products seen, pages visited), and their embeddings."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.functional import embedding_bag


@dataclass(frozen=True)
class Bag:
    """Row i has the codes[offsets[i] : offsets[i + 1]]: int64 [total] of 0..levels-1, and int64 [n + 1].

    Raises ValueError for another dtype or shape, for offsets that do not part the codes, and for a code
    outside the levels.
    """

    codes: Tensor
    offsets: Tensor
    levels: int

    def __post_init__(self) -> None:
        if self.codes.dtype != torch.int64 or self.offsets.dtype != torch.int64:
            raise ValueError("codes and offsets of a bag must be int64")
        if self.codes.ndim != 1 or self.offsets.ndim != 1 or not len(self.offsets):
            raise ValueError("codes and offsets of a bag must be two vectors, offsets with one entry or more")
        if self.offsets[0] != 0 or self.offsets[-1] != len(self.codes) or (self.offsets.diff() < 0).any():
            raise ValueError(f"offsets of a bag must rise from 0 to its {len(self.codes)} codes")
        if len(self.codes) and (int(self.codes.min()) < 0 or int(self.codes.max()) >= self.levels):
            raise ValueError(f"a bag has a code outside 0..{self.levels - 1}")

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def batch(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """The (codes [k], offsets [b + 1]) of these rows (int64 [b], repeats allowed)."""
        first = self.offsets.index_select(0, rows)
        length = self.offsets.index_select(0, rows + 1) - first
        offsets = torch.cat((length.new_zeros(1), length.cumsum(0)))
        moved = (first - offsets[:-1]).repeat_interleave(length)
        return self.codes.index_select(0, moved + torch.arange(len(moved))), offsets


class MeanEmbedding(nn.Embedding):
    """A batch of a bag to [b, width]: the mean of each row's embeddings, zeros for an empty one."""

    def forward(self, codes: Tensor, offsets: Tensor) -> Tensor:  # type: ignore[override]
        means: Tensor = _Means.apply(self.weight, codes, offsets)  # type: ignore[no-untyped-call]
        return means


class _Means(torch.autograd.Function):
    """torch's `embedding_bag`; its dense gradient by `index_add_`: the same sums in a fifth of the time."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, codes: Tensor, offsets: Tensor) -> Tensor:
        ctx.save_for_backward(codes, offsets)
        ctx.shape = weight.shape
        return embedding_bag(codes, weight, offsets, mode="mean", include_last_offset=True)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        codes, offsets = ctx.saved_tensors
        length = offsets.diff()
        shares = gradient / length.clamp(min=1)[:, None]
        shares = shares.repeat_interleave(length, 0, output_size=len(codes))  # known: a GPU need not count
        return gradient.new_zeros(ctx.shape).index_add_(0, codes, shares), None, None
