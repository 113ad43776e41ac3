"""The leak meter and the gate: what they see, what they keep, and when nothing leaves any more."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from protos.memory import together
from protos.rounds import Round, Send
from splitnn.attacks import auc, cosines, norms
from splitnn.errors import LeakError
from splitnn.label_defence import LabelDefence
from splitnn.leak_gate import LeakGate
from splitnn.leak_meter import LeakMeter
from splitnn.outgoing import Outgoing
from splitnn.plan import Plan
from splitnn.schedules import SCHEDULES
from splitnn.tasks import Labels, Objective

COLUMNS = [(3, (4,)), (2, (5, 6)), (4, ())]
PLAN = Plan(
    b"public", cut=4, bottom_hidden=(8,), top_hidden=(8,), batch=64, epochs=3, in_flight=2, learning_rate=0.01
)


def batch_of(seed: int, rows: int = 200, leak: float = 0.0) -> tuple[Tensor, Tensor]:
    """Gradients [rows, 4] that tell the labels as well as `leak` says, and these labels."""
    random = torch.Generator().manual_seed(seed)
    positive = torch.rand(rows, generator=random) < 0.3
    positive[:2] = torch.tensor([False, True])
    return torch.randn(rows, 4, generator=random) * torch.where(positive, 1 + leak, 1.0)[:, None], positive


def test_a_batch_is_attacked_as_the_attacks_say() -> None:
    gradient, positive = batch_of(1, leak=0.5)
    clean = gradient + 0.1
    order = torch.randperm(200, generator=torch.Generator().manual_seed(1))
    meter = LeakMeter(positive, ["p1"], sure=True)
    attacked = meter.attacked(clean[order], gradient[order], order)
    known = int(order[positive[order]][0])
    others = torch.arange(200) != known
    assert attacked.areas[0] == auc(norms(gradient), positive)
    expected = auc(cosines(gradient, clean[known])[others], positive[others])
    assert expected is not None
    assert attacked.areas[1] is not None
    assert attacked.areas[1].value == pytest.approx(expected.value)
    assert sorted(attacked.rows.tolist()) == others.nonzero().flatten().tolist()


def test_an_epoch_is_told_and_begins_anew() -> None:
    gradient, positive = batch_of(2, leak=1.0)
    meter = LeakMeter(positive, ["p1", "p2"])
    for peer, noise in (("p1", 9.0), ("p2", 0.0)):
        left = gradient + noise * torch.randn(gradient.shape, generator=torch.Generator().manual_seed(3))
        meter.record(peer, meter.attacked(gradient, left, torch.arange(200)))
    found = meter.end_epoch()
    area = auc(norms(gradient), positive)
    assert area is not None
    assert found["norm_leak"] == area.worst, "the worst of the peers"
    assert found["norm_leak_rows"] == pytest.approx(area.worst, abs=0.01)
    assert meter.end_epoch().keys() == {"norm_leak_rows", "cosine_leak_rows"}


def test_batches_of_one_class_tell_nothing() -> None:
    gradient, positive = batch_of(3)
    meter = LeakMeter(positive, ["p1"])
    for of in (positive, ~positive):
        rows = of.nonzero().flatten()
        assert meter.attacked(gradient[rows], gradient[rows], rows).areas == (None, None)
        meter.record("p1", meter.attacked(gradient[~of], gradient[~of], (~of).nonzero().flatten()))
    assert not any(meter.worst["p1"])


def test_rows_that_were_left_out_are_left_out() -> None:
    gradient, positive = batch_of(4, leak=1.0)
    left_out = torch.arange(200) % 2 == 0
    holed = gradient.masked_fill(left_out[:, None], 0.0)
    rows = (~left_out).nonzero().flatten()
    meter = LeakMeter(positive, ["p1"], zeros_tell=False)
    ours = meter.attacked(holed, holed, torch.arange(200))
    theirs = meter.attacked(gradient[rows], gradient[rows], rows)
    assert ours.areas == theirs.areas
    assert torch.equal(ours.rows, theirs.rows)


def test_averaged_over_epochs_noise_hides_less() -> None:
    """Each epoch's noise is new: whoever takes each row's mean score sees through it."""
    gradient, positive = batch_of(5, rows=2000, leak=1.0)
    meter = LeakMeter(positive, ["p1"])
    told = []
    for epoch in range(12):
        noise = torch.randn(gradient.shape, generator=torch.Generator().manual_seed(epoch))
        meter.record("p1", meter.attacked(gradient, gradient + 3 * noise, torch.arange(2000)))
        told.append(meter.end_epoch())
    assert told[-1]["norm_leak_rows"] > told[0]["norm_leak_rows"] + 0.05
    assert told[-1]["norm_leak"] == pytest.approx(told[0]["norm_leak"], abs=0.05)


def test_a_meter_goes_on_from_its_state() -> None:
    gradient, positive = batch_of(6, leak=0.3)
    one, other = LeakMeter(positive, ["p1", "p2"]), LeakMeter(positive, ["p1", "p2"])
    for peer in ("p1", "p2"):
        one.record(peer, one.attacked(gradient, gradient, torch.arange(200)))
    other.load(one.state())
    for meter in (one, other):
        meter.record("p1", meter.attacked(gradient, 2 * gradient + 1, torch.arange(200)))
    assert one.end_epoch() == other.end_epoch()


def admitted(gate: LeakGate, seeds: Sequence[int], leak: float) -> int | None:
    """How many batches pass, None: all."""
    for number, seed in enumerate(seeds):
        gradient, positive = batch_of(seed, leak=leak)
        meter = LeakMeter(positive, ["p1"], sure=True)
        if gate.admit("p1", meter.attacked(gradient, gradient, torch.arange(200))) is not None:
            return number
    return None


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 1000))
def test_the_gate_lets_pass_what_tells_nothing(start: int) -> None:
    """A batch's own interval ends beyond the bound more often than not."""
    assert admitted(LeakGate(0.65, 20, ["p1"]), range(start, start + 25), leak=0.0) is None


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 1000))
def test_the_gate_stops_what_tells_much_at_once_and_what_tells_some_when_the_window_is_full(
    start: int,
) -> None:
    assert admitted(LeakGate(0.6, 20, ["p1"]), range(start, start + 25), leak=3.0) == 0
    some = admitted(LeakGate(0.65, 20, ["p1"]), range(start, start + 25), leak=0.3)
    assert some is not None
    assert some <= 19


