"""Bags: gathered and averaged as row by row, in training and its reference alike."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.functional import embedding_bag

from protos.memory import together
from splitnn.bags import Bag, MeanEmbedding
from splitnn.features import Features
from splitnn.local import Local
from splitnn.models import EMBEDDING, Bottom
from splitnn.plan import Plan
from splitnn.schedules import SCHEDULES

LEVELS = 7
ROWS = st.lists(st.lists(st.integers(0, LEVELS - 1), max_size=6), min_size=1, max_size=8)
PLAN = Plan(b"public", cut=4, bottom_hidden=(8,), top_hidden=(8,), batch=32, epochs=2, dropout=0.3)
COLUMNS = [(3, (4,), (6,)), (0, (), (5, 30))]


def bag_of(rows: Sequence[Sequence[int]], levels: int = LEVELS) -> Bag:
    lengths = torch.tensor([0, *map(len, rows)])
    codes = torch.tensor([code for row in rows for code in row], dtype=torch.int64)
    return Bag(codes, lengths.cumsum(0), levels)


@settings(deadline=None, max_examples=150)
@given(rows=ROWS, data=st.data())
def test_a_batch_is_the_mean_of_each_rows_embeddings(rows: list[list[int]], data: Any) -> None:
    bag = bag_of(rows)
    wanted = data.draw(st.lists(st.integers(0, len(rows) - 1), max_size=12))
    codes, offsets = bag.batch(torch.tensor(wanted, dtype=torch.int64))
    ends = offsets.tolist()
    assert [codes[a:b].tolist() for a, b in pairwise(ends)] == [rows[row] for row in wanted]
    table = MeanEmbedding(LEVELS, 3)
    means = table(codes, offsets)
    plain = table.weight.detach().clone().requires_grad_()
    expected = [plain[rows[row]].mean(0) if rows[row] else torch.zeros(3) for row in wanted]
    assert means.shape == (len(wanted), 3)
    factors = torch.randn(len(wanted), 3)
    (means * factors).sum().backward()
    assert table.weight.grad is not None
    if not any(rows[row] for row in wanted):
        assert not means.any()
        assert not table.weight.grad.any()
        return
    (torch.stack(expected) * factors).sum().backward()
    torch.testing.assert_close(means, torch.stack(expected))
    torch.testing.assert_close(table.weight.grad, plain.grad)


def test_a_gradient_has_one_order_of_sums(make: Any) -> None:
    bag = make.bag(3000, 50, torch.Generator().manual_seed(1))
    weight, factors = torch.randn(50, 8), torch.randn(3000, 8)
    gradients = []
    for _ in range(2):
        table = MeanEmbedding.from_pretrained(weight, freeze=False)
        (table(bag.codes, bag.offsets) * factors).sum().backward()
        gradients.append(table.weight.grad)
    plain = weight.clone().requires_grad_()
    means = embedding_bag(bag.codes, plain, bag.offsets, mode="mean", include_last_offset=True)
    (means * factors).sum().backward()
    assert torch.equal(gradients[0], gradients[1])
    torch.testing.assert_close(gradients[0], plain.grad)


@pytest.mark.parametrize(
    ("codes", "offsets"),
    [
        (torch.zeros(2), torch.tensor([0, 2])),
        (torch.zeros(2, dtype=torch.int64), torch.tensor([0, 2], dtype=torch.int32)),
        (torch.zeros(2, 1, dtype=torch.int64), torch.tensor([0, 2])),
        (torch.zeros(0, dtype=torch.int64), torch.zeros(0, dtype=torch.int64)),
        (torch.zeros(2, dtype=torch.int64), torch.tensor([0, 1])),
        (torch.zeros(2, dtype=torch.int64), torch.tensor([1, 2])),
        (torch.zeros(2, dtype=torch.int64), torch.tensor([0, 3, 2])),
        (torch.tensor([0, LEVELS]), torch.tensor([0, 2])),
        (torch.tensor([-1, 0]), torch.tensor([0, 2])),
    ],
)
def test_bags_that_no_model_takes_are_refused(codes: Tensor, offsets: Tensor) -> None:
    with pytest.raises(ValueError, match="bag"):
        Bag(codes, offsets, LEVELS)


def test_bags_of_other_rows_are_refused() -> None:
    with pytest.raises(ValueError, match="bag has other rows"):
        Features(torch.zeros(3, 1), torch.zeros(3, 0, dtype=torch.int64), (), [bag_of([[1], [2]])])


def test_features_give_their_bags_behind_the_other_columns() -> None:
    numeric, codes = torch.tensor([[1.0], [2.0]]), torch.zeros(2, 0, dtype=torch.int64)
    features = Features(numeric, codes, (), [bag_of([[1], [2, 2]]), bag_of([[], [4]], 5)])
    assert features.bag_levels == (LEVELS, 5)
    entities = torch.tensor([1, 0, 1])
    first, _, *bags = features.batch(entities)
    assert first.tolist() == [[2.0], [1.0], [2.0]]
    assert [[part.tolist() for part in bag] for bag in bags] == [
        [[2, 2, 1, 2, 2], [0, 2, 3, 5]],
        [[4, 4], [0, 1, 1, 2]],
    ]
    assert all(torch.equal(a, b) for a, b in zip(bags[0], features.bags[0].batch(entities), strict=True))


def test_a_bottom_puts_the_means_beside_the_other_columns() -> None:
    bottom = Bottom(replace(PLAN, bottom_hidden=()), 2, (3,), b"seed", bags=(4, LEVELS))
    numeric, code, bags = torch.randn(1, 2), torch.tensor([[2]]), [bag_of([[1, 1, 3]], 4), bag_of([[]])]
    inputs = [
        numeric[0],
        bottom.embedding.weight[2],
        bottom.bags[0].weight[[1, 1, 3]].mean(0),
        torch.zeros(EMBEDDING),
    ]
    expected = bottom.layers(torch.cat(inputs)[None])
    torch.testing.assert_close(bottom(numeric, code, *((bag.codes, bag.offsets) for bag in bags)), expected)
    with pytest.raises(ValueError, match="zip"):
        bottom(numeric, code)


class Longest(nn.Module):
    """A bottom of one's own: the sums of bags, and how long each is."""

    def __init__(self, numeric: int, levels: Sequence[int], cut: int, bags: Sequence[int]) -> None:
        super().__init__()
        self.tables = nn.ModuleList(nn.EmbeddingBag(count, 3, mode="sum") for count in bags)
        self.out = nn.Linear(numeric + 4 * len(bags), cut)

    def forward(self, numeric: Tensor, categorical: Tensor, *bags: tuple[Tensor, Tensor]) -> Tensor:
        parts = [numeric]
        for table, (codes, offsets) in zip(self.tables, bags, strict=True):
            parts += [table(codes, offsets[:-1]), offsets.diff()[:, None]]
        return self.out(torch.cat(parts, 1))


@pytest.mark.parametrize("schedule", [*SCHEDULES])
@pytest.mark.parametrize("own", ["mlp", f"{__name__}:Longest"])
def test_parity_of_each_schedule_and_bags_are_learned(make: Any, schedule: str, own: str) -> None:
    federation = make.federation(150, COLUMNS)
    plan = replace(PLAN, schedule=schedule, in_flight=2)
    choices = {"p1": Local(bottom=own, precision="bf16")}
    results = together(federation.protocols(plan, choices=choices)).results
    make.assert_same(results, federation.reference(plan, choices))
    before = Bottom(plan, 3, (4,), federation.seeds["p0"], bags=(6,)).bags[0].weight
    assert (results["p0"].bottom.bags[0].weight != before).all()
