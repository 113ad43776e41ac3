"""What the parties have of an unfinished run, as their hellos tell it."""

from collections.abc import Collection
from typing import NamedTuple

from protos.party_pb2 import Hello

STEPS_AT_MOST = 8
"""Checkpoints in a hello."""


class Previous(NamedTuple):
    """What a party, or all of them, have of an unfinished run. The default is nothing.

    run: its id. aligned: the whole alignment is there. steps: rising, epochs that have a checkpoint.
    """

    run: bytes = b""
    aligned: bool = False
    steps: tuple[int, ...] = ()

    @property
    def newest(self) -> int:
        """The epoch of the newest checkpoint; 0 if there is none."""
        return self.steps[-1] if self.steps else 0


NOTHING = Previous()


def told(hello: Hello) -> Previous | None:
    """What a hello says; None if it cannot be."""
    said = Previous(hello.previous, hello.aligned, tuple(hello.steps))
    if list(said.steps) != sorted({*said.steps} - {0}) or len(said.steps) > STEPS_AT_MOST:
        return None
    return said if len(said.run) == 32 or said == NOTHING else None


def common(hellos: Collection[Hello]) -> Previous:
    """What all parties have of the one run that they all could go on with; nothing where it is not one.

    Of their checkpoints the newest that all have.
    """
    runs = {hello.previous for hello in hellos}
    if len(runs) > 1 or runs == {b""}:
        return NOTHING
    steps = set.intersection(*({*hello.steps} for hello in hellos))
    return Previous(runs.pop(), all(hello.aligned for hello in hellos), (max(steps),) if steps else ())
