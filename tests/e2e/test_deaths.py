"""A party that dies, freezes or is interrupted midway: the others name it, and the phase, within seconds."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

Federate = Callable[..., Any]

pytestmark = pytest.mark.slow


class Phase(NamedTuple):
    """says: the line that is told when the phase before is over. people: enough that it takes a while. left:
    files that may be left, beside what names the run, and checkpoints."""

    says: str
    people: int
    left: set[str]


PHASES = {
    "psi": Phase("meeting the others: ", 40_000, set()),
    "training": Phase("columns: ", 300, {"alignment.parquet", "last_good.safetensors", "pipeline.json"}),
}


def middle(federation: Federate, phase: str) -> Any:
    """Parties that are in the middle of this phase."""
    says, people, _ = PHASES[phase]
    made = federation(people=people)
    made.agree("epochs = 200, patience = 3", "epochs = 100000, patience = 100000")
    made.start()
    for name in made.names:
        made.says(name, says)
    time.sleep(0.3)
    return made


def others_name_it(made: Any, victim: str, phase: str, began: float) -> list[str]:
    """The others' lines."""
    others = [name for name in made.names if name != victim]
    ends = made.ends(*others, within=30)
    assert time.monotonic() - began < 25
    for name, end in ends.items():
        assert end.code == 8, (name, end.err)
        assert end.error.startswith(f"{victim} failed during {phase}: "), (name, end.error)
    for name in made.names:
        files = {Path(path).name for path in made.left(name) if "." in path}
        files = {name for name in files if not name.startswith("checkpoint-")} - {"run.json"}
        assert files - {"audit.jsonl", f"{name}.privacy.sqlite"} <= PHASES[phase].left, files
    assert phase != "training" or all("training ended after" in end.err for end in ends.values())
    return [end.error for end in ends.values()]


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("victim", ["platform", "logistics"])
def test_killed(federation: Federate, victim: str, phase: str) -> None:
    made = middle(federation, phase)
    began = time.monotonic()
    made.processes[victim].kill()
    for line in others_name_it(made, victim, phase, began):
        assert "its connection broke, and it did not come back" in line


@pytest.mark.parametrize(("victim", "number"), [("platform", signal.SIGINT), ("advertiser", signal.SIGTERM)])
def test_interrupted(federation: Federate, victim: str, number: signal.Signals) -> None:
    made = middle(federation, "training")
    began = time.monotonic()
    made.processes[victim].send_signal(number)
    for line in others_name_it(made, victim, "training", began):
        assert line.endswith("it was interrupted on its side")
    end = made.ends(victim, within=10)[victim]
    assert (end.code, end.error) == (130, "interrupted during training")


def test_frozen(federation: Federate) -> None:
    """Its connection stands, but nothing comes any more."""
    made = middle(federation, "training")
    began = time.monotonic()
    os.kill(made.processes["logistics"].pid, signal.SIGSTOP)
    for line in others_name_it(made, "logistics", "training", began):
        assert "no sign of life" in line
    made.processes["logistics"].send_signal(signal.SIGCONT)
    end = made.ends("logistics", within=25)["logistics"]
    assert end.code == 8, end.err
