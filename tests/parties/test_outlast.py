"""A training that would outlast the certificate is told of, once, when its pace is known."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from parties.certs import Identity
from parties.outlast import AFTER, warning_of_expiry
from protos.rounds import Progress, Traffic

NOW = datetime(2026, 11, 21, tzinfo=UTC)


@pytest.mark.parametrize("resumed", [0, 500])
@pytest.mark.parametrize(("lasts", "lines"), [(90, 0), (60, 1)])
def test_at_its_pace(identities: dict[str, Identity], resumed: int, lasts: int, lines: int) -> None:
    """A step a second; 5,000 to go, so 83 minutes."""
    own = replace(identities["logistics"], not_after=NOW + timedelta(minutes=lasts))
    time, said, passed = 1000.0, list[str](), list[int]()
    on_progress = warning_of_expiry(
        lambda progress, traffic: passed.append(progress.done),
        own,
        said.append,
        lambda: time,
        lambda: NOW + timedelta(seconds=time - 1000.0),
    )
    on_progress(Progress("psi", 1, 2), Traffic(0, 0))
    for step in range(int(AFTER) + 20):
        on_progress(Progress("training", resumed + step, resumed + 5000), Traffic(0, 0))
        time += 1.0
        assert not said or step >= AFTER
    assert len(said) == lines
    assert len(passed) == int(AFTER) + 21
    if lines:
        assert "expires on 2026-11-21 01:00 UTC, and training may take 1.4 h more" in said[0]