def test_the_gate_stops_what_tells_a_rare_class() -> None:
    """With one positive row a batch no batch is sure by itself; a few of them together are."""
    gate, left = LeakGate(0.7, 20, ["p1"]), 0
    for seed in range(20):
        gradient, _ = batch_of(seed)
        positive = torch.arange(200) == 17
        gradient[17] *= 100
        meter = LeakMeter(positive, ["p1"], sure=True)
        if gate.admit("p1", meter.attacked(gradient, gradient, torch.arange(200))) is not None:
            break
        left += 1
    assert 0 < left <= 5


def test_a_gate_that_can_measure_nothing_is_none() -> None:
    """Each row by itself: its gradient has the label's sign, and there is nothing to compare it with."""
    gradient, positive = batch_of(1)
    meter = LeakMeter(positive, ["p1", "p2"], sure=True)
    gate = LeakGate(0.7, 5, ["p1", "p2"])

    def blind(row: int, peer: str = "p1", rows: int = 1) -> bool:
        batch = torch.arange(row, row + rows)
        return gate.blind(peer, meter.attacked(gradient[batch], gradient[batch], batch))

    assert [blind(row) for row in range(5)] == [False] * 5
    again = LeakGate(0.7, 5, ["p1", "p2"])
    again.load(gate.state())
    assert blind(5)
    gate = again
    assert blind(5)
    assert not blind(5, "p2")
    assert not blind(0, rows=200)
    assert not any(blind(row) for row in range(50)), "one had both classes"


def test_nothing_leaves_of_which_nothing_can_be_measured(make: Any) -> None:
    plan = replace(PLAN, batch=1, label_defence=LabelDefence(max_leak=0.8, window=3))
    for train in (make.federation(100, COLUMNS).split_training, make.federation(100, COLUMNS).reference):
        with pytest.raises(
            LeakError, match=r"step 4 no batch so far had both classes.* raise training.batch"
        ):
            train(plan)


def test_a_gate_goes_on_from_its_state() -> None:
    one = LeakGate(0.65, 5, ["p1", "p2"])
    assert admitted(one, range(4), leak=0.0) is None
    other = LeakGate(0.65, 5, ["p1", "p2"])
    other.load(one.state())
    assert other.windows == one.windows
    one.forget("p1")
    assert not any(one.windows["p1"])


