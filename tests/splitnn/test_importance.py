"""Permutation importance: what it finds, what crosses for it, and what is refused."""

import math
import struct
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from protos.memory import together
from protos.rounds import RemoteProtocolError, Send
from splitnn import evaluation, importance, importance_reference
from splitnn.bags import Bag
from splitnn.crossing import Codecs
from splitnn.exact import LabelHolderResult
from splitnn.features import Features, Group
from splitnn.importance import MOST_GROUPS, REPEATS, Drop, Judge
from splitnn.plan import Plan
from splitnn.tasks import TASKS, Labels, Objective
from splitnn.tensors import encoded_size

PLAN = Plan(
    b"public",
    cut=4,
    bottom_hidden=(8,),
    top_hidden=(8,),
    batch=32,
    epochs=1,
    dropout=0.3,
    learning_rate=0.01,
    importance="columns",
)
COLUMNS = [(3, (4,)), (2, (5, 6)), (1, ())]


@pytest.mark.parametrize("schedule", ["exact", "pipelined"])
@pytest.mark.parametrize("level", ["none", "parties", "columns"])
def test_only_columns_cross_and_as_the_page_says(make: Any, schedule: str, level: str) -> None:
    federation = make.federation(200, COLUMNS)
    plan = replace(PLAN, importance=level, schedule=schedule)
    outcome = federation.split_training(plan)
    make.assert_same(outcome.results, federation.reference(plan))
    size = encoded_size((len(federation.rows.test), PLAN.cut))
    for name, count in (("p1", 4), ("p2", 1)):
        said = [
            (said.kind, len(said.payload))
            for said in outcome.transcript
            if name in (said.sender, said.receiver)
        ]
        tail = said[said.index(("test", size)) + 2 :]
        group = [("importance", size), ("scored", 0)] * REPEATS + [("drop", 8)]
        assert tail == ([("groups", 2), *group * count] if level == "columns" else [])


