"""One run with its faults, and what came of it. The harness does what a service manager does: it starts a
killed party again with the same command. All else the parties do by themselves."""

import re
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.faults.real.homes import AWAY, SILENCE, Homes
from tests.faults.real.points import Point

PEER = re.compile(r"party: (?P<peer>[a-z, ]+) failed during (?P<phase>[a-z][a-z ,]*): .+")
HUB = re.compile(r"party: .*127\.0\.0\.1:\d+.+ \(waited [\d.]+ s\)")
TYPED = {6: HUB, 7: PEER, 8: PEER}
"""Exit codes of a party that waited for another, or lost it, for longer than its budget, and what it says."""

LATE = AWAY + 2 * SILENCE + 15
"""Seconds after which a party that waits for a lost one must have ended; our machine may be slow."""

STILL = 150.0
"""Seconds in which something must come to its end: beyond, it hangs."""

SLICE = 0.1


class Hang(Exception):
    """Somebody was still waiting when every budget had been spent."""


class Wrong(Exception):
    """Something ended otherwise than it must. The text says what."""


@dataclass
class Verdict:
    """Of one run. points: those that hit. missed: those whose moment never came, as the run was over."""

    kind: str = "bit_identical"
    why: str = ""
    hit: list[tuple[Point, str]] = field(default_factory=list)
    outlasted: int = 0
    missed: int = 0
    seconds: float = 0.0


