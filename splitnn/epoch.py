"""What a party's schedule tells of itself at the end of each epoch."""

from collections.abc import Mapping
from dataclasses import dataclass

from protos.rounds import Progress


@dataclass(frozen=True, slots=True)
class Epoch(Progress):
    """A `Progress` of training, so that every driver passes it on: this epoch, from 1, has ended.

    judged: by the label holder, on the validation rows. improved: so that these weights are the best so far.
    stops: so that it was the last. rows: that were trained on. metrics: the entry of
    `LabelHolderResult.history`; empty at a feature holder, which learns no more than the verdict.
    """

    epoch: int
    judged: bool
    improved: bool
    stops: bool
    rows: int
    metrics: Mapping[str, float]
