"""Attempts at a run: one after another, for as long as it is a peer started anew that ends them.

An attempt meets over a new link, with fresh keys, and goes on from what all parties have kept. So a process
that is killed and started again, by hand or by a service manager, is all that ever has to be started again.
"""

from collections.abc import Callable
from typing import Final, TypeVar

from protos.rounds import PeerRestarted

T = TypeVar("T")

IN_VAIN: Final = 10
"""Attempts in a row that leave no more than was there before any of them; then something kills a peer each
time, or a peer makes all others begin anew for ever."""


class Tried:
    """before: what the first attempt goes on with, in words."""

    def __init__(self, before: str) -> None:
        self._seen, self._in_vain = {before}, 0

    def again(self, now: str) -> bool:
        """A peer was started anew, and this is kept now: is another attempt worth it?"""
        self._in_vain = self._in_vain + 1 if now in self._seen else 0
        self._seen.add(now)
        return self._in_vain < IN_VAIN


def attempts(attempt: Callable[[], T], before: str, kept: Callable[[], str], say: Callable[[str], None]) -> T:
    """The first result. before, kept: what an attempt would go on with, in words; at first, and after each.
    say: told of each further attempt.

    Raises what an attempt raises; PeerRestarted only after IN_VAIN of them.
    """
    tried = Tried(before)
    while True:
        try:
            return attempt()
        except PeerRestarted as error:
            if not tried.again(kept()):
                raise
            say(f"{error.peer} was started anew during {error.phase}; meeting again")
