"""A whole run of a small federation with its files, under what a plan lets go wrong.

Each party's process does what `party run` does: its lock, its unfinished run, an attempt over a link, another
one where a peer was started anew, its results. Whoever is killed comes back; whose process ends with an error
is started again by somebody, a few times.
"""

import hashlib
import json
import random
import shutil
import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from parties.attempts import Tried
from parties.changes import refuse_changes
from parties.egress import NAME as AUDIT
from parties.ending import ended
from parties.errors import PartyError, StorageError, exit_code
from parties.released import NAME as RELEASED
from parties.storage import locked
from parties.train import complete_run
from parties.unfinished import ALIGNMENT, Unfinished, forget, told, unfinished
from protos.rounds import PeerRestarted, Send
from protos.simulator import Faults, Program, Simulation
from tests.faults.simulated.disk import Disk, OnDisk
from tests.faults.simulated.worlds import RUN_ID, World, small

STARTS = 6
"""Of one party after errors: somebody who looks after it gives up then."""

FRESH = {"hello", "hashes", "blinded", "evaluated", "masked", "masked twice", "vole opening", "vole trees"}
"""Kinds that are under fresh keys in each attempt, beside all that passes between feature holders."""

MASKED = {"activation", "validation", "test"}
"""The same of a secure sum."""


@dataclass(frozen=True)
class Plan:
    """What goes wrong for one seed. disk: as `Disk.faults`. power: the death of a process is that of its
    machine. damage, change: how probably, as a party is started again, a file of its unfinished run is
    damaged or its table is another one (and put back at the next start). begun: do all parties begin with the
    same run id?"""

    shape: str = "plain"
    faults: Faults = field(default_factory=lambda: Faults(delay=0.0))
    disk: Mapping[str, Mapping[int, str]] = field(default_factory=dict)
    power: bool = False
    damage: float = 0.0
    change: float = 0.0
    begun: bool = True


def is_typed(error: Exception) -> bool:
    """Has it an exit code of its own, which is not that of a fault in this program? And is it one line?"""
    return exit_code(error) not in (1, 70) and "\n" not in str(error)


class Wrong(Exception):
    """Something came out that must not."""


