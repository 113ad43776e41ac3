"""A party that dies, freezes or is interrupted midway: the others name it, and the phase, within seconds."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Federate = Callable[..., Any]

pytestmark = pytest.mark.slow

PHASES = {"psi": ("handshake: ", 40_000), "training": ("psi: ", 300)}
"""The line that is told when the phase before is over; people enough that the phase takes a while."""


def middle(federation: Federate, phase: str) -> Any:
    """Parties that are in the middle of this phase."""
    says, people = PHASES[phase]
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
        assert files == set() or (phase == "training" and files == {"last_good.safetensors", "pipeline.json"})
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
