"""Codecs across the cut: parity with the reference, what they cost, and what a damaged message does."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from protos.memory import together
from protos.rounds import RemoteProtocolError, Resume, Round, Save
from splitnn.crossing import ACTIVATION_CODECS, GRADIENT_CODECS, Codecs, Crossing
from splitnn.errors import TrainingError
from splitnn.exact import most_bytes_unanswered
from splitnn.plan import Plan

PLAN = Plan(b"public", cut=6, bottom_hidden=(8,), top_hidden=(8,), batch=32, epochs=3, dropout=0.3)
ALL = [
    Codecs(up, down, 2 if up == "randtopk" else None, 0.2)
    for up in ACTIVATION_CODECS
    for down in GRADIENT_CODECS
]


def same(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> bool:
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.parametrize("codec", ALL, ids=lambda c: f"{c.activations}-{c.gradients}")
def test_parity_with_the_reference(make: Any, codec: Codecs) -> None:
    federation = make.federation(151, [(3, (4,)), (2, (5, 3)), (4, ())])
    plan = replace(PLAN, codec=codec)
    ran, joined = federation.split_training(plan), federation.reference(plan)
    assert same(make.weights(ran.results), make.reference_weights(joined))
    hub = ran.results["p0"]
    assert hub.history == joined.history
    assert torch.equal(hub.scores, joined.scores)


@settings(deadline=None, max_examples=15)
@given(
    rows=st.integers(12, 90),
    cut=st.integers(1, 20),
    batch=st.integers(1, 40),
    codec=st.sampled_from(ALL),
    explore=st.sampled_from([0.0, 0.1, 0.9]),
    data=st.data(),
)
def test_parity_at_any_shape(
    make: Any, rows: int, cut: int, batch: int, codec: Codecs, explore: float, data: st.DataObject
) -> None:
    keep = None if codec.keep is None else data.draw(st.integers(1, cut))
    codec = replace(codec, keep=keep, explore=explore)
    plan = replace(PLAN, cut=cut, batch=max(batch, rows // 8), epochs=2, codec=codec)
    federation = make.federation(rows, [(2, ()), (1, (3,)), (0, (4, 2))])
    ours = make.weights(federation.split_training(plan).results)
    assert same(ours, make.reference_weights(federation.reference(plan)))


@pytest.mark.parametrize("keep", [6, 2])
def test_keeping_every_number_is_the_exact_training(make: Any, keep: int) -> None:
    federation = make.federation(100, [(3, ()), (2, (5,))])
    exact = make.weights(federation.split_training(PLAN).results)
    kept = replace(PLAN, codec=Codecs("randtopk", keep=keep, explore=0.1))
    assert same(make.weights(federation.split_training(kept).results), exact) == (keep == PLAN.cut)


@pytest.mark.parametrize("codec", [Codecs("int8", "int8"), Codecs("randtopk", "int8", 2, 0.5)])
def test_started_again_the_draws_go_on(make: Any, codec: Codecs) -> None:
    """The position in the random streams is the step, which every saved state tells."""
    federation = make.federation(100, [(3, ()), (2, (5,)), (1, ())])
    plan = replace(PLAN, codec=codec)
    saves: dict[int, dict[str, Resume]] = {}

    def keep(name: str, word: Round) -> None:
        if isinstance(word, Save):
            saves.setdefault(word.step, {})[name] = Resume(word.step, word.state())

    whole = make.weights(together(federation.protocols(plan), keep).results)
    for saved in saves.values():
        assert same(make.weights(together(federation.protocols(plan, saved)).results), whole)


@pytest.mark.parametrize("codec", ALL, ids=lambda c: f"{c.activations}-{c.gradients}")
def test_bytes_are_those_of_the_page(make: Any, codec: Codecs) -> None:
    cut, keep = 12, 5
    codec = codec if codec.keep is None else replace(codec, keep=keep)
    plan = replace(PLAN, cut=cut, codec=codec, epochs=1)
    federation = make.federation(100, [(3, ()), (2, (5,))])
    ran = federation.split_training(plan)
    up = {"fp32": 4 * cut, "bf16": 2 * cut, "int8": 4 + cut, "randtopk": 2 + 4 * keep}[codec.activations]
    across = cut if codec.activations != "randtopk" else keep
    down = {"fp32": 4 * across, "bf16": 2 * across, "int8": 4 + across}[codec.gradients]
    train, held, tested = (len(part) for part in federation.rows)
    rows = {"activation": [32, train - 32], "validation": [held], "test": [tested]}
    for kind, counts in rows.items():
        assert [len(said.payload) for said in ran.transcript if said.kind == kind] == [
            24 + b * up for b in counts
        ]
    gradients = [len(said.payload) for said in ran.transcript if said.kind == "gradient"]
    assert gradients == [24 + b * down for b in rows["activation"]]
    most = most_bytes_unanswered(plan, federation.rows)
    assert most == max(24 + 32 * up, 24 + 32 * down)


def test_evaluation_draws_nothing() -> None:
    activation = torch.randn(9, 6, generator=torch.Generator().manual_seed(0))
    for codec in ALL:
        a, b = (
            Crossing(codec, 6, seed, "hub").send_activation(activation, 1, None)[1] for seed in (b"a", b"b")
        )
        assert a == b


def test_draws_differ_by_seed_step_and_peer() -> None:
    tensor = torch.randn(64, 6, generator=torch.Generator().manual_seed(0))
    for codec in (Codecs("int8", "int8"), Codecs("randtopk", "int8", 3, 0.5)):
        first = Crossing(codec, 6, b"a", "p1")
        sent = {first.send_activation(tensor, 1, step)[1] for step in (1, 2)}
        sent.add(Crossing(codec, 6, b"b", "p1").send_activation(tensor, 1, 1)[1])
        assert len(sent) == 3
        back = {first.send_gradient(tensor, 1, step) for step in (1, 2)}
        back |= {
            Crossing(codec, 6, seed, peer).send_gradient(tensor, 1, 1)
            for seed, peer in ((b"b", "p1"), (b"a", "p2"))
        }
        assert len(back) == 4


def test_a_peer_with_another_codec_is_refused() -> None:
    tensor = torch.randn(5, 6, generator=torch.Generator().manual_seed(0))
    ends = {codec.activations: Crossing(codec, 6, b"", "") for codec in ALL if codec.gradients == "fp32"}
    for name, end in ends.items():
        payload = end.send_activation(tensor, 3, 1)[1]
        for other, receiver in ends.items():
            if other != name:
                with pytest.raises(RemoteProtocolError, match="activation from 'p1'"):
                    receiver.receive_activation(payload, "activation from 'p1'", 5, 3)


@settings(deadline=None, max_examples=200)
@given(codec=st.sampled_from(ALL), data=st.data())
def test_any_other_bytes_are_finite_or_one_error(codec: Codecs, data: st.DataObject) -> None:
    """A flipped byte is another number, or a RemoteProtocolError; nothing else, and never NaN."""
    tensor = torch.randn(3, 6, generator=torch.Generator().manual_seed(0))
    end = Crossing(codec, 6, b"", "")
    sent, up = end.send_activation(tensor, 3, 1)
    down = end.send_gradient(sent, 3, 1)
    for good, receive in (
        (up, lambda payload: end.receive_activation(payload, "it", 3, 3)[1]),
        (down, lambda payload: end.receive_gradient(payload, "it", 3, 3)),
    ):
        changed = bytearray(good)
        for _ in range(data.draw(st.integers(1, 4))):
            changed[data.draw(st.integers(0, len(good) - 1))] = data.draw(st.integers(0, 255))
        try:
            tensor = receive(bytes(changed))
        except RemoteProtocolError:
            continue
        assert torch.isfinite(tensor).all()
        assert changed[:24] == good[:24]
        for wrong in (good[:-1], good + b"\0", b""):
            with pytest.raises(RemoteProtocolError, match="bytes instead of"):
                receive(wrong)


@pytest.mark.parametrize("codec", ALL, ids=lambda c: f"{c.activations}-{c.gradients}")
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_diverged_is_not_sent(codec: Codecs, value: float) -> None:
    tensor = torch.zeros(2, 6)
    tensor[1, 3] = value
    end = Crossing(codec, 6, b"", "hub")
    for step, when in ((1, "at step 1"), (None, "in evaluation")):
        with pytest.raises(TrainingError, match=f"^the activation for 'hub' holds NaN.* {when}: .*diverged"):
            end.send_activation(tensor, 7, step)
    with pytest.raises(TrainingError, match=r"^the gradient for 'hub' holds NaN.* at step 1: .*diverged"):
        end.send_gradient(tensor, 7, 1)


@pytest.mark.parametrize(
    ("codec", "line"),
    [
        (
            {"activations": "zfp"},
            "unknown codec of activations 'zfp': choose one of fp32, bf16, int8, randtopk",
        ),
        ({"gradients": "randtopk"}, "unknown codec of gradients 'randtopk': choose one of fp32, bf16, int8"),
        ({"activations": "randtopk"}, "keep goes with randtopk"),
        ({"keep": 3}, "keep goes with randtopk"),
        ({"activations": "randtopk", "keep": 0}, "keep must be at least 1, not 0"),
        ({"explore": 1.0}, "explore must be 0, or at least 1e-06 and below 1"),
        ({"explore": 1e-300}, "explore must be 0, or at least 1e-06 and below 1"),
        ({"explore": float("nan")}, "explore must be 0"),
    ],
)
def test_codecs_that_cannot_be(codec: dict[str, Any], line: str) -> None:
    with pytest.raises(ValueError, match=line):
        Codecs(**codec)


def test_more_cannot_be_kept_than_there_is() -> None:
    with pytest.raises(ValueError, match=r"codec\.keep must be at most cut, 6, not 7"):
        replace(PLAN, codec=Codecs("randtopk", keep=7))
