"""What the kit says of a protocol: one result a property, with what was measured."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Outcome = Literal["passed", "failed", "does not apply", "not tried"]


class Violation(Exception):
    """A property does not hold. One line: where and what; `seed` repeats it."""

    def __init__(self, reason: str, seed: int) -> None:
        super().__init__(reason)
        self.seed = seed


class DoesNotApply(Exception):
    """The property cannot be asked of this protocol; the line says why."""


@dataclass(frozen=True, slots=True)
class Result:
    """One property. measured: what was tried and found, or why it does not apply or was not tried.

    reason, seed: of a failure, one line and what to give to `check` to see it again.
    """

    property: str
    outcome: Outcome
    measured: str
    reason: str | None = None
    seed: int | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """All properties of one protocol."""

    protocol: str
    results: tuple[Result, ...]

    @property
    def conforms(self) -> bool:
        return all(result.outcome != "failed" for result in self.results)

    @property
    def failed(self) -> list[str]:
        return [result.property for result in self.results if result.outcome == "failed"]
