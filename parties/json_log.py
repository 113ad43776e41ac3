"""`--log json`: each line on stderr is one JSON object, for service managers and collectors of logs.

`time`, `level` and `event` are in every line; the rest depends on the event. As everywhere: counts, times and
names of parties, files and columns, never an id, a label, a value or a key.
"""

import json
import os
import sys
import threading
import time
import warnings
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Final, Literal, Self, TextIO

from protos.rounds import Progress, Traffic
from splitnn.epoch import Epoch

EVERY: Final = 10.0
"""Seconds between the lines of one phase."""

Level = Literal["info", "warning", "error"]


def event(level: Level, name: str, **fields: object) -> None:
    """Write one line."""
    now = datetime.now(UTC).isoformat(timespec="milliseconds")
    sys.stderr.write(json.dumps({"time": now, "level": level, "event": name} | fields) + "\n")
    sys.stderr.flush()


class JsonLog:
    """In place of `parties.progress.Bars`: `with JsonLog() as log: ... log(progress, traffic)`."""

    def __init__(self) -> None:
        self._last: dict[str, Any] | None = None
        self._began = self._told = 0.0
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        os.environ["GRPC_VERBOSITY"] = (
            "NONE"  # its own lines are no JSON; what matters reaches us as an error
        )
        warnings.showwarning = _warning
        threading.excepthook = _thread_died
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._tell()

    def __call__(self, progress: Progress, traffic: Traffic) -> None:
        now = time.monotonic()
        with self._lock:
            if self._last is None or self._last["phase"] != progress.phase:
                self._tell_last()
                self._began = self._told = now
                event("info", "phase", phase=progress.phase)
                self._last = {"step": progress.done, "of": None}
            if progress.total:
                self._last |= {"step": progress.done, "of": progress.total}
            self._last |= {
                "phase": progress.phase,
                "seconds": round(now - self._began, 3),
                "bytes_sent": traffic.sent,
                "bytes_received": traffic.received,
            }
            if isinstance(progress, Epoch):
                verdict = {"judged": progress.judged, "improved": progress.improved}
                event("info", "epoch", epoch=progress.epoch, **verdict, **progress.metrics)
            if now - self._told > EVERY:
                self._told = now
                event("info", "progress", **self._last)

    def say(self, line: str) -> None:
        phase = {"phase": self._last["phase"]} if self._last else {}
        event("info", "message", **phase, message=line)

    def peer(self, name: str, there: bool) -> None:
        phase = {"phase": self._last["phase"]} if self._last else {}
        event("info" if there else "warning", "peer", **phase, peer=name, connected=there)

    def _tell(self) -> None:
        with self._lock:
            self._tell_last()

    def _tell_last(self) -> None:
        if self._last is not None:
            event("info", "progress", **self._last)


def _warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Where it was, and not what it says: a library's text may quote what it was given."""
    event("warning", "warning", category=category.__name__, at=f"{filename}:{lineno}")


def _thread_died(args: threading.ExceptHookArgs) -> None:
    event("error", "thread", thread=args.thread.name if args.thread else "", error=args.exc_type.__name__)
