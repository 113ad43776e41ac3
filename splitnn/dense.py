"""One party's columns as a plain table of numbers, for models that know nothing of embeddings."""

import itertools
from collections.abc import Sequence
from typing import Final, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from splitnn.features import Features

LEVELS: Final = 50
"""Of a column of codes; the rarer levels share one. (Pipelines give the frequent ones the first codes.)"""


class Dense(NamedTuple):
    """table: float32 [n, d]. groups: of each group of the features, where it is in the table."""

    table: Tensor
    groups: Sequence[list[int]]


def dense(features: Features, rows: Tensor) -> Dense:
    """These rows: numbers as they are, of codes a column for each level, of bags the share of each level."""
    numeric, codes, *bags = features.batch(rows)
    parts, starts = [numeric], [numeric.shape[1]]
    for place, levels in enumerate(features.levels):
        parts.append(one_hot(_few(codes[:, place], levels), min(levels, LEVELS)).to(torch.float32))
    for (entries, offsets), levels in zip(bags, features.bag_levels, strict=True):
        counts = offsets[1:] - offsets[:-1]
        row = torch.repeat_interleave(torch.arange(len(counts)), counts)
        found = torch.zeros(len(counts), min(levels, LEVELS))
        found.index_put_(
            (row, _few(entries, levels)), (1 / counts.clamp_min(1))[row].float(), accumulate=True
        )
        parts.append(found)
    for part in parts[1:]:
        starts.append(starts[-1] + part.shape[1])
    spans = [[*range(start, end)] for start, end in itertools.pairwise(starts)]
    groups = [
        [
            *group.numeric,
            *(place for column in group.categorical for place in spans[column]),
            *(place for bag in group.bags for place in spans[len(features.levels) + bag]),
        ]
        for group in features.groups
    ]
    return Dense(torch.cat(parts, 1), groups)


def _few(codes: Tensor, levels: int) -> Tensor:
    """The code of the rarer levels is the last."""
    return codes.clamp_max(min(levels, LEVELS) - 1)
