"""What is left of a training that ends by an error: the best weights so far, and a line that says where."""

import re
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open

from parties.columns.numbers import Numeric
from parties.features import Pipeline
from parties.last_good import NAME, keeping_last_good
from parties.results import weights
from parties.storage import run_folder
from protos.memory import together
from protos.rounds import Cancelled, PeerFailed, Progress, Resume, Round, Rounds, Save, mapped
from protos.simulator import Faults, Simulation
from splitnn.errors import LeakError
from splitnn.features import Features
from splitnn.label_defence import LabelDefence
from splitnn.plan import Plan
from splitnn.schedule import split_rows
from splitnn.schedules import SCHEDULES
from splitnn.tasks import Labels

PIPELINE = Pipeline((Numeric("age", (), (), 1.0, 2.0, False),), ())
N = 60
ROWS = split_rows(N, 0.2, 0.2, b"public")
FEATURES = Features(
    torch.randn(N, 3, generator=torch.Generator().manual_seed(0)), torch.zeros(N, 0, dtype=torch.int64), ()
)
EVERY = (FEATURES.numeric.sum(1) > 0).float()
LABELS = Labels(*(EVERY[part] for part in ROWS))
PLAN = Plan(b"public", cut=2, bottom_hidden=(4,), top_hidden=(4,), batch=12, epochs=9, learning_rate=0.3)
DIVERGED = PeerFailed("hub", "training", "it broke")


def parties(plan: Plan) -> dict[str, Rounds[Any]]:
    schedule = SCHEDULES[plan.schedule]
    return {
        "hub": schedule.label_holder(plan, ROWS, FEATURES, LABELS, ["other"], b"hub"),
        "other": schedule.feature_holder(plan, ROWS, FEATURES, "hub", b"other"),
    }


def failing(rounds: Rounds[Any], step: int, error: BaseException) -> Rounds[Any]:
    """The same rounds, until that step is taken."""

    def each(word: Round) -> Rounds[Any]:
        if isinstance(word, Progress) and word.done == step:
            raise error
        return (yield word)

    return mapped(rounds, each)


def ended(folder: Path, name: str, step: int, plan: Plan = PLAN, error: BaseException = DIVERGED) -> Any:
    """The party's last `Save`d epoch, and what it said."""
    said: list[str] = []
    saved: list[int] = []

    def watch(party: str, word: Round) -> None:
        if party == name and isinstance(word, Save):
            saved.append(word.step)

    training = parties(plan)
    make = partial(run_folder, folder, "test", bytes(32), name)
    training[name] = keeping_last_good(failing(training[name], step, error), make, PIPELINE, said.append)
    with pytest.raises(type(error)) as raised:
        together(training, watch)
    assert raised.value is error
    return (saved or [0])[-1], *said


@pytest.mark.parametrize("name", ["hub", "other"])
@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("step", [8, 17])
def test_the_best_weights_so_far_are_kept(tmp_path: Path, name: str, schedule: str, step: int) -> None:
    """Those of a whole training that would have ended with the last epoch that was judged."""
    plan = replace(PLAN, schedule=schedule, in_flight=2)
    judged, line = ended(tmp_path, name, step, plan)
    assert judged > 0
    best = together(parties(replace(plan, epochs=judged))).results[name]
    file = tmp_path / f"test-{'0' * 12}" / name / NAME
    assert line == (
        f"training ended after {step - 1} of at most 27 steps: the weights of epoch {best.best_epoch}, "
        f"the best of {judged}, are kept in {file}"
    )
    expected = weights({half: getattr(best, half) for half in ("bottom", "top") if hasattr(best, half)})
    with safe_open(file, "pt") as kept:
        assert kept.metadata() == {"epoch": str(best.best_epoch)}
        assert {*kept.keys()} == {*expected}
        assert all(torch.equal(kept.get_tensor(key), value) for key, value in expected.items())
    assert Pipeline.from_json((file.parent / "pipeline.json").read_text()) == PIPELINE
    assert {path.name for path in file.parent.iterdir()} == {NAME, "pipeline.json"}


def test_a_gate_that_stops_after_some_epochs_leaves_the_best_weights_of_them_to_all(tmp_path: Path) -> None:
    """Gradients are hardly more than noise here: only a full window's interval ends above the bound."""
    gate = LabelDefence("iso", 99.0, max_leak=0.6, window=9)
    plan, said = replace(PLAN, label_defence=gate), dict[str, list[str]]()

    def party(name: str, resume: Resume | None) -> Rounds[Any]:
        make = partial(run_folder, tmp_path, "test", bytes(32), name)
        said[name] = []
        return keeping_last_good(parties(plan)[name], make, PIPELINE, said[name].append, resume)

    ends = Simulation({name: partial(party, name) for name in ("hub", "other")}, "hub", 1, Faults()).run()
    assert isinstance(ends["hub"], LeakError)
    assert isinstance(ends["other"], PeerFailed)
    found = re.match("at step ([0-9]+) the", str(ends["hub"]))
    assert found is not None
    judged = (int(found[1]) - 1) // 3
    assert judged > 1
    best = together(parties(replace(plan, epochs=judged))).results
    for name, lines in said.items():
        file = tmp_path / f"test-{'0' * 12}" / name / NAME
        [line] = lines
        assert line.endswith(f"the best of {judged}, are kept in {file}")
        halves = {half: getattr(best[name], half, None) for half in ("bottom", "top")}
        expected = weights({half: module for half, module in halves.items() if module is not None})
        with safe_open(file, "pt") as kept:
            assert kept.metadata() == {"epoch": str(best[name].best_epoch)}
            assert all(torch.equal(kept.get_tensor(key), value) for key, value in expected.items())


@pytest.mark.parametrize("error", [Cancelled("interrupted"), KeyboardInterrupt()])
def test_an_interrupt_keeps_them_too(tmp_path: Path, error: BaseException) -> None:
    _, line = ended(tmp_path, "other", 8, error=error)
    assert "are kept in" in line


def test_before_the_first_verdict_there_is_nothing_to_keep(tmp_path: Path) -> None:
    judged, line = ended(tmp_path, "other", 2)
    assert judged == 0
    assert line == "training ended after 1 of at most 27 steps: no epoch was judged, so no weights are kept"
    _, line = ended(tmp_path, "other", 1)
    assert line.startswith("training ended after no step: ")
    assert not [*tmp_path.iterdir()]


def test_a_whole_training_leaves_nothing_and_says_nothing(tmp_path: Path) -> None:
    training = parties(PLAN)
    make, never = partial(run_folder, tmp_path, "test", bytes(32), "hub"), pytest.fail
    training["hub"] = keeping_last_good(training["hub"], make, PIPELINE, never)
    assert together(training).results["hub"].epochs == PLAN.epochs
    assert not [*tmp_path.iterdir()]


def test_a_training_that_is_dropped_says_nothing(tmp_path: Path) -> None:
    training = keeping_last_good(parties(PLAN)["hub"], lambda: tmp_path, PIPELINE, pytest.fail)
    training.send(None)
    training.close()


def test_where_nothing_can_be_written_the_reason_of_the_end_stays(tmp_path: Path) -> None:
    (tmp_path / "test-000000000000").touch()
    _, line = ended(tmp_path, "other", 8)
    assert "the best weights are lost: cannot make" in line