class Run:
    """Of all parties, in a storage of its own, in memory if the machine can."""

    def __init__(self, world: World, plan: Plan, seed: int, run_id: bytes = RUN_ID) -> None:
        self._world, self._plan, self._seed = world, plan, seed
        self._draw = random.Random(f"run {seed}")
        memory = Path("/dev/shm")
        self.storage = Path(tempfile.mkdtemp(prefix="simulated-", dir=memory if memory.is_dir() else None))
        self.disk = Disk(self.storage, random.Random(f"disk {seed}"))
        self.disk.power = plan.power
        self.disk.faults = {name: dict(faults) for name, faults in plan.disk.items()}
        self.happened: list[str] = self.disk.happened
        self.starts = dict.fromkeys(world.names, 0)
        self._errors = dict.fromkeys(world.names, 0)
        self._afresh: set[str] = set()
        self._attempts = 0
        self._said: dict[bytes, int] = {}
        self._drawn: dict[str, set[bytes]] = {name: set() for name in world.names}
        self._wrong: list[str] = []
        if plan.begun:
            for name in world.names:
                folder = self.unfinished(name)
                folder.mkdir(parents=True)
                (folder / "run.json").write_text(json.dumps({"run": run_id.hex()}))
        self.simulation: Simulation[dict[str, Any]] = Simulation(
            {},
            world.names[0],
            seed,
            plan.faults,
            programs={name: self._starter(name) for name in world.names},
            again=self._again,
        )

    def simulate(self) -> dict[str, dict[str, Any] | Exception]:
        """Raises Hang, Wrong."""
        with small(self._world.shape), self.disk.replacing_os():
            outcomes = self.simulation.run()
        for name, outcome in outcomes.items():
            self._look_for_keys(name, (self.storage / name).rglob("*"))
            if self._half_written(name, outcome):
                self._wrong.append(f"{name} has left a half-written file")
        if self._wrong:
            raise Wrong(self._wrong[0])
        return outcomes

    def unfinished(self, name: str) -> Path:
        return unfinished(self._world.at(self.storage, name).config)

    def files(self, run_id: bytes) -> dict[str, dict[str, bytes]]:
        """By party, what its run has left."""
        found = {}
        for name in self._world.names:
            folder = self.storage / name / f"faults-{run_id.hex()[:12]}" / name
            found[name] = {path.name: path.read_bytes() for path in folder.glob("[!.]*")}
        return found

    def audits(self) -> dict[str, Path]:
        """By party, the egress log of the newest of its runs."""
        logs = [
            path for name in self._world.names for path in (self.storage / name).glob(f"faults-*/*/{AUDIT}")
        ]
        return {path.parent.name: path for path in sorted(logs, key=lambda path: path.stat().st_mtime_ns)}

    def remove(self) -> None:
        shutil.rmtree(self.storage, ignore_errors=True)

    # ---- a party's process ------------------------------------------------------------------------------

    def _starter(self, name: str) -> Callable[[], Program[dict[str, Any]]]:
        def start() -> Any:
            changed = False
            if self.starts[name]:
                self._look_for_keys(name, self.unfinished(name).glob("*"))
                more = self._errors[name] < STARTS // 2  # or it would be given up, not started again
                if more and self._draw.random() < self._plan.damage:
                    self._damage(name)
                changed = more and self._draw.random() < self._plan.change
            self.starts[name] += 1
            self.disk.started(name)
            return OnDisk(self.disk, name, self._party_run(name, changed))

        return start

    def _party_run(self, name: str, changed: bool) -> Program[dict[str, Any]]:
        """What `parties.train.run_party` does."""
        prepared, own = self._world.at(self.storage, name), self._world.own[name]
        numbers, jumps = random.Random(f"{self._seed} {name} {self.starts[name]}"), random.Random(self._seed)

        def fresh(size: int) -> bytes:
            drawn = numbers.randbytes(size)
            self._drawn[name].update(drawn[at : at + 16] for at in range(0, size - 15, 16))
            return drawn

        def clock() -> float:
            return jumps.uniform(-1e9, 1e9)

        def attempt() -> Any:
            self._attempts += 1
            number = self._attempts
            rounds = complete_run(prepared, kept, clock, fresh)
            return OnDisk(self.disk, name, rounds, lambda word: self._hear(name, word, number))

        with locked(prepared.config.party.storage, name):
            kept = Unfinished.of(prepared.config, own)
            if name in self._afresh:
                self._afresh.remove(name)
                forget(kept.folder)
            if changed:
                self.happened.append(f"{name}: another table")
                self._begin_with_another_table(name, prepared.config, own)
            refuse_changes(prepared.config, own)
            with told(kept.holds, lambda line: None) as earlier:
                tried = Tried(earlier)
                while True:
                    if kept.ended():
                        summary = ended(kept, lambda line: None)
                        break
                    try:
                        summary = yield attempt
                        break
                    except PeerRestarted:
                        if not tried.again(kept.holds()):
                            raise
            if isinstance(summary, PartyError):
                raise summary
            return summary

    def _begin_with_another_table(self, name: str, config: Any, own: Mapping[str, Any]) -> None:
        refuse_changes(config, {**own, "data.file": "of another table"})
        content = json.loads((self.unfinished(name) / "run.json").read_bytes() if self._has(name) else "{}")
        if self._has(name, ALIGNMENT) and "own" in content:
            self._wrong.append(f"{name} goes on with another table")

    def _has(self, name: str, file: str = "run.json") -> bool:
        return (self.unfinished(name) / file).exists()

    def _again(self, name: str, error: Exception) -> float | None:
        """Somebody starts a party again whose process ended with an error, if it is of use."""
        self._errors[name] += 1
        if not is_typed(error) or not self._plan.faults.restarts or self._errors[name] > STARTS:
            return None
        if isinstance(error, StorageError) and "--afresh" in str(error):
            self._afresh.add(name)
            if not any(happened.startswith(f"{name}: run.json is") for happened in self.happened):
                self._wrong.append(f"{name} cannot go on by itself: {error}")
        return self._draw.uniform(1, 60)

    # ---- what may never be ------------------------------------------------------------------------------

    def _hear(self, name: str, word: Send, attempt: int) -> None:
        """What is under fresh keys in each attempt is never the same in two."""
        between_spokes = self._world.names[0] not in (name, word.to)
        masked = self._world.shape.model and word.kind in MASKED
        if (between_spokes or masked or word.kind in FRESH) and len(word.payload) >= 32:  # type: ignore[arg-type]
            digest = hashlib.sha256(f"{name} {word.to} {word.kind} ".encode() + word.payload).digest()  # type: ignore[operator]
            if self._said.setdefault(digest, attempt) != attempt:
                self._wrong.append(f"{name} says the same {word.kind!r} to {word.to} in two attempts")

    def _look_for_keys(self, name: str, paths: Iterable[Path]) -> None:
        """Nothing that a party has drawn for its keys is in its files; a nonce is, where all have signed."""
        files = [path for path in paths if path.is_file() and path.name != "agreement.json"]
        content = b"".join(path.read_bytes() for path in files)
        if any(piece in content for piece in self._drawn[name]):
            self._wrong.append(f"{name} has a key on its disk")

    def _half_written(self, name: str, outcome: Any) -> bool:
        """Is there a part of a file? Who stays dead, or could not remove it, is excused."""
        dead = isinstance(outcome, Exception) and not self._plan.faults.restarts
        failed = f"{name}: fails at unlink" in self.happened
        return not dead and not failed and any((self.storage / name).rglob("*.partial"))

    # ---- what goes wrong at a restart -------------------------------------------------------------------

    def _damage(self, name: str) -> None:
        """A file of its unfinished run is not any more what it was."""
        whole = self._draw.random() < 0.1  # the run's id, too: without it all begin anew
        files = sorted(self.unfinished(name).glob("[!.]*" if whole else "[!.r]*"))
        files = [path for path in files if path.name != RELEASED]  # without, more is charged, not the same
        if not files:
            return
        path = self._draw.choice(files)
        content = path.read_bytes()
        how = self._draw.choice(
            [
                "cut short",
                "flipped",
                "empty",
                "gone",
                "that of another party",
                "another file",
                "of another version",
            ]
        )
        if path.name == "run.json" and how != "gone":  # valid, it would be another run
            how = "cut short"
        if how == "cut short":
            content = content[: self._draw.randrange(len(content) or 1)]
        elif how == "flipped" and content:
            at = self._draw.randrange(len(content))
            content = content[:at] + bytes([content[at] ^ (1 << self._draw.randrange(8))]) + content[at + 1 :]
        elif how == "empty":
            content = b""
        elif how == "that of another party":
            theirs = self.unfinished(self._draw.choice(self._world.names)) / path.name
            content = theirs.read_bytes() if theirs.exists() else content
        elif how == "another file":
            content = self._draw.choice(files).read_bytes()
        elif how == "of another version":
            content = content.replace(b"checkpoint 1", b"checkpoint 9")
        path.write_bytes(content)
        if how == "gone":
            path.unlink()
        self.happened.append(f"{name}: {path.name} is {how}")
