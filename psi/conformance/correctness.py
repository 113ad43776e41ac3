"""The result is the plain intersection, and all parties hold it in one order."""

from __future__ import annotations

import numpy as np

from psi.conformance.report import Violation
from psi.conformance.trial import NAMES, Case, Trial, intersection, named


def plain_intersection(trial: Trial) -> str:
    """Every party's rows name exactly the ids that a plain set intersection gives, each once."""
    for case in trial.cases:
        _ended_well(case)
        expected = intersection(case.sets)
        for name, own in zip(NAMES, case.sets, strict=False):
            found = named(own, case.ends.rows[name])
            sizes = "/".join(str(len(one)) for one in case.sets)
            if lost := len(expected - set(found)):
                raise Violation(f"{name} lost {lost} of {len(expected)} common ids of {sizes}", case.seed)
            if set(found) - expected:
                raise Violation(f"{name} holds ids that are not common, of {sizes}", case.seed)
            if len(found) > len(expected):
                raise Violation(f"{name} holds a common id twice, of {sizes}", case.seed)
    largest = max(len(own) for case in trial.cases for own in case.sets)
    return f"{len(trial.cases)} alignments of {_parties(trial)} parties, 0 to {largest} ids"


def one_order(trial: Trial) -> str:
    """The i-th row is the same id at every party."""
    for case in trial.cases:
        _ended_well(case)
        orders = [named(own, case.ends.rows[name]) for name, own in zip(NAMES, case.sets, strict=False)]
        differing = [name for name, order in zip(NAMES, orders, strict=False) if order != orders[0]]
        if differing:
            raise Violation(f"{differing[0]} has another order than {NAMES[0]}", case.seed)
    common = max(len(case.ends.rows[NAMES[0]]) for case in trial.cases)
    return f"{len(trial.cases)} alignments, up to {common} common ids"


def _ended_well(case: Case) -> None:
    ends = case.ends
    for message in ends.leftover:
        raise Violation(f"{message.receiver} left {message.kind!r} of {message.sender} unread", case.seed)
    for name, own in zip(NAMES, case.sets, strict=False):
        rows = ends.rows[name]
        if not isinstance(rows, np.ndarray) or rows.dtype != np.int64 or rows.ndim != 1:
            raise Violation(f"{name} returns no one-dimensional array of int64", case.seed)
        if len(rows) and not 0 <= rows.min() <= rows.max() < len(own):
            raise Violation(f"{name} returns rows that it does not have", case.seed)


def _parties(trial: Trial) -> str:
    counts = sorted({len(case.sets) for case in trial.cases})
    return str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
