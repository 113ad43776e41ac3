"""What can end training other than a peer's fault (those are `protos.rounds.RemoteProtocolError`)."""


class TrainingError(Exception):
    """Training cannot go on: the loss or a model diverged, or a part of the rows holds a single class (or
    number). The line names the step; the others end with 8, and all keep the best weights so far
    (docs/summary.md).

    The text is one line: what, where, what to do. It never holds a value of a tensor.
    """


class LeakError(TrainingError):
    """`privacy.max_label_leak`: the gradients of a step tell too much of the labels, and were not sent. The
    line names the step, the attack and its AUC, at the label holder alone; the others end with 8, and all
    keep the best weights so far (docs/summary.md)."""
