"""What a party can find out afterwards, from the messages it received and the randomness it drew.

Both tests run the protocol's own code as the attacker's tool, so they need no knowledge of it: a recorded
run is played to a party again with something changed, and its result must not tell what was secret.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterable
from typing import Final

import numpy as np

from psi.conformance.play import Ends, Message, Post
from psi.conformance.report import DoesNotApply, Violation
from psi.conformance.trial import NAMES, Bytes, Trial, ids, named

COMMON: Final = 16
SECRET: Final = 64
ELSEWHERE: Final = (
    "the protocol draws randomness beside Setting.random, so no recorded run can be played again"
)
SIGMAS: Final = 5.0
"""How far from chance a count must be to count as a leak; chance goes so far once in three million times."""


def no_guessing(trial: Trial) -> str:
    """A recorded run is no dictionary: other ids, put in afterwards, match nothing.

    The attacker runs its own side again, with the messages and randomness of the run, but with guesses in
    place of its own ids. Guesses that all others hold must not come out more often than such that nobody
    holds: else whoever can list likely ids reads the others' sets at leisure, and no cap on sizes helps.
    """
    repeats = True
    for parties in trial.parties(2, 3):
        for mine, me in enumerate(NAMES[:parties]):
            draw = random.Random(trial.seed)
            common, secret, nobodys = ids(COMMON, draw), ids(SECRET, draw), ids(SECRET, draw)
            sets = [_shuffled(draw, common, secret, ids(SECRET, draw)) for _ in range(parties)]
            sets[mine] = _shuffled(draw, common, ids(2 * SECRET, draw))
            recorded = trial.play(sets, trial.seed)
            repeats &= trial.repeats(sets, trial.seed, me, recorded)
            sets[mine] = _shuffled(draw, common, secret, nobodys)
            again = trial.replay(sets, trial.seed, me, recorded.transcript)
            held, unheld = _hits(again, me, sets[mine], secret), _hits(again, me, sets[mine], nobodys)
            if _apart(held, unheld):
                raise Violation(
                    f"{me} of {parties} tests ids that it did not bring, from one recorded run: it finds "
                    f"{held} of {SECRET} that the others hold, and {unheld} that nobody holds",
                    trial.seed,
                )
    if not repeats:
        raise DoesNotApply(ELSEWHERE)
    return f"{SECRET} guesses that others hold and {SECRET} that nobody holds, at every party"


def no_pairwise(trial: Trial) -> str:
    """Nobody can tell which of its ids one other party holds that not all hold.

    The attacker plays the run again: with what one party sent to it in the recorded run, and all others
    (the same party towards them included) made up to hold everything that the attacker has. If the ids that
    only the one holds come out more often than those that nobody holds, the pairwise intersection was there
    to be read.
    """
    trial.parties(3)
    repeats = True
    for me in NAMES[:3]:
        for target in NAMES[:3]:
            if me == target:
                continue
            draw = random.Random(trial.seed)
            common, secret, nobodys = ids(COMMON, draw), ids(SECRET, draw), ids(SECRET, draw)
            own = _shuffled(draw, common, secret, nobodys)
            sets = [_shuffled(draw, common, ids(2 * SECRET, draw)) for _ in range(3)]
            sets[NAMES.index(target)] = _shuffled(draw, common, secret, ids(SECRET, draw))
            sets[NAMES.index(me)] = own
            recorded = trial.play(sets, trial.seed)
            repeats &= trial.repeats(sets, trial.seed, me, recorded)
            sets = [own if name == me else _shuffled(draw, own) for name in NAMES[:3]]
            others = {name: trial.seed + 1 for name in NAMES[:3] if name != me}
            again = trial.play(sets, trial.seed, _instead(recorded.transcript, target, me), streams=others)
            held, unheld = _hits(again, me, own, secret), _hits(again, me, own, nobodys)
            if _apart(held, unheld):
                raise Violation(
                    f"{me} finds {held} of {SECRET} ids that only {target} shares with it, and {unheld} that "
                    "nobody does",
                    trial.seed,
                )
    if not repeats:
        raise DoesNotApply(ELSEWHERE)
    return f"{SECRET} ids that one other party holds and {SECRET} that none holds, for each two of 3 parties"


def _instead(transcript: Iterable[Message], sender: str, receiver: str) -> Post:
    """A post that delivers, between these two, what was sent in another run."""
    old = iter([one for one in transcript if (one.sender, one.receiver) == (sender, receiver)])

    def post(message: Message) -> Iterable[Message]:
        if (message.sender, message.receiver) != (sender, receiver):
            return (message,)
        replayed = next(old, None)
        return () if replayed is None else (replayed,)

    return post


def _shuffled(draw: random.Random, *parts: Bytes) -> Bytes:
    whole = np.concatenate(parts)
    return whole[draw.sample(range(len(whole)), len(whole))]


def _hits(ends: Ends, me: str, own: Bytes, wanted: Bytes) -> int:
    found = set(named(own, ends.rows[me])) if me in ends.rows else set()
    return sum(row.tobytes() in found for row in wanted)


def _apart(held: int, unheld: int) -> bool:
    return abs(held - unheld) > SIGMAS * math.sqrt(held + unheld)
