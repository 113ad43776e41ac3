"""Every decoder under a moment's fuzzing: bytes are taken, or refused by the documented error.

`make fuzz` gives each as long as one likes, with coverage as its guide.
"""

from functools import cache

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz.targets import TARGETS, Target

COSTLY = {"psi-rr22": 12, "psi-ecdh": 25, "psi-dh": 25} | {name: 8 for name in TARGETS if "train" in name}
"""Inputs for targets of which one takes long; 50 for the others."""


@cache
def made(name: str) -> Target:
    return TARGETS[name]()


@st.composite
def damaged(draw: st.DrawFn, target: Target) -> bytes:
    """One of the corpus with a few bytes changed or cut, or any bytes."""
    if draw(st.booleans()):
        return draw(st.binary(max_size=80))
    data = bytearray(draw(st.sampled_from(target.corpus)))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(data)))
        data[at : at + draw(st.integers(0, 2))] = draw(st.binary(max_size=3))
    return bytes(data)


@pytest.mark.parametrize("name", TARGETS)
def test_bytes_are_taken_or_refused_by_the_documented_error(name: str) -> None:
    target = made(name)
    for data in target.corpus[:4]:
        target.hear(data)  # a run with nothing changed is among them

    @settings(
        max_examples=COSTLY.get(name, 50),
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )
    @given(damaged(target))
    def fuzz(data: bytes) -> None:
        target.hear(data)

    fuzz()
