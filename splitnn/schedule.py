"""The public schedule: which examples are in which part and batch. Every party computes it by itself."""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from splitnn.randomness import permutation

EVALUATION_ROWS = 8192
"""Rows that are scored at a time: 1 MiB of activations at cut 32, so memory stays flat at any table size."""


class Split(NamedTuple):
    """The examples of each part: of each, its place (int64) in one party's `Features`.

    Places may repeat: several examples may point at one entity. All parties' parts have the same lengths.
    """

    train: Tensor
    validation: Tensor
    test: Tensor


def of_sizes(train: int, validation: int, test: int) -> Split:
    """Parts of these lengths, whose places tell nothing and take no memory: for what follows from lengths."""
    return Split(*(torch.zeros(1, dtype=torch.int64).expand(size) for size in (train, validation, test)))


def split_rows(n: int, validation: float, test: float, seed: bytes) -> Split:
    """Split entities 0..n-1 by the public seed: the parts are disjoint, cover all, and are in random order.

    validation, test: shares of n, rounded to whole rows. Raises ValueError where a part would be empty.
    """
    test_rows, validation_rows = round(n * test), round(n * validation)
    train_rows = n - test_rows - validation_rows
    if min(train_rows, validation_rows, test_rows) < 1:
        raise ValueError(
            f"{n} rows are too few to split into {validation:g} validation and {test:g} test: use more rows"
        )
    order = permutation(seed, "split", n)
    return Split(order[:train_rows], order[train_rows : train_rows + validation_rows], order[-test_rows:])


def repeated(entities: Split, counts: Tensor) -> tuple[Split, Split]:
    """Several examples an entity: of each part's examples their own places, and those of their entities.

    counts: of each entity, how many examples it has (int64 [n], at least 1). Examples are numbered entity by
    entity; in a part, those of one entity stand together, in the part's order. With counts of 1, both are as
    `entities` is.
    """
    first = counts.cumsum(0) - counts

    def examples(part: Tensor) -> Tensor:
        of_part = counts[part]
        before = (of_part.cumsum(0) - of_part).repeat_interleave(of_part)
        return first[part].repeat_interleave(of_part) + torch.arange(len(before)) - before

    return (
        Split(*(examples(part) for part in entities)),
        Split(*(part.repeat_interleave(counts[part]) for part in entities)),
    )


def batches(examples: int, batch: int, seed: bytes, epoch: int) -> Iterator[Tensor]:
    """One epoch's batches: positions in the training part (int64), each once; the last batch is smaller."""
    return chunks(permutation(seed, f"epoch {epoch}", examples), batch)


def steps_an_epoch(examples: int, batch: int) -> int:
    return -(-examples // batch)


def chunks(rows: Tensor, size: int = EVALUATION_ROWS) -> Iterator[Tensor]:
    """The rows in order, `size` at a time."""
    return (rows[start : start + size] for start in range(0, len(rows), size))
