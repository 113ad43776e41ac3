"""Will the certificate last as long as the training? How long that takes is known once it is under way."""

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Final

from parties.certs import Identity
from parties.cost import Clock
from parties.play import OnProgress
from protos.rounds import Progress, Traffic

AFTER: Final = 60.0
"""Seconds of training after which its pace is believed."""


def warning_of_expiry(
    on_progress: OnProgress,
    identity: Identity,
    say: Callable[[str], None],
    clock: Clock = time.monotonic,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> OnProgress:
    """The same, and once a line if the training would, at its pace and with all of its epochs, end after the
    certificate."""
    began: float | None = None
    first, told = 0, False

    def watched(progress: Progress, traffic: Traffic) -> None:
        nonlocal began, first, told
        if progress.phase == "training" and progress.total and not told:
            if began is None:
                began, first = clock(), progress.done  # a resumed training begins in the middle
            elif clock() - began >= AFTER and progress.done > first:
                told = True
                seconds = (clock() - began) / (progress.done - first) * (progress.total - progress.done)
                if now() + timedelta(seconds=min(seconds, 1e9)) > identity.not_after:
                    say(
                        f"{identity.certificate_file}: expires on {identity.not_after:%Y-%m-%d %H:%M} UTC, "
                        f"and training may take {seconds / 3600:,.1f} h more; a line that breaks after that "
                        "cannot be opened again: have a new one issued for the same key"
                    )
        on_progress(progress, traffic)

    return watched
