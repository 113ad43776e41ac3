"""Homes of parties, prepared once: each run starts from a copy, so that one uninterrupted run is the
oracle of all. They begin with an unfinished run of which only its id is there: all runs have this
id, and the same secrets."""

import json
import os
import shutil
import signal
import socket
import sys
from contextlib import ExitStack
from dataclasses import dataclass
from hashlib import sha256
from multiprocessing import get_context
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from benchmarks.emulated_line import EmulatedLine
from parties.storage import own_secret, write
from parties.unfinished import unfinished
from tests.e2e.conftest import Federation

AWAY = 20.0
"""Seconds, as [link] away of party.toml: the budget."""

SILENCE = 4.0

HOST, PORT = "127.0.0.1", 1
"""Where the hub is in the prepared homes; every copy has ports of its own."""

RUN = sha256(b"the run of make faults").hexdigest()
CHECKPOINT_EVERY = 40
"""Steps of training: as few as in a small run give several checkpoints."""

RESULTS = ("model.safetensors", "alignment.parquet", "test_scores.parquet", "pipeline.json")

_forks = get_context("forkserver")
_forks.set_forkserver_preload(
    ["parties.train", "parties.progress", "parties.hub", "parties.dial", "sklearn.metrics"]
)


class Shape(NamedTuple):
    """A run to try faults on. settings: lines of run.toml. bucket: ids at most in one."""

    names: tuple[str, ...]
    people: int
    epochs: int
    training: str = ""
    settings: str = ""
    bucket: int | None = None


THREE = ("platform", "logistics", "advertiser")
SHAPES = {
    "exact": Shape(THREE, 1200, 24, settings='evaluation.importance = "columns"'),
    "pipelined": Shape(THREE, 1200, 24, 'schedule = "pipelined"', 'codec.activations = "int8"'),
    "rr22": Shape(THREE[:2], 1500, 24, settings='psi.protocol = "rr22"'),
    "buckets": Shape(THREE, 1500, 12, 'schedule = "celu"', bucket=512),
    "two": Shape(THREE[:2], 1500, 8, 'schedule = "fedbcd"'),
}


def run_party(home: Path, bucket: int | None) -> None:
    """In a process of its own: what the shell's `cd HOME && party run --json` does, and where it stands."""
    from parties import checkpoints
    from parties.process import main
    from parties.progress import Bars
    from protos.rounds import Progress, Traffic
    from psi import buckets

    if bucket is not None:
        buckets.LARGEST = bucket  # type: ignore[misc]
    checkpoints.STEPS = CHECKPOINT_EVERY  # type: ignore[misc]
    os.chdir(home)
    for number, name in ((1, "stdout"), (2, "stderr")):
        os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), number)
    place = os.open("phase", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    shown = Bars.__call__

    def tell(self: Bars, progress: Progress, traffic: Traffic) -> None:
        line = f"{progress.phase}\t{progress.done}\t{progress.total}\n"
        os.pwrite(place, line.encode().ljust(120), 0)
        shown(self, progress, traffic)

    Bars.__call__ = tell  # type: ignore[method-assign]
    sys.argv = ["party", "run", "--json"]
    main()


class Phase(NamedTuple):
    """What a party last said of its progress."""

    name: str
    done: int
    total: int


@dataclass
class Homes:
    """The parties of one run: their folders, processes and lines; `with` ends them all."""

    folder: Path
    shape: Shape

    def __post_init__(self) -> None:
        self.names = self.shape.names
        self.processes: dict[str, ForkServerProcess] = {}
        self.lines: dict[str, EmulatedLine] = {}
        self._open = ExitStack()

    def __enter__(self) -> Self:
        hub = _free_port()
        for name in self.names:
            file = self.folder / name / "party.toml"
            port = hub
            if name != self.names[0]:
                self.lines[name] = self._open.enter_context(EmulatedLine(hub))
                port = self.lines[name].port
            file.write_text(file.read_text().replace(f"{HOST}:{PORT}", f"{HOST}:{port}"))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self.processes.values():
            if process.pid is not None:  # Control-C may come before it has started
                process.kill()
                process.join(10)
        self._open.close()

    def start(self, *names: str) -> None:
        for name in names or self.names:
            (self.folder / name / "phase").unlink(missing_ok=True)
            self.processes[name] = _forks.Process(
                target=run_party, args=(self.folder / name, self.shape.bucket), daemon=True
            )
            self.processes[name].start()

    def signal(self, name: str, number: signal.Signals) -> None:
        pid = self.processes[name].pid
        if pid is not None and self.code(name) is None:
            os.kill(pid, number)

    def code(self, name: str) -> int | None:
        """The exit code of its process; None while it runs."""
        return self.processes[name].exitcode

    def phase(self, name: str) -> Phase:
        try:
            said, done, total = (self.folder / name / "phase").read_text().strip().split("\t")
        except (OSError, ValueError):
            return Phase("starting", 0, 0)
        return Phase(said, int(done), int(total))

    def last_line(self, name: str) -> str:
        """What it said last on stderr."""
        return (self.folder / name / "stderr").read_text().rstrip().rpartition("\n")[2]

    def kept(self, name: str, pattern: str) -> list[Path]:
        """Files of its storage."""
        return [*(self.folder / name / "runs").glob(pattern)]

    def results(self) -> dict[str, str]:
        """The digest of each file that a run leaves, for every party; of all runs that are there."""
        return {
            f"{name}/{path.name}": sha256(path.read_bytes()).hexdigest()
            for name in self.names
            for path in sorted(self.kept(name, f"*/{name}/*"))
            if path.name in RESULTS
        }


def prepare(folder: Path, shape: Shape) -> None:
    """Write the homes of a shape, each with its secret and with the id of the run that all copies do."""
    folder.mkdir(parents=True)
    made = Federation(folder, shape.names, shape.names[0], shape.people, f"{HOST}:{PORT}")
    made.write()
    stop = f"epochs = {shape.epochs}, patience = {shape.epochs}"
    made.agree("epochs = 200, patience = 3", f"{stop}, {shape.training}".removesuffix(", "))
    made.agree("psi.minimum = 20", f"psi.minimum = 20\n{shape.settings}")
    for name, config in made.configs().items():
        file = made.home(name) / "party.toml"
        kept = [
            line
            for line in file.read_text().splitlines()
            if line.split(" ")[0] not in ("wait", "away", "silence")
        ]
        file.write_text("\n".join([*kept, f"wait = {AWAY}\naway = {AWAY}\nsilence = {SILENCE}\n"]))
        own_secret(config.party.storage)
        write(unfinished(config) / "run.json", json.dumps({"run": RUN}).encode())


def copied(prepared: Path, folder: Path, shape: Shape) -> Homes:
    shutil.copytree(prepared, folder)
    return Homes(folder, shape)


def _free_port() -> int:
    with socket.create_server((HOST, 0)) as free:
        port: int = free.getsockname()[1]
        return port
