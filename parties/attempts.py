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


def attempts(attempt: Callable[[], T], kept: Callable[[], str], say: Callable[[str], None]) -> T:
    """The first result. kept: what an attempt would go on with, in words. say: told of each further attempt.

    Raises what an attempt raises; PeerRestarted only after IN_VAIN of them.
    """
    seen, in_vain = {kept()}, 0
    while True:
        try:
            return attempt()
        except PeerRestarted as error:
            now = kept()
            in_vain = in_vain + 1 if now in seen else 0
            if in_vain == IN_VAIN:
                raise
            seen.add(now)
            say(f"{error.peer} was started anew during {error.phase}; meeting again")