class Faulted:
    def __init__(self, homes: Homes, oracle: dict[str, str]) -> None:
        self.homes, self.oracle = homes, oracle
        self.outlasted = False  # has there been a fault that was longer than the budget?
        self.down: set[str] = set()  # killed, or frozen, by us
        self.complete: set[str] = set()  # killed on their way out, with nothing left to do
        self.late: set[str] = set()  # whole, but came back after its budget, and met nobody
        self.forgiven: set[str] = set()  # may end by a typed error, as a fault outlasts its budget

    def run(self, points: tuple[Point, ...]) -> Verdict:
        verdict, began = Verdict(), time.monotonic()
        try:
            self.homes.start()
            for point in points:
                at = self._wait_for(point)
                if at is None:
                    verdict.missed += 1
                    continue
                verdict.hit.append((point, at))
                self._outlast(point) if point.outlasting else self._inject(point)
                verdict.outlasted += point.outlasting
            self._until(self._finished, STILL, "the end of the run")
            self._compare()
        except Hang as error:
            verdict.kind, verdict.why = "hangs", str(error)
        except Wrong as error:
            verdict.kind, verdict.why = "wrong", str(error)
        verdict.seconds = time.monotonic() - began
        return verdict

    def _until(self, reached: Callable[[], object], within: float, what: str) -> None:
        deadline = time.monotonic() + within
        while not reached():
            if time.monotonic() > deadline:
                raise Hang(f"{what}, {within:.0f} s: " + "; ".join(map(self._state, self.homes.names)))
            self._supervise()
            time.sleep(0.002)

    def _state(self, name: str) -> str:
        code, phase = self.homes.code(name), self.homes.phase(name)
        return (
            f"{name} {'runs' if code is None else f'ended {code}'} in {phase}, {self.homes.last_line(name)!r}"
        )

    def _supervise(self) -> None:
        """Nobody may end but by success, or typed where that is forgiven: then it is started again."""
        for name in self.homes.names:
            code = self.homes.code(name)
            if name in self.down or code in (None, 0):
                continue
            self._must_be_typed(name, code)
            if self.outlasted and self.homes.kept(name, f"*/{name}/summary.json"):
                if all(self._has_ended(other) for other in self.homes.names if other != name):
                    self.down.add(name)
                    self.late.add(name)
                    continue
            elif name not in self.forgiven:
                raise Wrong(f"{name} gave up within its budget: {self.homes.last_line(name)}")
            self.homes.start(name)

    def _must_be_typed(self, name: str, code: int | None) -> None:
        line = self.homes.last_line(name)
        if code not in TYPED or not TYPED[code].fullmatch(line):
            raise Wrong(f"{name} ended with {code}: {line}")

    def _finished(self) -> bool:
        return all(map(self._has_ended, self.homes.names))

    def _has_ended(self, name: str) -> bool:
        return self.homes.code(name) == 0 or name in self.complete | self.late

    # ---- moments --------------------------------------------------------------------------------------

    def _wait_for(self, point: Point) -> str | None:
        """Until the point's moment: what the victim is doing; None if it never comes."""
        homes, name = self.homes, point.victim
        self._until(lambda: self._is_now(point) or homes.code(name) == 0, STILL, f"{name} in {point.phase}")
        if point.delay:
            until = time.monotonic() + point.delay
            while time.monotonic() < until:
                self._supervise()
                time.sleep(0.002)
        if homes.code(name) is not None:
            return None
        phase = homes.phase(name)
        return f"{point.phase}: {phase.name} {phase.done}/{phase.total}"

    def _is_now(self, point: Point) -> bool:
        phase, name = self.homes.phase(point.victim), point.victim
        done = phase.done / phase.total if phase.total else 0.0
        training = phase.name == "training" and phase.total > 0 and done >= point.part
        match point.phase:
            case "starting":
                return True
            case "checkpoint":
                return training and bool(self.homes.kept(name, f"*-unfinished/{name}/.*.partial"))
            case "evaluation":
                return training and phase.done % (phase.total // self.homes.shape.epochs or 1) == 0
            case "training":
                return training
            case "psi":
                return phase.name == "psi" and (not phase.total or done >= point.part)
            case "results":
                return bool(self.homes.kept(name, f"*/{name}/agreement.json"))
            case "ending":
                return bool(self.homes.kept(name, f"*/{name}/summary.json"))
            case _:
                return phase.name == point.phase

    # ---- faults ---------------------------------------------------------------------------------------

    def _inject(self, point: Point) -> None:
        self._begin(point)
        self._pass(point)
        self._heal(point)

    def _begin(self, point: Point) -> None:
        name = point.victim
        match point.kind:
            case "kill" | "blackout":
                victims = self._victims(point)
                self.down.update(victims)
                for victim in victims:
                    self.homes.signal(victim, signal.SIGKILL)
                for victim in victims:
                    self.homes.processes[victim].join(10)
            case "stop":
                self.homes.signal(name, signal.SIGSTOP)
            case "cut" | "hole":
                self.homes.lines[name].fail(noticed=point.kind == "cut")

    def _victims(self, point: Point) -> tuple[str, ...]:
        return self.homes.names if point.kind == "blackout" else (point.victim,)

    def _pass(self, point: Point) -> None:
        """The time that the fault lasts."""
        until, name = time.monotonic() + point.seconds, point.victim
        while time.monotonic() < until:
            if point.kind == "slow":
                self.homes.signal(name, signal.SIGSTOP)
                time.sleep(0.9 * SLICE)
                self.homes.signal(name, signal.SIGCONT)
                time.sleep(0.1 * SLICE)
            else:
                time.sleep(0.01)
            self._supervise()

    def _heal(self, point: Point) -> None:
        name = point.victim
        match point.kind:
            case "kill" | "blackout":
                for victim in self._victims(point):
                    if self.homes.code(victim) == 0 or self._complete(victim):
                        self.complete.add(victim)
                    else:
                        self.down.discard(victim)
                        self.homes.start(victim)
            case "stop":
                self.homes.signal(name, signal.SIGCONT)
            case "cut" | "hole":
                self.homes.lines[name].mend()

    def _complete(self, name: str) -> bool:
        """Has it left its results, and nothing to go on with?"""
        has, goes_on = f"*/{name}/summary.json", f"*-unfinished/{name}/run.json"
        return bool(self.homes.kept(name, has)) and not self.homes.kept(name, goes_on)

    def _outlast(self, point: Point) -> None:
        """Longer than the budget: every other party ends in time by a typed error; then all start again."""
        homes, name = self.homes, point.victim
        self.outlasted = True
        others = [other for other in homes.names if other != name]
        before = {other for other in others if homes.code(other) == 0}
        self._begin(point)
        deadline = time.monotonic() + LATE
        waiting = [other for other in others if other not in before]
        if point.kind in ("cut", "hole"):
            waiting.append(name)
        while any(homes.code(other) is None for other in waiting):
            if time.monotonic() > deadline:
                raise Hang(f"outlasted by {point}: " + "; ".join(map(self._state, homes.names)))
            time.sleep(0.01)
        for other in waiting:
            if homes.code(other) != 0:  # it may just have finished
                self._must_be_typed(other, homes.code(other))
        self._heal(point)
        self.forgiven = {*homes.names} if point.kind == "stop" else set()
        for other in waiting:
            if homes.code(other) != 0:
                homes.start(other)

    # ---- the end --------------------------------------------------------------------------------------

    def _compare(self) -> None:
        found = self.homes.results()
        if found != self.oracle:
            others = sorted({*found.items()} ^ {*self.oracle.items()})
            raise Wrong(f"other results: {sorted({name for name, _ in others})}")
        for name in self.homes.names:
            left = self.homes.kept(name, "**/.*.partial")
            if name not in self.late:  # which cannot know whether the others need it
                inside = "/*" if name in self.complete else ""
                left += self.homes.kept(name, f"*-unfinished/*{inside}")
            if left:
                raise Wrong(f"left behind: {[str(path.name) for path in left]}")
