"""What can end training other than a peer's fault (those are `protos.rounds.RemoteProtocolError`)."""


class TrainingError(Exception):
    """Training cannot go on: the loss or a model diverged, or a part of the rows holds a single class.

    The text is one line: what, where, what to do. It never holds a value of a tensor.
    """


class LeakError(TrainingError):
    """An attack on a step's gradients tells more of the labels than the contract allows: none was sent."""
