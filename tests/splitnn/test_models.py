"""Bottom and top models: shapes, and random streams that are nobody else's."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from splitnn.models import Bottom, Dropout, Top, dropouts
from splitnn.plan import Plan

PLAN = Plan(b"public", cut=6, bottom_hidden=(8,), top_hidden=(5,), dropout=0.5)


@pytest.mark.parametrize(("numeric", "levels"), [(3, ()), (0, (4, 9)), (2, (3,))])
def test_any_mix_of_columns_gives_the_cut(make: Any, numeric: int, levels: tuple[int, ...]) -> None:
    bottom = Bottom(PLAN, numeric, levels, b"seed")
    activation = bottom(*make.features(10, numeric, levels).batch(torch.tensor([3, 3, 1])))
    assert activation.shape == (3, PLAN.cut)
    assert Top(PLAN, 2, b"seed", 1)([activation, activation]).shape == (3, 1)


def test_columns_do_not_share_embeddings(make: Any) -> None:
    bottom = Bottom(replace(PLAN, dropout=0.0), 0, (4, 4), b"seed")
    a, b = bottom(torch.zeros(2, 0), torch.tensor([[1, 2], [2, 1]]))
    assert not torch.equal(a, b)
    bottom(torch.zeros(1, 0), torch.tensor([[3, 0]])).sum().backward()
    touched = bottom.embedding.weight.grad.abs().sum(1).nonzero().flatten().tolist()
    assert touched == [3, 4]


def test_initialisation_is_the_seeds_and_nothing_elses() -> None:
    torch.manual_seed(1)
    one = Bottom(PLAN, 3, (4,), b"seed")
    torch.manual_seed(2)
    two, other = Bottom(PLAN, 3, (4,), b"seed"), Bottom(PLAN, 3, (4,), b"other")
    for name, value in one.state_dict().items():
        assert torch.equal(value, two.state_dict()[name])
    assert not torch.equal(one.embedding.weight, other.embedding.weight)


def test_the_process_wide_generator_is_left_alone(make: Any) -> None:
    before = torch.get_rng_state()
    bottom = Bottom(PLAN, 3, (4,), b"seed")
    bottom(*make.features(10, 3, (4,)).batch(torch.arange(10)))
    assert torch.equal(torch.get_rng_state(), before)


def test_dropout_of_one_module_does_not_move_another() -> None:
    x = torch.ones(4, 50)
    alone = Dropout(0.5, b"seed", "one")
    expected = [alone(x), alone(x)]
    one, other = Dropout(0.5, b"seed", "one"), Dropout(0.5, b"seed", "other")
    drawn = [one(x), other(x), one(x)]
    assert torch.equal(drawn[0], expected[0])
    assert torch.equal(drawn[2], expected[1])
    assert not torch.equal(drawn[1], expected[0])


def test_every_dropout_of_a_party_has_a_stream_of_its_own() -> None:
    plan = replace(PLAN, bottom_hidden=(8, 8), top_hidden=(8, 8))
    layers = [*dropouts(Bottom(plan, 3, (4,), b"seed")), *dropouts(Top(plan, 2, b"seed", 1))]
    masks = {tuple(layer(torch.ones(64)).tolist()) for layer in layers}
    assert len(masks) == len(layers) >= 4


def test_dropout_keeps_the_mean_and_is_off_in_evaluation() -> None:
    layer = Dropout(0.25, b"seed", "x")
    x = torch.ones(100_000)
    dropped = layer(x)
    assert dropped.unique().tolist() == pytest.approx([0, 4 / 3])
    assert dropped.mean() == pytest.approx(1, abs=0.01)
    assert torch.equal(layer.eval()(x), x)


def test_no_dropout_draws_nothing() -> None:
    layer = Dropout(0.0, b"seed", "x")
    before = layer.generator.get_state()
    x = torch.ones(5)
    assert layer(x) is x
    assert torch.equal(layer.generator.get_state(), before)
