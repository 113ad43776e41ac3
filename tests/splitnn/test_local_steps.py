"""Local steps: what the papers define, written out once more; which batch's turn it is; starting again."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from protos.memory import together
from protos.rounds import RemoteProtocolError, Resume, Round, Save, Send
from splitnn import local_steps
from splitnn.crossing import Codecs
from splitnn.descent import Descent
from splitnn.errors import TrainingError
from splitnn.local import DEFAULTS
from splitnn.local_steps import Cache, Exchanged, reliability
from splitnn.models import bottom_model, top_model
from splitnn.plan import Plan
from splitnn.schedule import batches

FEDBCD = Plan(
    b"public",
    cut=4,
    bottom_hidden=(8,),
    top_hidden=(8,),
    batch=32,
    epochs=3,
    dropout=0.3,
    learning_rate=0.01,
    schedule="fedbcd",
    local_steps=3,
)
CELU = replace(FEDBCD, schedule="celu", in_flight=3, cache=2, reuse=3)
COLUMNS = [(3, (4,)), (2, (5, 6)), (4, ())]


def by_hand(federation: Any, plan: Plan, turns: list[list[int]]) -> dict[str, Tensor]:
    """Two parties, no dropout, plain gradient descent: the weights after the exchange of each batch and the
    local steps that follow it, on the batches (from 0) that `turns` names."""
    rate = plan.learning_rate
    models: dict[str, nn.Module] = {
        name: bottom_model(plan, part.numeric.shape[1], part.levels, federation.seeds[name])
        for name, part in federation.features.items()
    }
    models["top"] = top_model(plan, 2, federation.seeds["p0"], 1)
    table: list[tuple[Tensor, Tensor, Tensor]] = []  # batch, activation, gradient

    def forward(name: str, batch: Tensor) -> Tensor:
        return models[name](*federation.features[name].batch(federation.rows.train[batch]))

    def losses(batch: Tensor, activation: Tensor) -> Tensor:
        logits = models["top"]([forward("p0", batch), activation])[:, 0]
        return binary_cross_entropy_with_logits(logits, federation.labels.train[batch], reduction="none")

    def descend(names: list[str], loss: Tensor) -> None:
        weights = [weight for name in names for weight in models[name].parameters()]
        for weight, gradient in zip(weights, torch.autograd.grad(loss, weights), strict=True):
            weight.data -= rate * gradient

    def weigh(now: Tensor, then: Tensor) -> Tensor:
        if plan.schedule == "fedbcd":
            return torch.ones(len(now))
        cosine = (now * then).sum(1) / (now.norm(dim=1) * then.norm(dim=1))
        return cosine * (cosine >= plan.similarity)

    order = [batch for epoch in range(plan.epochs) for batch in batches(120, plan.batch, plan.seed, epoch)]
    for batch, again in zip(order, turns, strict=True):
        activation = forward("p1", batch)
        crossed = activation.detach().requires_grad_()
        loss = losses(batch, crossed).mean()
        (gradient,) = torch.autograd.grad(loss, crossed, retain_graph=True)
        descend(["p0", "top"], loss)
        descend(["p1"], (activation * gradient).sum())
        table.append((batch, crossed, gradient))
        for old, then, then_gradient in (table[place] for place in again):
            each = losses(old, then)
            (now_gradient,) = torch.autograd.grad(each.mean(), then, retain_graph=True)
            descend(["p0", "top"], (each * weigh(now_gradient, then_gradient)).mean())
            now = forward("p1", old)
            weights = weigh(now.detach(), then.detach())[:, None]
            descend(["p1"], (now * then_gradient * weights).sum())
    return {f"{at} {k}": v for at, module in models.items() for k, v in module.state_dict().items()}


class PlainDescent(Descent):
    """Without momentum and weight decay."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.optimizers = [
            torch.optim.SGD([w for ws in self.weights for w in ws], lr=self.plan.learning_rate)
        ]


