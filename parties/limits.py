"""The bounds of the link."""

from dataclasses import dataclass
from typing import Final

from parties.errors import ConfigError
from protos.line import CHUNK

BEAT: Final = 1.0
"""Seconds between heartbeats: every frame shows life and acknowledges, a heartbeat does nothing else."""

FAREWELL: Final = 2.0
"""Seconds that a party which gives up waits until its peers have been told."""


@dataclass(frozen=True)
class Limits:
    """Raises ConfigError for values that cannot work together; all faults at once."""

    window: int = 32 << 20
    """Bytes sent and not yet acknowledged on one line, after which a `Send` waits. The same at all parties:
    a receiver acknowledges at every eighth of its own (and at every heartbeat)."""

    inbox: int = 1 << 30
    """Bytes from one sender that may wait here unread; more is a RemoteProtocolError."""

    silence: float = 10.0
    """Seconds without any frame, heartbeats included, after which a peer counts as failed."""

    progress: float = 600.0
    """Seconds that a peer which is alive may take for its next message, where the protocol does not say."""

    def __post_init__(self) -> None:
        faults = []
        if self.window < CHUNK:
            faults.append(f"window: must be at least one chunk, {CHUNK} bytes")
        if self.inbox < self.window:
            faults.append("inbox: must be at least the window")
        if self.silence < 3 * BEAT:
            faults.append(f"silence: must be at least three heartbeats, {3 * BEAT:g} seconds")
        if self.progress < self.silence:
            faults.append("progress: must be at least the silence")
        if faults:
            raise ConfigError("; ".join(faults))
