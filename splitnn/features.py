"""One party's columns, ready for its bottom model; row i is entity i of the alignment."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from splitnn.schedule import chunks


@dataclass(frozen=True)
class Features:
    """numeric: float32 [n, d], standardised; categorical: int64 [n, c], column j with codes 0..levels[j]-1.

    Raises ValueError for another dtype or shape, a value that is not finite, and a code outside its levels.
    """

    numeric: Tensor
    categorical: Tensor
    levels: Sequence[int]

    def __post_init__(self) -> None:
        if self.numeric.dtype != torch.float32 or self.categorical.dtype != torch.int64:
            raise ValueError("numeric features must be float32 and categorical features int64")
        if self.numeric.ndim != 2 or self.categorical.ndim != 2 or len(self.numeric) != len(self.categorical):
            raise ValueError("numeric and categorical features must be two tables with the same rows")
        if self.categorical.shape[1] != len(self.levels):
            raise ValueError(
                f"{len(self.levels)} level counts for {self.categorical.shape[1]} categorical columns"
            )
        if not all(torch.isfinite(some).all() for some in chunks(self.numeric)):
            raise ValueError("a numeric feature is not finite: impute missing values first")
        for column, levels in enumerate(self.levels):
            codes = self.categorical[:, column]
            if len(codes) and (int(codes.min()) < 0 or int(codes.max()) >= levels):
                raise ValueError(f"categorical column {column} has a code outside 0..{levels - 1}")
        object.__setattr__(self, "numeric", self.numeric.contiguous())
        object.__setattr__(self, "categorical", self.categorical.contiguous())
        object.__setattr__(self, "levels", tuple(self.levels))

    def __len__(self) -> int:
        return len(self.numeric)

    def batch(self, entities: Tensor) -> tuple[Tensor, Tensor]:
        """The (numeric [b, d], categorical [b, c]) of these entities (int64 [b], repeats allowed)."""
        return self.numeric.index_select(0, entities), self.categorical.index_select(0, entities)
