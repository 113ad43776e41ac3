"""What an offline attack on a finished run came to, for people and for machines."""

import math
from dataclasses import dataclass
from typing import Any, Final

from splitnn.spread import Estimate

MARGIN: Final = 0.01
"""A leak is what surely tells more than this beyond the baseline, in AUC or in R2."""
USERS: Final = 20_000
"""Common users, at most: more make the figures hardly surer."""


@dataclass(frozen=True)
class Audited:
    """For people: lines. For machines: record. The last line is `verdict` there."""

    lines: list[str]
    record: dict[str, Any]


def state_of(gain: Estimate) -> str:
    """In a word, what a gain over the baseline says."""
    if gain.low > MARGIN:
        return "leaks"
    return "no leak" if gain.high < MARGIN else "not decided"


def numbers(estimate: Estimate) -> dict[str, float | None]:
    """As JSON has it; null where there was nothing to measure."""
    found = estimate._asdict().items()
    return {name: round(value, 6) if math.isfinite(value) else None for name, value in found}


def shown(estimate: Estimate) -> str:
    return f"{estimate.mean:.3f} ({estimate.low:.3f} to {estimate.high:.3f})"
