"""Progress on the terminal: a bar a phase on stderr, or lines where stderr is no terminal."""

import time
from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as Display

from protos.rounds import Progress, Traffic

EVERY = 10.0
"""Seconds between the lines of one phase, where stderr is no terminal."""


class Bars:
    """`with Bars() as report: ... report(progress, traffic)`; one bar, or line, of each phase stays."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True)
        self._display = Display(
            TextColumn("{task.description:<12}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[traffic]}"),
            console=self._console,
            disable=not self._console.is_terminal,
        )
        self._phase: str | None = None
        self._task = TaskID(0)
        self._began = self._told = 0.0
        self._count = self._last = self._shown = ""

    def __enter__(self) -> "Bars":
        self._display.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._leave()
        self._display.stop()

    def __call__(self, progress: Progress, traffic: Traffic) -> None:
        if progress.phase != self._phase:
            self._leave()
            self._phase = progress.phase
            self._began = self._told = time.monotonic()
            self._task = self._display.add_task(progress.phase, total=None, rate="", traffic="")
            self._count = ""
        seconds = time.monotonic() - self._began
        bytes_so_far = f"{traffic.sent / 1e6:,.1f} MB out, {traffic.received / 1e6:,.1f} MB in"
        bytes_so_far = bytes_so_far if any(traffic) else ""
        self._display.update(self._task, traffic=bytes_so_far)
        if progress.total or progress.done:
            rate = f"{progress.done / seconds:,.0f}/s" if progress.done and seconds > 0.1 else ""
            self._display.update(self._task, completed=progress.done, total=progress.total or None, rate=rate)
            self._count = f"{progress.done:,}{f' of {progress.total:,}' if progress.total else ''}, "
        self._last = f"{progress.phase}: {self._count}{seconds:.1f} s, {bytes_so_far}".rstrip(", ")
        if time.monotonic() - self._told > EVERY:
            self._tell()

    def say(self, line: str) -> None:
        """A line that stays."""
        if self._phase is not None:
            self._tell()
        self._console.print(line, highlight=False, markup=False, soft_wrap=True)

    def peer(self, name: str, there: bool) -> None:
        """The link itself says that, in words."""

    def _leave(self) -> None:
        if self._phase is not None:
            self._tell()
            done = max(self._display.tasks[-1].completed, 1)
            self._display.update(self._task, completed=done, total=done)

    def _tell(self) -> None:
        self._told = time.monotonic()
        if not self._console.is_terminal and self._last != self._shown:
            self._shown = self._last
            self._console.print(self._last, highlight=False, markup=False, soft_wrap=True)
