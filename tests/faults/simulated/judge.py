"""What goes wrong for one seed, and whether what came of it may be.

In the end every party must have the files of the run with nothing going wrong, byte for byte; only where a
party stays dead may the others end with a typed error.
"""

import json
import random
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any

from parties import audit
from parties.egress import NAME as AUDIT
from parties.errors import AccountError
from protos.simulator import Faults, Hang
from tests.faults.simulated.run import Plan, Run, Wrong, is_typed
from tests.faults.simulated.worlds import OFTEN, RUN_ID, SHAPES, World, make

OF_EACH_ATTEMPT = {"agreement.json", "summary.json", "report.txt", AUDIT}  # times, traffic, fresh keys
SOMETIMES = {"last_good.safetensors"}


@dataclass
class Verdict:
    """Of one seed. kind: "right", "typed", "wrong", "untyped" or "hang". happened: on the disks."""

    kind: str
    why: str
    plan: Plan
    happened: tuple[str, ...]
    starts: int

    @property
    def is_fine(self) -> bool:
        return self.kind in ("right", "typed")


@dataclass
class Calm:
    """A run with nothing going wrong: its files, and how long it is."""

    files: dict[str, dict[str, bytes]]
    words: int
    operations: dict[str, int]


class Untyped(Wrong):
    """A party's process ended with an error that is none of the vocabulary."""


