"""What a protocol declares of its traffic is what it sends."""

from __future__ import annotations

import random
import reprlib
from numbers import Integral
from typing import Final

from psi.conformance.report import Violation
from psi.conformance.trial import NAMES, Trial, populate, told

TOLERANCE: Final = 0.05
SMALLEST: Final = 1 << 10


def declared_traffic(trial: Trial) -> str:
    """`traffic(counts, common)` is within 5 % of the bytes sent, from 2^10 ids a party."""
    worst = 0.0
    for parties in trial.parties(2, 3):
        everybody = 2**parties - 1
        for holders in (
            [everybody] * (SMALLEST // 2) + [1 << party for party in range(parties)] * (SMALLEST // 2),
            [everybody] * SMALLEST + [1] * SMALLEST + [everybody - 1] * (SMALLEST // 4),
        ):
            sets = populate(holders, parties, random.Random(trial.seed))
            sent = sum(len(message.payload) for message in trial.play(sets, trial.seed).transcript)
            counts = [len(own) for own in sets]
            declared = _bytes(trial, "traffic", counts, holders.count(everybody))
            if abs(declared - sent) > TOLERANCE * sent:
                raise Violation(f"{sent} bytes sent by sets of {counts}, declared are {declared}", trial.seed)
            worst = max(worst, abs(declared - sent) / max(1, sent))
    return f"at most {100 * worst:.1f} % off"


def declared_unread(trial: Trial) -> str:
    """No peer is ever further ahead of a party than `unread(at_most)` bytes, nor asked for more at once.

    Tried with each party as the slowest: it steps only when all others wait.
    """
    most = limit = 0
    bound = _bytes(trial, "unread", trial.largest)
    for parties in trial.parties(2, 3):
        everybody = 2**parties - 1
        sets = populate([everybody] * trial.largest, parties, random.Random(trial.seed))
        for name in NAMES[:parties]:
            ends = trial.play(sets, trial.seed, slowest=name)
            most, limit = max([most, *ends.unread.values()]), max(limit, ends.limit)
            for (sender, receiver), unread in ends.unread.items():
                if unread > bound:
                    raise Violation(
                        f"{sender} sent {unread} bytes before {receiver} of {parties} asked; declared are "
                        f"{bound} for {trial.largest} ids",
                        trial.seed,
                    )
        if limit > bound:
            raise Violation(
                f"a party of {parties} asks for up to {limit} bytes at once, and {bound} are declared",
                trial.seed,
            )
    return f"{most} bytes at most, {bound} are declared for {trial.largest} ids"


def _bytes(trial: Trial, formula: str, *given: object) -> int:
    """What the protocol declares; Violation where that is no number of bytes."""
    try:
        declared = getattr(trial.psi, formula)(*given)
    except Exception as error:
        raise Violation(f"{formula} raised {told(error)}", trial.seed) from error
    if not isinstance(declared, Integral) or int(declared) < 0:
        raise Violation(f"{formula} returns {reprlib.repr(declared)}, no number of bytes", trial.seed)
    return int(declared)
