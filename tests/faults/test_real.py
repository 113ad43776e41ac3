"""A few faults of `make faults`, on real processes: as CI has time for."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults.real.homes import AWAY, SHAPES
from tests.faults.real.points import draw

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_a_few_points_end_in_the_same_bits() -> None:
    command = [sys.executable, "-m", "tests.faults.real", "--points", "6", "--shapes", "rr22"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    *said, last = done.stdout.splitlines() or [done.stderr]
    assert done.returncode == 0, "\n".join([*said, last, done.stderr])
    found = json.loads(last)
    assert found["points"] == found["bit_identical"] + found["typed_errors"] >= 6
    assert found["hangs"] == found["wrong"] == 0


def test_the_seed_draws_the_points() -> None:
    names = {name: shape.names for name, shape in SHAPES.items()}
    first, again, other = (draw(seed, 200, names, AWAY) for seed in (1, 1, 2))
    assert first == again != other
    drawn = [point for plan in first for point in plan.points]
    assert len(drawn) == 200
    assert {plan.shape for plan in first} == {*SHAPES}
    assert {point.kind for point in drawn} == {"kill", "blackout", "stop", "cut", "hole", "slow"}
    assert len({point.phase for point in drawn}) == 9
    assert 0 < sum(point.outlasting for point in drawn) < 50
