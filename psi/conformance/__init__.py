"""The conformance kit: does a protocol keep what `psi.Psi` promises? For every protocol, yours included.

    report = psi.conformance.check(FastPsi())
    assert report.conforms, report.failed

Each property is a function of a `Trial` that returns what it measured, or raises `Violation`. Its docstring
says what exactly is tested; `docs/psi.md` says what that can and cannot show.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from psi.conformance.correctness import one_order, plain_intersection
from psi.conformance.costs import declared_traffic, declared_unread
from psi.conformance.damage import damaged_messages
from psi.conformance.declared import declared_class
from psi.conformance.messages import fresh, no_ids
from psi.conformance.order import order_of_rows
from psi.conformance.report import DoesNotApply, Outcome, Report, Result, Violation
from psi.conformance.trial import Trial
from psi.conformance.unmasked import unmasked_values
from psi.conformance.views import no_guessing, no_pairwise
from psi.interface import Psi

__all__ = ["FIRST", "PROPERTIES", "Outcome", "Report", "Result", "Trial", "check"]

PROPERTIES: Final[dict[str, Callable[[Trial], str]]] = {
    "declared class": declared_class,
    "plain intersection": plain_intersection,
    "one order": one_order,
    "no ids in messages": no_ids,
    "fresh messages": fresh,
    "no guessing": no_guessing,
    "no pairwise": no_pairwise,
    "unmasked values": unmasked_values,
    "order of rows": order_of_rows,
    "damaged messages": damaged_messages,
    "declared traffic": declared_traffic,
    "declared unread": declared_unread,
}

FIRST: Final = ("declared class", "plain intersection")
"""Where one of these fails, a pass of any later one would say nothing: those are not tried."""


def check(
    protocol: Psi,
    seed: int = 1,
    largest: int = 2048,
    properties: Iterable[str] = tuple(PROPERTIES),
    watch: Callable[[Result], None] = lambda result: None,
    begin: Callable[[str], None] = lambda name: None,
) -> Report:
    """Try every property: seconds to minutes of runs in this process, as fast as the protocol is.

    seed: of all sets, and of all randomness that the protocol takes from `Setting.random`; the same seed
    repeats a failure. largest: ids of a party in the largest case. properties: which to try, of PROPERTIES.
    begin: is told the name of each property before it is tried. watch: is told each result as it comes.
    """
    trial = Trial(protocol, seed, largest)
    results: list[Result] = []
    wrong = ""
    for name in properties:
        if wrong:
            results.append(Result(name, "not tried", f"{wrong} failed"))
        else:
            begin(name)
            results.append(_try(name, PROPERTIES[name], trial))
            wrong = name if name in FIRST and results[-1].outcome == "failed" else ""
        watch(results[-1])
    return Report(str(protocol.name), tuple(results))


def _try(name: str, holds: Callable[[Trial], str], trial: Trial) -> Result:
    try:
        return Result(name, "passed", holds(trial))
    except DoesNotApply as reason:
        return Result(name, "does not apply", str(reason))
    except Violation as fault:
        return Result(name, "failed", "", str(fault), fault.seed or trial.seed)
