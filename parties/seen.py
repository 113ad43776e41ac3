"""What one end of a line has seen of the other, in numbers: for `party status` and metrics."""

from typing import NamedTuple


class Seen(NamedTuple):
    """there: is there a stream? quiet: seconds since anything came. sent, received: bytes of frames.
    posted, taken: chunks of messages. reconnects: streams after the first. resent: frames sent once more.
    """

    there: bool
    quiet: float
    sent: int = 0
    received: int = 0
    posted: int = 0
    taken: int = 0
    reconnects: int = 0
    resent: int = 0

    def after(self, before: "Seen") -> "Seen":
        """The same, and what an earlier link counted."""
        counts = (mine + earlier for mine, earlier in zip(self[2:], before[2:], strict=True))
        return Seen(self.there, self.quiet, *counts)
