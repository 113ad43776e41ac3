"""Progress on the terminal: a bar a phase on stderr, or lines where stderr is no terminal."""

import time
from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    ProgressColumn,
    Task,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as Display
from rich.table import Column
from rich.text import Text

from protos.rounds import Progress, Traffic
from splitnn.epoch import Epoch

EVERY = 10.0
"""Seconds between the lines of one phase, where stderr is no terminal."""


WORDS = {
    "handshake": "meeting the others",
    "terms": "agreeing how to align",
    "psi": "finding common users",
    "the end": "ending",
}
"""What people call phases whose names are the protocol's."""

OTHERS = 44
"""Characters that a line takes beside its name, count, rate and what `More` shows: the bar, a percentage, two
times, and a space between each."""


class More(ProgressColumn):
    """Of `more`, a task's further parts, as many as the terminal is wide enough for, the first ones first."""

    def __init__(self, console: Console) -> None:
        super().__init__(Column(no_wrap=True))
        self._console, self._others = console, 0

    def render(self, task: Task) -> Text:
        count = len(f"{task.completed:.0f}") + len(f"{task.total or 0:.0f}") + 1
        own = OTHERS + len(task.description) + count + len(task.fields["rate"])
        self._others = max(self._others, own)  # columns are as wide as their widest line
        told = ""
        for part in task.fields["more"]:
            longer = f"{told}, {part}" if told else part
            if len(longer) <= self._console.width - self._others:
                told = longer
        return Text(told)


class Bars:
    """`with Bars() as report: ... report(progress, traffic)`; one bar, or line, of each phase stays."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True)
        self._display = Display(
            TextColumn("{task.description:<12}", table_column=Column()),
            BarColumn(bar_width=10),
            MofNCompleteColumn(table_column=Column(no_wrap=True)),
            TaskProgressColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeElapsedColumn(table_column=Column(no_wrap=True)),
            TextColumn("left"),
            TimeRemainingColumn(table_column=Column(no_wrap=True)),
            More(self._console),
            console=self._console,
            disable=not self._console.is_terminal,
        )
        self._phase: str | None = None
        self._task = TaskID(0)
        self._began = self._told = 0.0
        self._epoch_began = 0.0
        self._first = 0
        self._count = self._last = self._shown = self._epoch = self._rows = self._judged = ""

    def __enter__(self) -> "Bars":
        self._display.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._leave()
        self._display.stop()

    def __call__(self, progress: Progress, traffic: Traffic) -> None:
        now = time.monotonic()
        if progress.phase != self._phase:
            self._leave()
            self._phase = progress.phase
            self._began = self._told = self._epoch_began = now
            self._first = progress.done
            self._task = self._display.add_task(_named(progress.phase), total=None, rate="", more=())
            self._count = self._epoch = self._rows = ""
        seconds = now - self._began
        if isinstance(progress, Epoch):
            self._note(progress, now)
        bytes_so_far = f"{traffic.sent / 1e6:,.1f} MB out, {traffic.received / 1e6:,.1f} MB in"
        bytes_so_far = bytes_so_far if any(traffic) else ""
        more = self._rows, self._epoch, self._judged if self._epoch else "", bytes_so_far
        self._display.update(self._task, more=[part for part in more if part])
        if progress.total or progress.done:
            steps = progress.done - self._first  # an interrupted run goes on, and was no faster for it
            rate = f"{steps / seconds:,.0f}/s" if steps and seconds > 0.1 else ""
            self._display.update(self._task, completed=progress.done, total=progress.total or None, rate=rate)
            self._count = f"{progress.done:,}{f' of {progress.total:,}' if progress.total else ''}, "
        parts = f"{seconds:.1f} s", self._rows, bytes_so_far, self._epoch, more[2]
        self._last = f"{_named(progress.phase)}: {self._count}{', '.join(part for part in parts if part)}"
        if now - self._told > EVERY:
            self._tell()

    def _note(self, epoch: Epoch, now: float) -> None:
        """How fast it was, and, at the label holder, the newest figure that decides which is best."""
        if now > self._epoch_began:
            self._rows = f"{epoch.rows / (now - self._epoch_began):,.0f} rows/s"
        self._epoch_began = now
        if epoch.judged and epoch.metrics:
            metric, value = [*epoch.metrics.items()][-1]
            self._judged = f"validation {metric} {value:.4f}"
        self._epoch = f"epoch {epoch.epoch}"

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


def _named(phase: str) -> str:
    return WORDS.get(phase, phase)
