"""A slice of `make simulate`, and that it says what it sees."""

import io
import json

import pandas as pd
import pytest

from tests.faults.simulated import __main__ as simulate
from tests.faults.simulated.judge import Verdict, Worlds
from tests.faults.simulated.run import Plan, Run
from tests.faults.simulated.worlds import SHAPES

SEEDS = 1000
BLOCKS = 25


@pytest.fixture(scope="module")
def worlds(tmp_path_factory: pytest.TempPathFactory) -> Worlds:
    return Worlds(tmp_path_factory.mktemp("worlds"))


@pytest.mark.parametrize("block", range(BLOCKS))
def test_right_or_a_typed_error(worlds: Worlds, block: int) -> None:
    for seed in range(block, SEEDS, BLOCKS):
        verdict = worlds.verdict(seed)
        assert verdict.is_fine, f"{verdict.kind}: {verdict.why}; again: make simulate SEED={seed} SEEDS=1"


@pytest.mark.parametrize("shape", SHAPES)
def test_the_calm_run_aligns_exactly(worlds: Worlds, shape: str) -> None:
    """What all others are compared with."""
    parties = SHAPES[shape].parties
    common = [n for n in range(SHAPES[shape].people) if n % 9 not in range(parties)]
    aligned = [
        pd.read_parquet(io.BytesIO(files["alignment.parquet"]))["id"].tolist()
        for files in worlds.calm(shape).files.values()
    ]
    assert len(aligned) == parties
    assert all(one == aligned[0] for one in aligned)
    assert sorted(aligned[0]) == sorted(f"person{number}@mail.example" for number in common)


def test_the_same_seed_is_the_same_run(worlds: Worlds) -> None:
    def moments(seed: int) -> list[object]:
        plan = worlds.plan(seed)
        run = Run(worlds[plan.shape], plan, seed)
        try:
            run.simulate()
        finally:
            run.remove()
        return [run.simulation.words, run.simulation.clock.now, run.starts, run.happened]

    for seed in range(8):
        assert moments(seed) == moments(seed)


def test_the_last_line_and_what_runs_a_seed_again(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def verdicts(seeds: list[int]) -> list[tuple[int, Verdict]]:
        return [(seed, Verdict(kind, "reason", Plan(), ("ann: die at fsync",), 3)) for seed in seeds]

    monkeypatch.setattr(simulate, "verdicts", verdicts)
    for kind, counted in [("right", "right"), ("typed", "typed_errors"), ("wrong", "wrong")]:
        fine = kind != "wrong"
        assert simulate.main(["--seed", "7", "--seeds", "1"]) == (0 if fine else 1)
        lines = capsys.readouterr().out.splitlines()
        told = json.loads(lines[-1])
        assert {"seeds", "right", "typed_errors", "wrong", "untyped", "hangs"} <= told.keys()
        assert (told["seeds"], told[counted], told["faults"]) == (1, 1, {"disk: die": 1})
        again = "seed 7: wrong: reason; again: make simulate SEED=7 SEEDS=1"
        assert (again in lines) == (not fine)
