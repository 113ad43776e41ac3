"""What is told at the end of each epoch."""

from dataclasses import replace
from typing import Any

import pytest

from protos.memory import together
from protos.rounds import Progress, Round
from splitnn.epoch import Epoch
from splitnn.plan import Plan

PLAN = Plan(b"public", cut=3, bottom_hidden=(4,), top_hidden=(4,), batch=40, epochs=7, patience=2, every=2)


@pytest.mark.parametrize("schedule", ["exact", "pipelined", "fedbcd"])
def test_each_epoch_is_told_once_and_the_label_holder_hears_its_history(make: Any, schedule: str) -> None:
    plan = replace(PLAN, schedule=schedule)
    told: dict[str, list[Epoch]] = {"p0": [], "p1": []}
    steps: dict[str, int] = {}

    def hear(name: str, word: Round) -> None:
        if isinstance(word, Epoch):
            told[name].append(word)
        elif isinstance(word, Progress) and word.phase == "training":
            steps[name] = word.done

    federation = make.federation(200, [(3, (4,)), (2, ())])
    result = together(federation.protocols(plan), hear).results["p0"]
    assert [epoch.metrics for epoch in told["p0"]] == result.history
    assert not any(epoch.metrics for epoch in told["p1"])
    for name, heard in told.items():
        assert [epoch.epoch for epoch in heard] == [*range(1, result.epochs + 1)]
        assert [epoch.judged for epoch in heard] == [
            one % 2 == 0 or one == 7 for one in range(1, result.epochs + 1)
        ]
        assert [epoch.epoch for epoch in heard if epoch.improved][-1] == result.best_epoch
        assert heard[-1].stops == (result.epochs < plan.epochs)
        assert (heard[-1].done, heard[-1].phase) == (steps[name], "training")
