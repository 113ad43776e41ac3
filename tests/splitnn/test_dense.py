"""Columns as a plain table."""

import itertools
from typing import Any

import torch
from hypothesis import given
from hypothesis import strategies as st

from splitnn import dense as module
from splitnn.bags import Bag
from splitnn.dense import dense
from splitnn.features import Features, Group


def test_each_kind_of_column() -> None:
    bag = Bag(torch.tensor([2, 2, 0]), torch.tensor([0, 2, 2, 3]), 3)
    features = Features(torch.tensor([[1.5], [2.5], [3.5]]), torch.tensor([[0], [1], [1]]), (2,), [bag])
    found = dense(features, torch.tensor([2, 0, 1]))
    assert found.table.tolist() == [
        [3.5, 0, 1, 1, 0, 0],
        [1.5, 1, 0, 0, 0, 1],
        [2.5, 0, 1, 0, 0, 0],
    ]
    assert found.groups == [[0], [1, 2], [3, 4, 5]]


def test_columns_of_a_group_stand_together() -> None:
    groups = [Group((1,), (0,)), Group((0,))]
    features = Features(torch.zeros(2, 2), torch.zeros(2, 1, dtype=torch.int64), (3,), groups=groups)
    assert dense(features, torch.arange(2)).groups == [[1, 2, 3, 4], [0]]


@given(st.lists(st.integers(2, 120), max_size=3), st.lists(st.integers(2, 120), max_size=2))
def test_every_number_belongs_to_one_column_and_rare_levels_share_one(
    make: Any, levels: list[int], bags: list[int]
) -> None:
    features = make.features(30, 2, tuple(levels), 1, tuple(bags))
    found = dense(features, torch.arange(30))
    widths = [1, 1, *(min(one, module.LEVELS) for one in (*levels, *bags))]
    assert [len(group) for group in found.groups] == widths
    assert sorted(itertools.chain(*found.groups)) == [*range(found.table.shape[1])]
    for place, group in enumerate(found.groups[2 : 2 + len(levels)]):
        assert (found.table[:, group].sum(1) == 1).all()
        code = features.categorical[:, place].clamp_max(module.LEVELS - 1)
        assert torch.equal(found.table[:, group].argmax(1), code)
