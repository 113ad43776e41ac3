"""Scalars of a run's training for TensorBoard, as each epoch ends, in an event file."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from parties.callbacks import Callback, Told
from parties.errors import ConfigError, StorageError
from protos.rounds import Progress, Traffic
from splitnn.epoch import Epoch

if TYPE_CHECKING:
    from parties.config import Config


class TensorBoard(Callback):
    """`run(callbacks=[TensorBoard("folder")])`; `close` it when the run is over.

    At every party how fast it is and the bytes on its wires; what depends on the label at the label holder
    only, as `Epoch.metrics` is empty elsewhere. A disk that fills up ends the curves and not the run.
    Raises ConfigError where tensorboard is not installed, StorageError where the folder cannot be made.
    """

    def __init__(self, folder: Path | str) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise ConfigError(
                "scalars for TensorBoard need the package tensorboard, which is not installed here: "
                "pip install 'vertical-parties[tensorboard]'"
            ) from error
        make: Any = SummaryWriter
        try:
            self._writer = make(str(folder))
        except OSError as error:
            raise StorageError(f"cannot write {folder}: {error.strerror}; choose another folder") from error
        self._traffic = Traffic(0, 0)
        self._steps, self._began = 0, time.monotonic()
        self._phase, self._full = "", False

    def progress(self, progress: Progress, traffic: Traffic) -> None:
        if progress.phase != self._phase:
            self._phase, self._steps, self._began = progress.phase, progress.done, time.monotonic()
        self._traffic = traffic

    def epoch(self, epoch: Epoch) -> None:
        now = time.monotonic()
        seconds = max(now - self._began, 1e-9)
        told = {_tag(name): value for name, value in epoch.metrics.items()}
        told |= {
            "speed/steps a second": (epoch.done - self._steps) / seconds,
            "speed/rows a second": epoch.rows / seconds,
            "traffic/bytes sent": self._traffic.sent,
            "traffic/bytes received": self._traffic.received,
        }
        self._steps, self._began = epoch.done, now
        self._written(lambda: [self._writer.add_scalar(tag, told[tag], epoch.epoch) for tag in told])

    def close(self) -> None:
        self._written(self._writer.close)

    def _written(self, write: Callable[[], object]) -> None:
        try:
            if not self._full:
                write()
        except OSError:
            self._full = True


def _tag(metric: str) -> str:
    """In which group of charts a figure of an epoch stands."""
    if metric == "train_loss":
        return "training/loss"
    told_of_leak = metric in ("sum_kl", "label_defence_strength") or "_leak" in metric
    return f"{'leak' if told_of_leak else 'validation'}/{metric}"


@contextmanager
def recorded(
    folder: Path | None, config: "Config", on_progress: Callable[[Progress, Traffic], None]
) -> Iterator[Callable[[Progress, Traffic], None]]:
    """The same, with scalars in a folder of its own within this one; None for none."""
    if folder is None:
        yield on_progress
        return
    board = TensorBoard(folder / f"{config.contract.name}-{config.name}-{datetime.now(UTC):%Y%m%d-%H%M%S}")
    told = Told([board])

    def both(progress: Progress, traffic: Traffic) -> None:
        on_progress(progress, traffic)
        told(progress, traffic)

    try:
        yield both
    finally:
        board.close()
