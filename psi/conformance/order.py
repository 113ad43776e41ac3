"""The order of a party's rows (often one of sign-up, or of value) is nobody else's business."""

from __future__ import annotations

import math
import random
from collections import defaultdict
from typing import Final

import numpy as np
from numpy.typing import NDArray

from psi.conformance.play import Ends, Message
from psi.conformance.report import Violation
from psi.conformance.trial import NAMES, Bytes, Trial, intersection, named, populate
from psi.conformance.views import ELSEWHERE

RUNS: Final = 3
COMMON: Final = 32
OWN: Final = 24
PLACES: Final = 48
"""In a message, where it is damaged."""
SIGMAS: Final = 5.0


def order_of_rows(trial: Trial) -> str:
    """Neither the result, nor what a message does to it, nor the sizes of messages tell a party's order.

    The result: its order is uncorrelated with every party's rows. Messages: each is damaged at places from
    its beginning to its end and played to its receiver again. Which common id is lost then must not be
    correlated with where in the sender's rows it stands, nor whether damage at a place does anything with
    whether the sender's row at that place is common: so it is where elements go out unshuffled. Sizes: as for
    the same set in another order, under the same randomness. Correlations are of ranks (Spearman).
    """
    places = 0
    for parties in trial.parties(2, 3):
        results: dict[str, list[float]] = defaultdict(list)
        for run in range(RUNS):
            _, ends = _alignment(trial, parties, trial.seed * 1000 + run)
            for name, rows in ends.rows.items():
                results[name].append(_deviation(np.arange(len(rows)), rows))
        for name, deviations in results.items():
            if abs(sum(deviations)) > SIGMAS * math.sqrt(RUNS):
                raise Violation(
                    f"the result of {parties} parties follows the order of {name}'s rows", trial.seed
                )
        places += _messages(trial, parties)
        _sizes(trial, parties)
    tried = f"damage at {places} places in messages" if places else f"messages not tried: {ELSEWHERE}"
    return f"{RUNS} results of {COMMON} common ids; {tried}"


def _alignment(trial: Trial, parties: int, seed: int) -> tuple[list[Bytes], Ends]:
    holders = [2**parties - 1] * COMMON + [1 << party for party in range(parties)] * OWN
    sets = populate(holders, parties, random.Random(seed))
    return sets, trial.play(sets, seed)


def _messages(trial: Trial, parties: int) -> int:
    """Returns at how many places messages were damaged."""
    sets, ends = _alignment(trial, parties, trial.seed)
    common = intersection(sets)
    places = 0
    if not all(trial.repeats(sets, trial.seed, me, ends) for me in ends.rows):
        return 0
    seen: set[tuple[bool, bool, str]] = set()
    for index, message in enumerate(ends.transcript):
        role = message.sender == NAMES[0], message.receiver == NAMES[0], message.kind
        if role in seen:
            continue
        seen.add(role)
        sender = [row.tobytes() for row in sets[NAMES.index(message.sender)]]
        size = len(message.payload)
        effects = _effects(trial, sets, trial.seed, ends.transcript, index)
        lost = [(at, sender.index(one)) for at, _, one in effects if one is not None]
        touched = [(effect, sender[at * len(sender) // size] in common) for at, effect, _ in effects]
        for pairs in (lost, touched):
            if abs(_deviation(*np.array(pairs, np.int64).reshape(-1, 2).T)) > SIGMAS:
                raise Violation(
                    f"{message.receiver} of {parties} sees the order of {message.sender}'s rows in "
                    f"{message.kind!r}",
                    trial.seed,
                )
        places += len(effects)
    return places


def _effects(
    trial: Trial, sets: list[Bytes], seed: int, transcript: list[Message], index: int
) -> list[tuple[int, bool, bytes | None]]:
    """Damage one message at one place after the other, and play it to its receiver alone.

    Returns places, whether anything came of the damage, and the id that was lost if it was one alone. Empty
    where a few places show that it is all one where the damage is.
    """
    message = transcript[index]
    me, size = message.receiver, len(message.payload)
    own = sets[NAMES.index(me)]
    whole = set(named(own, trial.replay(sets, seed, me, transcript).rows[me]))

    def effect(at: int) -> tuple[int, bool, bytes | None]:
        damaged = bytearray(message.payload)
        damaged[at] ^= 1
        told = [*transcript[:index], message._replace(payload=bytes(damaged)), *transcript[index + 1 :]]
        ends = trial.replay(sets, seed, me, told)
        if me not in ends.rows:
            return at, True, None
        missing = whole - set(named(own, ends.rows[me]))
        return at, bool(missing), missing.pop() if len(missing) == 1 else None

    places = sorted({size * point // PLACES for point in range(PLACES)} if size else ())
    effects = {at: effect(at) for at in places[:: PLACES // 8]}
    if len({(touched, lost is None) for _, touched, lost in effects.values()}) < 2:
        return []
    return [effects.get(at) or effect(at) for at in places]


def _deviation(one: NDArray[np.int64], other: NDArray[np.int64]) -> float:
    """Spearman's rank correlation, in standard deviations from none. Of few values, or all equal: 0."""
    if len(one) < 8 or len(np.unique(one)) < 2 or len(np.unique(other)) < 2:
        return 0.0
    ranks = [np.unique(values, return_inverse=True)[1].astype(float) for values in (one, other)]
    return float(np.corrcoef(np.stack(ranks))[0, 1]) * math.sqrt(len(one) - 1)


def _sizes(trial: Trial, parties: int) -> None:
    draw = random.Random(trial.seed)
    sets = populate([2**parties - 1] * COMMON + [1] * OWN, parties, draw)
    permuted = [own[draw.sample(range(len(own)), len(own))] for own in sets]
    one, again, other = (
        [(m.sender, m.receiver, m.kind, len(m.payload)) for m in trial.play(each, trial.seed).transcript]
        for each in (sets, sets, permuted)
    )
    # A protocol with randomness of its own may vary in size; then nothing can be told from one run.
    if one == again != other:
        raise Violation(f"{parties} parties: messages' sizes change with the order of rows", trial.seed)
