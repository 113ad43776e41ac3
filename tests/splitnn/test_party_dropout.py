"""Party dropout: what is drawn, and scores without a party. tests/splitnn/test_options.py asserts parity."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from splitnn.models import Top, top_model
from splitnn.party_dropout import OfSets, PartyDropout, WithAndWithout, present_sets
from splitnn.plan import Plan
from splitnn.randomness import generator, strong_generator

PLAN = Plan(b"public", cut=4, bottom_hidden=(8,), top_hidden=(8,), learning_rate=0.01, party_dropout=0.3)


def test_at_probability_0_the_network_is_the_one_without(make: Any) -> None:
    federation = make.federation(120, [(3, (4,)), (2, ())])
    assert type(top_model(replace(PLAN, party_dropout=0.0), 3, b"seed", 1)) is Top
    result = federation.split_training(replace(PLAN, party_dropout=0.0, epochs=1)).results["p0"]
    assert result.without == {}


def test_the_label_holder_alone_leaves_nobody_out() -> None:
    assert type(top_model(PLAN, 1, b"seed", 1)) is Top


def module(probability: float = 0.25, parties: int = 3) -> PartyDropout:
    """Behind it a top that gives back what it was given."""

    class Seen(nn.Module):
        def forward(self, activations: list[Tensor]) -> Tensor:
            return torch.cat(activations, 1)

    made = PartyDropout(Seen(), probability, parties, 2, b"seed")
    with torch.no_grad():
        made.absent.copy_(torch.arange(-2.0 * (parties - 1), 0).view(parties - 1, 2))
    return made


def test_what_is_left_out_in_training() -> None:
    """Whole activations, each party and example by its own draw, never the label holder's own."""
    rows = 4000
    cut = [torch.full((rows, 2), float(place + 1)) for place in range(3)]
    layer = module()
    own, *others = layer(cut).split(2, 1)
    assert torch.equal(own, cut[0])
    gone = []
    for arrived, before, absent in zip(others, cut[1:], layer.absent, strict=True):
        left_out = (arrived == absent).all(1)
        assert torch.equal(arrived[~left_out], before[~left_out])
        assert left_out.float().mean().item() == pytest.approx(0.25, abs=0.03)
        gone.append(left_out)
    assert (gone[0] & gone[1]).float().mean().item() == pytest.approx(0.25**2, abs=0.02)
    again = layer(cut)
    assert not torch.equal(torch.cat((own, *others), 1), again)


def test_who_is_left_out_gets_no_gradient_and_its_embedding_gets_it() -> None:
    cut = [torch.ones(50, 2, requires_grad=True) for _ in range(3)]
    layer = module()
    seen = layer(cut)
    seen.sum().backward()
    for place, (activation, absent) in enumerate(zip(cut[1:], layer.absent, strict=True), 1):
        left_out = (seen[:, 2 * place : 2 * place + 2] == absent).all(1)
        assert activation.grad is not None
        assert torch.equal(activation.grad, (~left_out).float()[:, None].expand(50, 2))
        assert layer.absent.grad is not None
        assert torch.equal(layer.absent.grad[place - 1], left_out.sum().float().expand(2))


def test_in_evaluation_all_are_there_but_those_named() -> None:
    cut = [torch.randn(5, 2) for _ in range(4)]
    layer = module(0.9, parties=4).eval()
    state = layer.generator.get_state()
    assert torch.equal(layer(cut), torch.cat(cut, 1))
    some = layer([cut[0], None, cut[2], None]).split(2, 1)
    assert torch.equal(some[1], layer.absent[:1].expand(5, 2))
    assert torch.equal(some[2], cut[2])
    assert torch.equal(some[3], layer.absent[2:].expand(5, 2))
    views = WithAndWithout(layer)(cut)
    assert views.shape == (4, 5, 8)
    assert torch.equal(views[0], layer(cut))
    assert torch.equal(views[2], layer([cut[0], cut[1], None, cut[3]]))
    assert torch.equal(layer.generator.get_state(), state)
    assert WithAndWithout(layer.top)(cut).shape == (1, 5, 8)


def test_the_draws_depend_on_the_whole_seed() -> None:
    """A feature holder sees where it was left out: of 2^32 seeds it could find the one."""
    drawn = [
        torch.rand(8, generator=made)
        for made in (
            module().generator,
            strong_generator(b"seed", "party dropout"),
            generator(b"seed", "party dropout"),
        )
    ]
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


def test_it_learns_to_do_without(make: Any) -> None:
    """With p1 it is better, without p1 about as good as a model that never had p1."""
    columns = [(2, ()), (2, ()), (2, ())]
    made = make.federation(3000, columns)
    plan = replace(PLAN, epochs=12, batch=128, cut=8, bottom_hidden=(16,), dropout=0.0)
    hub = made.split_training(plan).results["p0"]
    features = {name: part for name, part in made.features.items() if name != "p1"}
    never = replace(made, features=features).reference(replace(plan, party_dropout=0.0))

    def auc(scores: Tensor) -> float:
        return float(hub.objective.metrics(hub.labels, scores)["auc"])

    assert auc(hub.scores) > auc(never.scores) + 0.05
    assert auc(hub.without["p1"]) > auc(never.scores) - 0.02


def test_every_set_of_few_parties_and_some_of_many() -> None:
    assert present_sets(nn.Identity(), 3) == [(True,) * 3]
    few = present_sets(module(parties=4), 3)
    assert few[0] == (True,) * 3
    assert len(few) == len({*few}) == 8
    many = present_sets(module(parties=7), 6)
    assert many[0] == (True,) * 6
    assert sorted(map(sum, many)) == [0, 5, 5, 5, 5, 5, 5, 6]


def test_the_views_of_the_sets_are_the_model_without_who_is_not_there() -> None:
    layer = module().eval()
    cut = [torch.randn(5, 2) for _ in range(3)]
    views = OfSets(layer, 2)
    for among, seen in zip(views.sets, views(cut), strict=True):
        there = [one if is_there else None for one, is_there in zip(cut[1:], among, strict=True)]
        assert torch.equal(seen, layer([cut[0], *there]))


@pytest.mark.parametrize("schedule", ["exact", "pipelined"])
def test_validation_logits_of_each_set_are_those_of_the_kept_epoch(make: Any, schedule: str) -> None:
    federation = make.federation(160, [(3, (4,)), (2, ()), (2, ())])
    more = {"in_flight": 2} if schedule == "pipelined" else {}
    plan = replace(PLAN, epochs=2, schedule=schedule, **more)
    results = federation.split_training(plan).results
    leading, rows = results["p0"], federation.rows.validation
    bottoms = [results[name].bottom.eval() for name in federation.features]
    with torch.no_grad():
        cut = [
            bottom(*one.batch(rows))
            for bottom, one in zip(bottoms, federation.features.values(), strict=True)
        ]
        own, *others = cut
        found = {(True, True): leading.validation_logits} | leading.validation_fewer
        assert len(found) == 4
        for among, logits in found.items():
            there = [one if is_there else None for one, is_there in zip(others, among, strict=True)]
            assert torch.allclose(logits, leading.top.eval()([own, *there]), atol=1e-6)