@pytest.mark.parametrize(
    ("changes", "turns"),
    [
        ({"schedule": "fedbcd", "local_steps": 3}, [[t, t] for t in range(8)]),
        ({"cache": 1, "reuse": 2}, [[t, t] for t in range(8)]),
        (
            {"cache": 2, "reuse": 2},
            [[0], [1, 0], [1, 2], [3, 2], [3, 4], [5, 4], [5, 6], [7, 6]],
        ),
        ({"cache": 3, "reuse": 1}, [[], [0], [1], [2], [3], [4], [5], [6]]),
        ({"cache": 2, "reuse": 2, "similarity": 0.995}, [[0], [1, 0], [1, 2], [3, 2]]),
    ],
)
def test_the_weights_are_those_that_the_papers_define(
    make: Any, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], turns: list[list[int]]
) -> None:
    monkeypatch.setattr("splitnn.learner.Descent", PlainDescent)
    federation = make.federation(200, COLUMNS[:2])
    plan = replace(CELU, batch=30, epochs=len(turns) // 4, patience=99, dropout=0.0, learning_rate=0.3)
    plan = replace(plan, **{"in_flight": 1} | changes)
    finals: dict[str, Any] = {}

    def at_the_end(name: str, word: Round) -> None:
        if isinstance(word, Save) and word.step == plan.epochs:
            finals[name] = word.state()

    together(federation.protocols(plan), at_the_end)
    expected = by_hand(federation, plan, turns)
    assert len(expected) > 8
    for name, state in finals.items():
        for key, value in last_weights(state).items():
            owner = {"0": "p0", "1": "top"}[key[0]] if name == "p0" else name
            torch.testing.assert_close(value, expected[f"{owner} {key[2:] if name == 'p0' else key}"])


def last_weights(state: bytes) -> dict[str, Tensor]:
    learner = load(load(state)["learner"].numpy().tobytes()[:-1])
    prefix = "weights."
    return {k.removeprefix(prefix): v for k, v in learner.items() if k.startswith(prefix)}


@pytest.mark.parametrize("codec", [Codecs(), Codecs("randtopk", "int8", keep=2)])
@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_without_local_steps_it_is_exact_or_pipelined(make: Any, optimizer: str, codec: Codecs) -> None:
    federation = make.federation(200, COLUMNS)
    base = replace(CELU, codec=codec, optimizer=optimizer, epochs=40, patience=2, learning_rate=0.1)
    exact = federation.reference(replace(base, schedule="exact"))
    pipelined = federation.reference(replace(base, schedule="pipelined"))
    assert exact.epochs < 40, "it is to stop early"
    assert exact.history != pipelined.history
    for changes, joined in [
        ({"schedule": "fedbcd", "local_steps": 1}, exact),
        ({"reuse": 0, "in_flight": 1}, exact),
        ({"reuse": 0}, pipelined),
    ]:
        plan = replace(base, **changes)
        make.assert_same(federation.split_training(plan).results, joined)
        make.assert_same(federation.split_training(plan).results, federation.reference(plan))


def test_a_cache_of_one_whose_rows_all_count_is_fedbcd(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    federation = make.federation(200, COLUMNS)
    plan = replace(CELU, cache=1, reuse=2, in_flight=1)
    weighted = federation.reference(plan).history
    monkeypatch.setattr(local_steps, "reliability", lambda now, then, similarity: torch.ones(len(now), 1))
    joined = federation.reference(FEDBCD)
    assert weighted != joined.history
    make.assert_same(federation.split_training(plan).results, joined)


@settings(deadline=None, max_examples=100)
@given(size=st.integers(1, 8), times=st.integers(0, 9), steps=st.integers(1, 40))
def test_round_robin(size: int, times: int, steps: int) -> None:
    cache = Cache(replace(CELU, cache=size, reuse=times))
    turns = [
        [again.step for again in cache.turns(Exchanged(step, torch.empty(0), {}, {}, b""))]
        for step in range(1, steps + 1)
    ]
    every = [step for turn in turns for step in turn]
    for step, turn in enumerate(turns, 1):
        assert len(turn) == times if step >= size else len(turn) <= times
        assert set(turn) <= set(range(max(1, step - size + 1), step + 1)), "an age of size * times turns"
    full = [step for turn in turns[size - 1 :] for step in turn]
    assert all(len(set(full[at : at + size])) == len(full[at : at + size]) for at in range(len(full)))
    for step in range(1, steps + 1):
        assert every.count(step) == times if size <= step <= steps - size + 1 else every.count(step) <= times


@settings(deadline=None, max_examples=50)
@given(seed=st.integers(0, 1000), scale=st.floats(0.1, 10), similarity=st.floats(0, 1))
def test_reliability_is_a_cosine_or_nothing(seed: int, scale: float, similarity: float) -> None:
    random = torch.Generator().manual_seed(seed)
    now, then = torch.randn(2, 6, 5, generator=random)
    now[0], now[1], now[2], now[3], then[3] = 2 * then[0], -then[1], 0, 0, 0
    weights = reliability(now, then, similarity)
    assert weights.shape == (6, 1)
    assert weights[0].item() == pytest.approx(1, abs=1e-6) or similarity > 1 - 1e-6
    assert weights[1] == weights[2] == 0
    assert weights[3] == 1, "zeros both times: a party that party dropout left out"
    assert bool(((weights == 0) | (weights >= similarity)).all())
    torch.testing.assert_close(reliability(scale * now, then, 0.0), reliability(now, then, 0.0))


def test_what_is_now_is_what_crossed_while_no_weight_has_moved(
    make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So the masks are the same ones, and rows do not count less because of dropout."""
    pairs = []

    def record(now: Tensor, then: Tensor, similarity: float) -> Tensor:
        pairs.append((now, then))
        return reliability(now, then, similarity)

    monkeypatch.setattr(local_steps, "reliability", record)
    make.federation(200, COLUMNS).split_training(
        replace(CELU, dropout=0.5, optimizer="sgd", learning_rate=1e-30, weight_decay=0.0)
    )
    assert len(pairs) > 50
    for now, then in pairs:
        torch.testing.assert_close(now, then)


def test_the_local_steps_learning_rate_is_that_of_their_exchange() -> None:
    layer = nn.Linear(1, 1)
    descent = Descent(replace(CELU, warmup=4), [(layer, DEFAULTS)], 10)
    rates = []
    for local in (False, True, True, False, True):
        layer(torch.ones(1, 1)).sum().backward()
        descent.step(local)
        rates.append(descent.optimizers[0].param_groups[0]["lr"] / CELU.learning_rate)
    assert rates == pytest.approx([0.25, 0.25, 0.25, 0.5, 0.5])
    assert descent.steps == 2


@pytest.mark.parametrize("plan", [FEDBCD, CELU], ids=["fedbcd", "celu"])
def test_nothing_more_crosses_and_who_is_faster_does_not_matter(make: Any, plan: Plan) -> None:
    federation = make.federation(200, COLUMNS)
    with_them = federation.split_training(plan)
    plain = replace(plan, schedule="pipelined", in_flight=1 if plan is FEDBCD else plan.in_flight)
    without = federation.split_training(plain)

    def said(outcome: Any) -> list[tuple[str, str, int]]:
        return sorted((said.sender, said.kind, len(said.payload)) for said in outcome.transcript)

    assert said(with_them) == said(without)
    assert make.weights(with_them.results).keys() == make.weights(without.results).keys()
    make.assert_same(with_them.results, federation.reference(plan))
    again = together(dict(reversed(federation.protocols(plan).items()))).results
    make.assert_same(again, federation.reference(plan))


@pytest.mark.parametrize(("culprit", "kind"), [("p1", "activation"), ("p0", "gradient")])
def test_a_damaged_message_is_refused_before_it_is_kept(make: Any, culprit: str, kind: str) -> None:
    parties = make.federation(100, COLUMNS).protocols(CELU)

    def change(word: Send) -> Send:
        payload = bytes(word.payload)
        return replace(word, payload=payload[:-4] + b"\0\0\xc0\x7f") if word.kind == kind else word

    parties[culprit] = make.tampered(parties[culprit], change)
    with pytest.raises(RemoteProtocolError, match=f"{kind}.*{culprit}.*NaN"):
        together(parties)


def test_a_save_with_another_cache_is_refused(make: Any) -> None:
    federation = make.federation(100, COLUMNS)
    states: dict[str, bytes] = {}

    def keep(name: str, word: Round) -> None:
        if isinstance(word, Save):
            states[name] = word.state()

    together(federation.protocols(CELU), keep)
    for name, changes in [("p0", {"cache": 3}), ("p1", {"cache": 1}), ("p1", {"schedule": "pipelined"})]:
        saved = {name: Resume(3, states[name])}
        with pytest.raises(TrainingError, match="saved training state"):
            federation.protocols(replace(CELU, **changes), saved)[name].send(None)
