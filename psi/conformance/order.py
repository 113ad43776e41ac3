"""The order of a party's rows (often one of sign-up, or of value) is nobody else's business."""

from __future__ import annotations

import math
import random
from collections import defaultdict
from typing import Final

import numpy as np
from numpy.typing import NDArray

from psi.conformance.play import Message
from psi.conformance.report import Violation
from psi.conformance.trial import NAMES, Bytes, Trial, intersection, named, populate

RUNS: Final = 3
COMMON: Final = 32
OWN: Final = 24
POINTS: Final = 48
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
        messages: dict[tuple[str, str, str, bool], list[float]] = defaultdict(list)
        for run in range(RUNS):
            seed = trial.seed * 1000 + run
            draw = random.Random(seed)
            holders = [2**parties - 1] * COMMON + [1 << party for party in range(parties)] * OWN
            sets = populate(holders, parties, draw)
            ends = trial.play(sets, seed)
            for name, rows in ends.rows.items():
                results[name].append(_deviation(np.arange(len(rows)), rows))
            for index, message in enumerate(ends.transcript if run < 2 else ()):
                effects = _effects(trial, sets, seed, ends.transcript, index)
                sender = [row.tobytes() for row in sets[NAMES.index(message.sender)]]
                lost = [(at, sender.index(one)) for at, _, one in effects if one is not None]
                messages[*message[:3], False].append(_deviation(*np.array(lost, np.int64).reshape(-1, 2).T))
                common = intersection(sets)
                size = len(message.payload)
                touched = [(effect, sender[at * len(sender) // size] in common) for at, effect, _ in effects]
                messages[*message[:3], True].append(_deviation(*np.array(touched, np.int64).reshape(-1, 2).T))
                places += len(effects)
        for name, deviations in results.items():
            if _far(deviations):
                raise Violation(
                    f"the result of {parties} parties follows the order of {name}'s rows", trial.seed
                )
        for (sender_name, receiver, kind, _), deviations in messages.items():
            if _far(deviations):
                raise Violation(
                    f"{receiver} of {parties} sees the order of {sender_name}'s rows in {kind!r}", trial.seed
                )
        _sizes(trial, parties)
    return f"{RUNS} results of {COMMON} common ids; damage at {places} places in messages"


def _effects(
    trial: Trial, sets: list[Bytes], seed: int, transcript: list[Message], index: int
) -> list[tuple[int, bool, bytes | None]]:
    """Damage one message at one place after the other, and play it to its receiver alone.

    Returns places, whether anything came of the damage, and the id that was lost if it was one alone. Empty
    for a message whose damage is always refused: there is nothing to see.
    """
    message = transcript[index]
    me, size = message.receiver, len(message.payload)
    own = sets[NAMES.index(me)]
    whole = set(named(own, trial.replay(sets, seed, me, transcript).rows[me]))
    effects: list[tuple[int, bool, bytes | None]] = []
    refused = 0
    for at in sorted({size * point // POINTS for point in range(POINTS)} if size else ()):
        damaged = bytearray(message.payload)
        damaged[at] ^= 1
        told = [*transcript[:index], message._replace(payload=bytes(damaged)), *transcript[index + 1 :]]
        ends = trial.replay(sets, seed, me, told)
        if me in ends.rows:
            missing = whole - set(named(own, ends.rows[me]))
            effects.append((at, bool(missing), missing.pop() if len(missing) == 1 else None))
            continue
        refused += 1
        effects.append((at, True, None))
        if refused == len(effects) == 10:
            return []
    return effects


def _deviation(one: NDArray[np.int64], other: NDArray[np.int64]) -> float:
    """Spearman's rank correlation, in standard deviations from none. Of few values, or all equal: 0."""
    if len(one) < 8 or len(np.unique(one)) < 2 or len(np.unique(other)) < 2:
        return 0.0
    ranks = [np.unique(values, return_inverse=True)[1].astype(float) for values in (one, other)]
    return float(np.corrcoef(np.stack(ranks))[0, 1]) * math.sqrt(len(one) - 1)


def _far(deviations: list[float]) -> bool:
    """Over several runs, as far from none as chance goes once in three million times."""
    return abs(sum(deviations)) > SIGMAS * math.sqrt(len(deviations))


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
