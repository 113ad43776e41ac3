"""The driver for faults: all parties in one process, in virtual time, with parties that are killed at any
word. Everything follows from one seed.

The parties (`protos.virtual_process`) talk through the same `Line` and `Inbox` as over gRPC, on links that
behave as those of `parties.link` (`protos.virtual_link`), on paths that lose frames (`protos.lossy`).
"""

import random
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Generic, TypeAlias, TypeVar

from protos.lossy import Clock, Faults, Lossy
from protos.rounds import PeerFailed, PeerRestarted, Resume, Rounds, Save
from protos.virtual_link import PROGRESS, Net
from protos.virtual_process import Killed, Process, Program

__all__ = ["Factory", "Faults", "Hang", "Killed", "Program", "Simulation"]

T = TypeVar("T")
Factory: TypeAlias = Callable[[Resume | None], Rounds[T]]
"""Makes a party's protocol anew: from the beginning, or from a `Save` of its own."""

START = 2.0  # virtual seconds until a process is up, at most
LONGEST = 100 * PROGRESS


class Hang(AssertionError):
    """Parties wait and nothing is under way, or virtual time ran out: never allowed."""


class Simulation(Generic[T]):
    """One run of all parties under the faults of one seed. `run` gives each party's result or error.

    parties: makes each party's protocol. What it saves survives its death, and all go on from the newest step
    that all have. Or `programs`: each party's process as it starts, which keeps its own. again: how many
    seconds after an error that ended its process somebody starts a party again; None: it stays ended.
    """

    def __init__(
        self,
        parties: Mapping[str, Factory[T]],
        hub: str,
        seed: int,
        faults: Faults,
        programs: Mapping[str, Callable[[], Program[T]]] | None = None,
        again: Callable[[str, Exception], float | None] = lambda name, error: None,
    ) -> None:
        self.draw = random.Random(seed)  # noqa: S311 - a simulation, not a key
        self.faults, self.clock, self._again = faults, Clock(), again
        self._saves: dict[str, dict[int, bytes]] = {name: {} for name in parties}
        self._common: dict[int, int] = {}  # by the hub's link, the step that its attempt began from
        self._in_memory = programs is None
        self._programs: Mapping[str, Callable[[], Program[T]]] = programs or {
            name: partial(self._attempts, name, make) for name, make in parties.items()
        }
        self.names = tuple(self._programs)
        self.words = 0  # of all parties so far
        self._kills = sorted(self.draw.randrange(max(faults.words, 1)) for _ in range(faults.kills))
        spokes = [name for name in self.names if name != hub]
        self._paths = Lossy(hub, spokes, faults, self.draw, self.clock, self._broken)
        self.net = Net(self._paths, hub, self.clock, self.draw, faults.delay)
        self._processes: dict[str, Process[T]] = {}
        self._outcomes: dict[str, T | Exception] = {}
        for name in self.names:
            self.clock.after(self.draw.random() * START, partial(self._start, name))
        for _ in range(faults.freezes):
            self.clock.after(self.draw.expovariate(0.3), self._freeze)

    def run(self) -> dict[str, T | Exception]:
        """Raises Hang; whatever a protocol raises is its party's outcome."""
        try:
            while len(self._outcomes) < len(self.names):
                if not self.clock.step() or self.clock.now > LONGEST:
                    waiting = [(p.name, p.waiting) for p in self._processes.values() if p.alive]
                    raise Hang(f"at {self.clock.now:.1f} s: {waiting}")
        finally:
            for process in self._processes.values():
                if process.alive:
                    process.unwind()
        return {name: self._outcomes[name] for name in self.names}

    @property
    def refused(self) -> int:
        """Frames of an earlier link that came late and were refused."""
        return self.net.refused

    # ---- what its processes tell ------------------------------------------------------------------------

    def dies_now(self) -> bool:
        self.words += 1
        if self._kills and self.words > self._kills[0]:
            self._kills.pop(0)
            return True
        return False

    def saved(self, name: str, word: Save) -> None:
        if self._in_memory:
            self._saves[name][word.step] = word.state()

    def began(self) -> None:
        """A protocol has no barrier at its end: who has its result comes back for those who were killed."""
        if not (self._in_memory and self.faults.kills and self.faults.restarts):
            return
        if any(p.alive and p.link and p.link.state == "gathering" for p in self._processes.values()):
            for name in [name for name, found in self._outcomes.items() if not isinstance(found, Exception)]:
                del self._outcomes[name]
                self.clock.after(self.draw.random(), partial(self._start, name))

    def ended(self, process: Process[T], outcome: Any) -> None:
        process.alive = False
        self._outcomes[process.name] = outcome
        after = self._again(process.name, outcome) if isinstance(outcome, Exception) else None
        if after is not None:
            del self._outcomes[process.name]
            self.clock.after(after, partial(self._start, process.name))
        self.began()

    def died(self, process: Process[T]) -> None:
        if process.link is not None and process.link.state != "closed":
            self.net.vanish(process.name)
        process.unwind()
        if self.faults.restarts:
            self.clock.after(self.draw.random() * self.faults.absence, partial(self._start, process.name))
        else:
            phase = process.link.phase if process.link else "start"
            self._outcomes[process.name] = PeerFailed(process.name, phase, "killed")

    # ---- starts, stops and what is in memory ------------------------------------------------------------

    def _start(self, name: str) -> None:
        process = self._processes[name] = Process(self, name, self._programs[name]())
        process.proceed(None)

    def _freeze(self) -> None:
        """A party stops, sends and answers nothing, and goes on later."""
        name, seconds = self.draw.choice(self.names), self.draw.random() * self.faults.cut
        if process := self._processes.get(name):
            process.thaws = self.clock.now + seconds
        for other in self.names:
            if self.net.hub in (name, other) and name != other:
                self._paths.cut(other if name == self.net.hub else name, seconds)

    def _broken(self, one: str, other: str, at_once: bool) -> None:
        self.net.broken(one, other, at_once)

    def _attempts(self, name: str, make: Factory[T]) -> Program[T]:
        """A process whose protocol goes on from what was saved in memory, as often as it must."""
        while True:
            try:
                result: T = yield lambda: make(self._newest_common(name))
            except PeerRestarted:
                continue
            return result

    def _newest_common(self, name: str) -> Resume | None:
        hub = self.net.links[self.net.hub].number
        if hub not in self._common:
            steps = set.intersection(*(set(saves) for saves in self._saves.values()))
            self._common[hub] = max(steps, default=0)
        step, saves = self._common[hub], self._saves[name]
        for newer in [saved for saved in saves if saved > step]:  # of an attempt that is over
            del saves[newer]
        return Resume(step, saves[step]) if step else None