def test_in_chunks_and_of_the_first_rows_only(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    federation = make.federation(200, COLUMNS)
    monkeypatch.setattr("splitnn.schedule.chunks.__defaults__", (7,))
    for module in (evaluation, importance, importance_reference):
        monkeypatch.setattr(module, "EXAMINED", 21)
    outcome = federation.split_training(PLAN)
    sent = [said for said in outcome.transcript if said.sender == "p2" and said.kind == "importance"]
    assert len(sent) == REPEATS * 3
    assert repr(outcome.results["p0"].importance) == repr(federation.reference(PLAN).importance)


@pytest.mark.parametrize("codec", [Codecs("int8", "bf16"), Codecs("randtopk", "fp32", keep=2)])
@pytest.mark.parametrize("task", [*TASKS])
def test_parity_of_every_task_and_codec(make: Any, task: str, codec: Codecs) -> None:
    federation = make.labelled(make.federation(120, COLUMNS), task)
    plan = replace(PLAN, task=task, loss=next(iter(TASKS[task])), codec=codec)
    make.assert_same(federation.split_training(plan).results, federation.reference(plan))


def learned(make: Any, task: str, unit: float = 1.0) -> LabelHolderResult:
    """Labels of p1's second column alone, learned well; p1 has its first and last column in one group."""
    federation = make.federation(600, [(2, ()), (3, ()), (1, (3,))])
    own = federation.features["p1"]
    own = Features(own.numeric, own.categorical, own.levels, groups=[Group((1,)), Group((0, 2))])
    signal = own.numeric[:, 1].double()
    every = unit * signal if task == "regression" else (signal > 0).float()
    federation = replace(
        federation,
        features=federation.features | {"p1": own},
        labels=Labels(*(every[part] for part in federation.rows)),
    )
    loss = next(iter(TASKS[task]))
    plan = replace(PLAN, task=task, loss=loss, epochs=15, learning_rate=0.03, dropout=0.0)
    result = together(federation.protocols(plan)).results["p0"]
    assert isinstance(result, LabelHolderResult)
    return result


@pytest.mark.parametrize("task", ["binary", "regression"])
def test_it_finds_the_party_and_the_column_that_the_label_depends_on(make: Any, task: str) -> None:
    found = learned(make, task).importance
    assert found is not None
    at_least = {"binary": 0.3, "regression": 1.0}[task]  # of AUC; times the RMSE
    assert found.parties[1].mean > at_least > 5 * max(abs(found.parties[party].mean) for party in (0, 2))
    assert [len(groups) for groups in found.groups] == [2, 2, 2]
    assert found.groups[1][0].mean > at_least
    others = [*found.groups[0], found.groups[1][1], *found.groups[2]]
    assert max(abs(drop.mean) for drop in others) < at_least / 5
    assert all(0 <= drop.deviation < drop.mean / 2 for drop in (found.parties[1], found.groups[1][0]))


def test_of_a_regression_it_does_not_depend_on_the_labels_unit(make: Any) -> None:
    one, other = (learned(make, "regression", unit).importance for unit in (1.0, 1024.0))
    assert one is not None
    assert other is not None
    for a, b in zip(one.parties + one.groups[1], other.parties + other.groups[1], strict=True):
        assert a == pytest.approx(b)


def test_columns_of_a_group_move_together() -> None:
    features = Features(
        torch.arange(12.0).reshape(4, 3),
        torch.tensor([[0, 1], [1, 0], [1, 1], [0, 0]]),
        (2, 2),
        groups=[Group((0, 2), (1,))],
    )
    numeric, categorical = features.mixed(torch.tensor([0, 1, 1]), torch.tensor([2, 2, 3]), 0)
    assert numeric.tolist() == [[6, 1, 8], [6, 4, 8], [9, 4, 11]]
    assert categorical.tolist() == [[0, 1], [1, 1], [1, 0]]
    assert features.numeric.tolist() == torch.arange(12.0).reshape(4, 3).tolist()


def test_a_bag_moves_as_a_whole() -> None:
    bags = [Bag(torch.tensor([5, 6, 7]), torch.tensor([0, 0, 1, 3]), 9) for _ in range(2)]
    features = Features(torch.zeros(3, 1), torch.zeros(3, 0, dtype=torch.int64), (), bags)
    assert features.groups == (Group((0,)), Group(bags=(0,)), Group(bags=(1,)))
    _, _, moved, other = features.mixed(torch.tensor([0, 1]), torch.tensor([2, 0]), 1)
    assert [part.tolist() for part in moved] == [[6, 7], [0, 2, 2]]
    assert [part.tolist() for part in other] == [[5], [0, 0, 1]]


def test_each_column_is_a_group_where_nothing_is_said(make: Any) -> None:
    assert make.features(5, 2, (3, 4)).groups == (Group((0,)), Group((1,)), Group((), (0,)), Group((), (1,)))


def test_what_cannot_be_judged_is_not_a_number() -> None:
    labels = torch.tensor([0.0, 1.0, 0.0, 1.0])
    objective = Objective("binary", "cross-entropy", Labels(labels, labels, labels))
    cut = [torch.ones(4, 2)]

    class Overflows(nn.Module):
        def forward(self, cut: list[torch.Tensor]) -> torch.Tensor:
            return cut[0].sum(1, keepdim=True) * math.nan

    one_class = Judge(objective, torch.zeros(4), nn.Identity(), cut, torch.ones(4, 1))
    overflowing = Judge(objective, labels, Overflows(), cut, torch.ones(4, 1))
    for judge in (one_class, overflowing):
        lost = judge.lost(0, cut[0]) if judge is overflowing else judge.before
        drop = Drop.of([0.1, lost])
        assert all(map(math.isnan, (*drop, *Drop.told(drop.payload))))


def test_a_feature_holder_is_told_no_more_than_thousandths() -> None:
    assert Drop(0.123456, 0.0004).payload == Drop(0.123, 0.0).payload
    assert Drop.told(Drop(0.123, 0.0).payload) == (0.123, 0.0)
    assert Drop.told(Drop(-0.0126, 1e300).payload) == (-0.013, 1e6)


@pytest.mark.parametrize(
    "told", [(0.1, math.nan), (math.nan, 0.1), (math.inf, 0.1), (0.1, -0.1), (0.1, math.inf)]
)
def test_what_is_no_drop_is_refused(told: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="no mean and deviation"):
        Drop.told(struct.pack("<2f", *told))


BAD: dict[str, tuple[str, str, Callable[[bytes], bytes]]] = {
    "no groups": ("p1", "groups", lambda _: b"\0\0"),
    "too many groups": ("p1", "groups", lambda _: (MOST_GROUPS + 1).to_bytes(2, "little")),
    "half a number of groups": ("p1", "groups", lambda _: b"\1"),
    "half a drop": ("p0", "drop", lambda payload: payload[:4]),
    "another group's activation": ("p2", "importance", lambda payload: payload[:8] + b"\x63" + payload[9:]),
    "a short activation": ("p2", "importance", lambda payload: payload[:-4]),
    "NaN": ("p2", "importance", lambda payload: payload[:-4] + b"\xff" * 4),
}


@pytest.mark.parametrize("fault", BAD)
def test_what_is_not_allowed_is_refused(make: Any, fault: str) -> None:
    culprit, kind, spoilt = BAD[fault]
    parties = make.federation(100, COLUMNS).protocols(PLAN)

    def change(word: Send) -> Send:
        return replace(word, payload=spoilt(bytes(word.payload))) if word.kind == kind else word

    parties[culprit] = make.tampered(parties[culprit], change)
    with pytest.raises(RemoteProtocolError, match=culprit):
        together(parties)
