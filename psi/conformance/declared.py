"""What a protocol's class says of itself."""

from __future__ import annotations

import reprlib
from importlib.metadata import entry_points
from typing import Final

from psi.conformance.report import Violation
from psi.conformance.trial import NAMES, Trial
from psi.registry import GROUP

OURS: Final = "psi.protocols"
"""The module of the protocols that come with the program."""
WORDS: Final = ("name", "leakage", "cost", "maturity")


def declared_class(trial: Trial) -> str:
    """The members of `psi.Psi` are of their types, in lines that can be printed, and the name is its own."""
    psi, seed = trial.psi, trial.seed
    for member in WORDS:
        text = getattr(psi, member, None)
        if not isinstance(text, str) or not text or not text.isprintable():
            raise Violation(f"{member} is {reprlib.repr(text)}, not one line of text", seed)
    if not isinstance(psi.secure, bool):
        raise Violation(f"secure is {reprlib.repr(psi.secure)}, not True or False", seed)
    if not isinstance(psi.parties, range) or psi.parties.step != 1:
        raise Violation(f"parties is {reprlib.repr(psi.parties)}, not a range such as range(2, 3)", seed)
    if not any(count in psi.parties for count in range(2, len(NAMES) + 1)):
        raise Violation(f"parties is {psi.parties}, none of 2 to {len(NAMES)}, which are tried", seed)
    if type(psi).__module__ != OURS and entry_points(group=GROUP, module=OURS, name=psi.name):
        raise Violation(f"name is {psi.name!r}, as that of a protocol that comes with the program", seed)
    first, last = psi.parties[0], psi.parties[-1]
    return f"{psi.name}, for {first if first == last else f'{first} to {last}'} parties"
