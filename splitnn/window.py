"""The arithmetic of the `pipelined` schedule: what is sent, and judged, after which step."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, islice

from torch import Tensor

from splitnn.crossing import Crossing
from splitnn.errors import TrainingError
from splitnn.evaluation import most_bytes_unscored
from splitnn.plan import Plan
from splitnn.schedule import Split, batches, chunks, steps_an_epoch

MOST_UNANSWERED = 1 << 29
"""Bytes: half of the most for which a link makes room."""


@dataclass(frozen=True)
class Window:
    """Steps and epochs count from 1. in_flight: at most an epoch's steps. steps: the last that may come."""

    in_flight: int
    epoch_steps: int
    steps: int

    @classmethod
    def of(cls, plan: Plan, rows: Split) -> "Window":
        """Raises TrainingError where more would wait at the label holder than its link takes."""
        if most_bytes_unanswered(plan, rows) > MOST_UNANSWERED:
            raise TrainingError(
                f"{len(rows.validation)} validation rows and {plan.in_flight} batches in flight are too much "
                "to wait at the label holder: lower evaluation.validation or training.in_flight in run.toml"
            )
        epoch_steps = steps_an_epoch(len(rows.train), plan.batch)
        return cls(_in_flight(plan, rows), epoch_steps, plan.epochs * epoch_steps)

    def judged_after(self, epoch: int) -> int:
        """The step after which the verdict on an epoch comes; 0 for epoch 0, before any."""
        return min(epoch * self.epoch_steps + self.in_flight - 1, self.steps) if epoch else 0

    def sent_after(self, step: int) -> int:
        """The last batch whose activation is sent once this step has been taken."""
        return min(step + self.in_flight, self.steps)


def most_bytes_unanswered(plan: Plan, rows: Split) -> int:
    """The most bytes a party sends to another before it waits: a feature holder a window of batches and a
    validation part, the label holder the gradients of a window."""
    in_flight = _in_flight(plan, rows)
    crossing = Crossing(plan.codec, plan.cut, b"", "")
    size = crossing.activation_size
    validation, batch = (
        sum(size(len(chunk)) for chunk in chunks(rows.validation)),
        min(plan.batch, len(rows.train)),
    )
    return max(
        in_flight * size(batch) + validation,
        in_flight * crossing.gradient_size(batch),
        most_bytes_unscored(crossing, rows.test),
    )


def training_batches(plan: Plan, rows: Split, done: int) -> Iterator[Tensor]:
    """The batches after the first `done`, over all epochs: positions in the training part, as in `exact`."""
    epoch_steps = steps_an_epoch(len(rows.train), plan.batch)
    first = done // epoch_steps
    orders = (batches(len(rows.train), plan.batch, plan.seed, epoch) for epoch in range(first, plan.epochs))
    return islice(chain.from_iterable(orders), done - first * epoch_steps, None)


def _in_flight(plan: Plan, rows: Split) -> int:
    """fedbcd's activations are by the weights after all local steps, so one batch is under way."""
    return (
        1 if plan.schedule == "fedbcd" else min(plan.in_flight, steps_an_epoch(len(rows.train), plan.batch))
    )
