"""The bounds of the link."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from parties.errors import ConfigError
from protos.line import CHUNK

BEAT: Final = 1.0
"""Seconds between heartbeats: every frame shows life and acknowledges, a heartbeat does nothing else."""

FAREWELL: Final = 2.0
"""Seconds that a party which gives up waits until its peers have been told."""

MOST_ROOM: Final = 1 << 30
"""Bytes: a contract for which more would have to wait unread is refused."""


@dataclass(frozen=True)
class Limits:
    """Raises ConfigError for values that cannot work together; all faults at once."""

    window: int = 32 << 20
    """Bytes sent and not yet acknowledged on one line, after which a `Send` waits. The same at all parties:
    a receiver acknowledges at every eighth of its own (and at every heartbeat)."""

    inbox: int = 64 << 20
    """Bytes from one sender that may wait here unread; more is a RemoteProtocolError. By default more than
    any intersection here needs (44 MB a bucket of 2^20 ids); a run has what its contract needs:
    `parties.room`."""

    silence: float = 10.0
    """Seconds without any frame, heartbeats included, after which a peer counts as cut off."""

    away: float = 60.0
    """Seconds in which a peer that was cut off, or died, may come back; then it has failed."""

    progress: float = 600.0
    """Seconds that a peer which is alive may take for its next message, where the protocol does not say."""

    def __post_init__(self) -> None:
        faults = []
        if self.window < CHUNK:
            faults.append(f"window: must be at least one chunk, {CHUNK} bytes")
        if self.inbox < self.window:
            faults.append("inbox: must be at least the window")
        faults += [
            f"{key}: {fault}" for key, fault in faults_of_times(self.silence, self.away, self.progress)
        ]
        if faults:
            raise ConfigError("; ".join(faults))


def faults_of_times(silence: float, away: float, progress: float) -> Iterator[tuple[str, str]]:
    """Which of them cannot work, and why."""
    if silence < 3 * BEAT:
        yield "silence", f"must be at least three heartbeats, {3 * BEAT:g} seconds"
    if away <= 0:
        yield "away", "must be greater than 0"
    if progress < silence + away:
        yield (
            "progress",
            "must be at least silence and away together, so that a peer cut off is named as such",
        )