@pytest.mark.parametrize("schedule", [*SCHEDULES])
def test_nothing_leaves_that_tells_too_much(make: Any, schedule: str) -> None:
    federation = make.federation(300, COLUMNS)
    plan = replace(PLAN, schedule=schedule, label_defence=LabelDefence(max_leak=0.8))
    kinds: list[str] = []

    def hear(name: str, word: Round) -> None:
        if isinstance(word, Send):
            kinds.append(word.kind)

    said = r"step 1 .* attack .*between .* allows 0.8.* not sent; set privacy.label_defence, .* --afresh`"
    with pytest.raises(LeakError, match=said):
        together(federation.protocols(plan), hear)
    assert "activation" in kinds
    assert "gradient" not in kinds
    with pytest.raises(LeakError, match="step 1 "):
        federation.reference(plan)


def test_the_gate_raises_the_defence_where_the_plan_allows(make: Any) -> None:
    federation = make.federation(400, COLUMNS)
    plan = replace(PLAN, label_defence=LabelDefence("iso", max_leak=0.8, max_strength=16.0, window=4))
    results = federation.split_training(plan).results
    make.assert_same(results, federation.reference(plan))
    strengths = [entry["label_defence_strength"] for entry in results["p0"].history]
    assert strengths == sorted(strengths)
    assert 1 <= strengths[-1] <= 16
    with pytest.raises(LeakError, match=r"not sent; raise privacy\.max_label_strength, or"):
        federation.split_training(replace(plan, label_defence=replace(plan.label_defence, max_strength=0.1)))


@given(st.integers(0, 1 << 30), st.floats(0.0, 0.6))
@settings(deadline=None, max_examples=20)
def test_whether_the_gate_stops_hangs_on_the_answers_of_labels_that_lie(seed: int, leak: float) -> None:
    """Not on the true labels: here are two worlds that have all of them otherwise, and the same answers."""
    gradient, positive = batch_of(seed, leak=leak)
    plan = replace(PLAN, label_defence=LabelDefence(epsilon=1.0, max_leak=0.6, window=3))

    def went(truth: Tensor, drawn: float) -> tuple[list[str], dict[str, Tensor]]:
        draws = torch.tensor([[drawn, 0.0]]).expand(len(truth), 2)
        labels = Labels(truth, truth, truth, draws=(draws, draws))
        objective = Objective("binary", "cross-entropy", labels, epsilon=1.0)
        outgoing = Outgoing(plan, labels, objective, ["p1"], b"own")
        stopped: list[str] = []
        random = torch.Generator().manual_seed(seed)
        for step in range(1, 6):
            batch = torch.randperm(len(truth), generator=random)[:64]
            try:
                outgoing.defended("p1", gradient[batch], batch, step)
            except LeakError as error:
                stopped.append(str(error))
        return stopped, outgoing.state()

    truth = positive.float()
    (one, state), (other, as_well) = went(truth, drawn=0.0), went(1 - truth, drawn=0.99)
    assert one == other
    assert state.keys() == as_well.keys()
    assert all(torch.equal(state[name], as_well[name]) for name in state)


@pytest.mark.parametrize("schedule", [*SCHEDULES])
def test_the_history_tells_the_leak_of_each_epoch(make: Any, schedule: str) -> None:
    federation = make.federation(300, COLUMNS)
    plan = replace(PLAN, schedule=schedule)
    joined = federation.reference(plan)
    make.assert_same(federation.split_training(plan).results, joined)
    for entry in joined.history:
        for attack in ("norm", "cosine"):
            assert 0.5 <= entry[f"{attack}_leak"] <= 1
            assert 0.5 <= entry[f"{attack}_leak_rows"] <= 1
    assert joined.history[0]["cosine_leak"] > 0.9, "undefended"
    defended = federation.reference(replace(plan, label_defence=LabelDefence("marvell", 8.0)))
    assert defended.history[0]["cosine_leak"] < 0.85


def test_without_feature_holders_or_binary_labels_there_is_nothing_to_tell(make: Any) -> None:
    alone = make.federation(100, COLUMNS[:1])
    assert alone.reference(PLAN).history[0].keys() == {"train_loss", "auc"}
    several = make.labelled(make.federation(100, COLUMNS), "multiclass")
    plan = replace(PLAN, task="multiclass")
    assert several.reference(plan).history[0].keys() == {"train_loss", "log_loss"}
