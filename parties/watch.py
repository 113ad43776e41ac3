"""What a party's process is doing, for whoever looks at it from outside: `party status`, metrics, logs.

One thread looks once a second at what the run has told and at the link, and writes
storage/<party>.status.json, whole or not at all. It holds counts, times and names of parties, nothing else.
"""

import json
import os
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, TypeAlias

from parties.config import Config
from parties.errors import exit_code
from parties.link import Link
from parties.play import OnProgress
from parties.seen import Seen
from parties.storage import DRAFT
from protos.rounds import Progress, Traffic

OnPeer: TypeAlias = Callable[[str, bool], None]

EVERY: Final = 1.0
"""Seconds from one look to the next."""


@dataclass(frozen=True)
class Now:
    """One look. peers: by the names of those to whom we have a line of our own."""

    phase: str = "starting"
    phase_began: float = 0.0
    step: int = 0
    of: int = 0
    checkpoints: int = 0
    checkpoint_seconds: float = 0.0
    peers: dict[str, Seen] = field(default_factory=dict)


class Watch:
    """`with Watch(config, "run") as watch:` while the process works. on_peer: told a peer's name, and whether
    it is there."""

    def __init__(self, config: Config, command: str, on_peer: OnPeer = lambda peer, there: None) -> None:
        self._config, self._command, self._on_peer = config, command, on_peer
        self._file = status_file(config)
        self._began = time.time()
        self._lock = threading.Lock()
        self._now = Now(phase_began=self._began)
        self._link: Link | None = None
        self._before: dict[str, Seen] = {}  # what earlier links of this process counted
        self._there: dict[str, bool] = {}
        self._end: dict[str, Any] | None = None
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._look_and_write, name="status", daemon=True)
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        if self._config.party.metrics.listen is not None:
            from parties.metrics import serving  # prometheus_client: only who asks for it pays for it

            self._stack.enter_context(serving(self, self._config))
        self._write()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.set()
        self._thread.join(EVERY)
        self._end = _end_of(error)
        self._write()
        self._stack.close()

    # ---- what the run tells ---------------------------------------------------------------------------

    def linked(self, link: Link) -> None:
        """From here on this is the link; after a restart of a peer there may be another."""
        with self._lock:
            self._before = self._now_peers()
            self._link = link

    def over(self, on_progress: OnProgress) -> OnProgress:
        """The same, and noted here."""

        def told(progress: Progress, traffic: Traffic) -> None:
            with self._lock:
                now = self._now
                began = now.phase_began if progress.phase == now.phase else time.time()
                self._now = replace(
                    now, phase=progress.phase, phase_began=began, step=progress.done, of=progress.total
                )
            on_progress(progress, traffic)

        return told

    def checkpoint(self, seconds: float) -> None:
        """One more was written, in so many seconds."""
        with self._lock:
            now = self._now
            self._now = replace(
                now,
                checkpoints=now.checkpoints + 1,
                checkpoint_seconds=now.checkpoint_seconds + seconds,
            )

    # ---- what is looked at ----------------------------------------------------------------------------

    def now(self) -> Now:
        with self._lock:
            return replace(self._now, peers=self._now_peers())

    def _now_peers(self) -> dict[str, Seen]:
        seen = self._link.peers_seen() if self._link is not None else {}
        none = Seen(False, 0.0)
        return {
            peer: seen.get(peer, none).after(self._before.get(peer, none))
            for peer in {**self._before, **seen}
        }

    def _look_and_write(self) -> None:
        while not self._closing.wait(EVERY):
            self._write()
            self._look()

    def _look(self) -> None:
        for peer, seen in self.now().peers.items():
            if self._there.get(peer) != seen.there:
                self._there[peer] = seen.there
                self._on_peer(peer, seen.there)

    def _write(self) -> None:
        """Best effort: a full disk must not end a run for its status' sake."""
        draft = self._file.with_name(f".{self._file.name}.{os.getpid()}.partial")
        with suppress(OSError):
            with open(os.open(draft, DRAFT, 0o600), "w") as out:
                json.dump(self._status(), out, indent=1)
            draft.replace(self._file)

    def _status(self) -> dict[str, Any]:
        now, wall = self.now(), time.time()
        return {
            "party": self._config.name,
            "role": self._config.role,
            "contract": self._config.contract.digest.hex(),
            "command": self._command,
            "pid": os.getpid(),
            "began": _iso(self._began),
            "updated": _iso(wall),
            "phase": now.phase,
            "phase_began": _iso(now.phase_began),
            "step": now.step,
            "of": now.of,
            "bytes_sent": sum(seen.sent for seen in now.peers.values()),
            "bytes_received": sum(seen.received for seen in now.peers.values()),
            "peers": {
                peer: {
                    "connected": seen.there,
                    "last_seen": _iso(wall - seen.quiet),
                    "bytes_sent": seen.sent,
                    "bytes_received": seen.received,
                    "reconnects": seen.reconnects,
                    "resent": seen.resent,
                }
                for peer, seen in now.peers.items()
            },
            "checkpoints": now.checkpoints,
            "end": self._end,
        }


def status_file(config: Config) -> Path:
    return config.party.storage / f"{config.name}.status.json"


def _end_of(error: BaseException | None) -> dict[str, Any]:
    """How it ended; of an unforeseen error no word, which might quote data."""
    if error is None:
        return {"exit_code": 0}
    code = exit_code(error)
    message = {} if code == 1 else {"message": str(error)}
    return {"exit_code": code, "class": type(error).__name__} | message


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