class Worlds:
    """All federations, each made when it is first needed, below one folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._worlds: dict[str, World] = {}
        self._calm: dict[str, Calm] = {}

    def __getitem__(self, shape: str) -> World:
        if shape not in self._worlds:
            (self._folder / shape).mkdir(parents=True)
            self._worlds[shape] = make(self._folder / shape, SHAPES[shape])
        return self._worlds[shape]

    def calm(self, shape: str) -> Calm:
        if shape not in self._calm:
            run = Run(self[shape], Plan(shape), 0)
            try:
                for name, outcome in run.simulate().items():
                    if isinstance(outcome, Exception):
                        raise outcome
                    assert outcome["party"] == name
                self._calm[shape] = Calm(run.files(RUN_ID), run.simulation.words, dict(run.disk.operations))
            finally:
                run.remove()
        return self._calm[shape]

    def plan(self, seed: int) -> Plan:
        """A mixture for one seed."""
        draw = random.Random(f"plan {seed}")
        shape = draw.choice(OFTEN)
        calm = self.calm(shape)
        faults = Faults.drawn(seed, int(calm.words * 1.2))
        stays = not faults.restarts and draw.random() < 0.5
        faults = replace(faults, restarts=not stays, kills=1 if stays else faults.kills)
        chunk = draw.choice([500, 4096, 1 << 19])
        if shape in ("ecdh", "rr22"):  # whose messages are large for lines that lose a fifth of all frames
            chunk = 1 << 19
        faults = replace(faults, chunk=chunk)
        faults = replace(faults, cut=draw.choice([5.0, 20.0, 20.0, 200.0]))
        faults = replace(faults, absence=draw.choice([1.0, 10.0, 20.0, 200.0]))
        disk: dict[str, dict[int, str]] = {}
        for _ in range(draw.choice([0, 0, 1, 2])):
            name = draw.choice([*calm.operations])
            at = draw.randrange(1, int(calm.operations[name] * 1.2))
            disk.setdefault(name, {})[at] = draw.choice(["die", "die", "die", "no space", "fails"])
        if stays:
            disk = {}
        power, damage, change = (
            draw.random() < 0.5,
            draw.choice([0.0, 0.0, 0.5]),
            draw.choice([0.0, 0.0, 0.3]),
        )
        return Plan(shape, faults, disk, power, damage, change, begun=draw.random() < 0.95)

    def verdict(self, seed: int) -> Verdict:
        plan, why = self.plan(seed), ""
        run = Run(self[plan.shape], plan, seed)
        try:
            kind = self._judge(plan, run, run.simulate())
        except (Wrong, Hang) as error:
            kind, why = {Wrong: "wrong", Untyped: "untyped", Hang: "hang"}[type(error)], str(error)
        finally:
            run.remove()
        return Verdict(kind, why, plan, tuple(run.happened), sum(run.starts.values()))

    def _judge(self, plan: Plan, run: Run, outcomes: Mapping[str, Any]) -> str:
        """Raises Wrong."""
        errors = {name: one for name, one in outcomes.items() if isinstance(one, Exception)}
        for name, error in errors.items():
            if not is_typed(error):
                raise Untyped(f"{name} ends with {error!r}") from error
        runs = {outcome["run"] for name, outcome in outcomes.items() if name not in errors}
        if len(runs) > 1:
            raise Wrong(f"parties ended in different runs: {runs}")
        for run_id in map(bytes.fromhex, runs):
            expected = self._expected(plan.shape, run_id)
            for name, files in run.files(run_id).items():
                if name not in errors or "summary.json" in files:
                    _compare(name, files, expected[name])
                    errors.pop(name, None)  # it died as it cleared up, or while the others did
        if errors and plan.faults.restarts and not self._end_so_anyway(plan.shape, run, errors):
            told = "; ".join(f"{name}: {type(one).__name__}: {one}" for name, one in errors.items())
            raise Wrong(f"all were started again, and yet {told}")
        for name in outcomes.keys() - errors.keys():
            if not isinstance(outcomes[name], Exception) and run.unfinished(name).exists():
                raise Wrong(f"{name} has its results, and yet {run.unfinished(name)} is there")
        _add_up(run.audits(), plan.power)
        return "typed" if errors else "right"

    def _end_so_anyway(self, shape: str, run: Run, errors: Mapping[str, Exception]) -> bool:
        """Does the run that they go on with end like this with nothing going wrong, too? The one whose id is
        told beforehand does not; one that began anew draws other rows, of so few people even of one value."""
        began = [run.unfinished(name) / "run.json" for name in errors]
        ids = {json.loads(file.read_bytes())["run"] for file in began if file.exists()}
        if len(ids) != 1:
            return False
        undisturbed = Run(self[shape], Plan(shape), 0, bytes.fromhex(ids.pop()))
        try:
            ends = undisturbed.simulate()
        finally:
            undisturbed.remove()
        return all(repr(ends[name]) == repr(error) for name, error in errors.items())

    def _expected(self, shape: str, run_id: bytes) -> dict[str, dict[str, bytes]]:
        if run_id == RUN_ID:
            return self.calm(shape).files
        run = Run(self[shape], Plan(shape), 0, run_id)
        try:
            run.simulate()
            return run.files(run_id)
        finally:
            run.remove()


def _compare(name: str, files: Mapping[str, bytes], expected: Mapping[str, bytes]) -> None:
    if files.keys() - SOMETIMES != expected.keys():
        raise Wrong(f"{name} has the files {sorted(files)}, not {sorted(expected)}")
    for file, content in expected.items():
        if file not in OF_EACH_ATTEMPT and files[file] != content:
            raise Wrong(f"{name}: {file} is not what it must be")
    ours, theirs = json.loads(files["summary.json"]), json.loads(expected["summary.json"])
    for key in ("run", "party", "aligned", "examples", "metrics", "contribution"):
        if ours.get(key) != theirs.get(key):
            raise Wrong(f"{name}: summary.json has other {key}")
    if _spent(ours) != _spent(theirs):
        raise Wrong(f"{name}: the run has spent {_spent(ours)}, not {_spent(theirs)}")


def _spent(summary: Mapping[str, Any]) -> dict[str, Any]:
    """By partner, in this run: in all of them there may be one more, which was dropped."""
    partners = summary.get("privacy", {}).get("partners", {})
    return {name: (one["releases"], one["epsilon"]) for name, one in partners.items()}


def _add_up(logs: Mapping[str, Path], power: bool) -> None:
    """Every egress log is whole, and says what its peers say; lines not synced go with the power."""
    try:
        read = [audit.read(path) for path in logs.values() if path.stat().st_size or not power]
        for one, other in combinations(read, 2):
            if one.run == other.run and not power and (found := audit.compare(one, other)):
                raise Wrong(f"{one.party} and {other.party}: {found[0]}")
    except AccountError as error:
        raise Wrong(str(error)) from error


def verdicts(seeds: Iterable[int]) -> list[tuple[int, Verdict]]:
    """Of these seeds, in worlds made for them."""
    with tempfile.TemporaryDirectory() as folder:
        worlds = Worlds(Path(folder))
        return [(seed, worlds.verdict(seed)) for seed in seeds]
