"""The order of a party's rows (often one of sign-up, or of value) is nobody else's business."""

from __future__ import annotations

import math
import random
from typing import Final

import numpy as np
from numpy.typing import NDArray

from protos.rounds import RoundsError
from psi.conformance.play import Message
from psi.conformance.report import Violation
from psi.conformance.trial import NAMES, Bytes, Trial, named, populate

RUNS: Final = 3
IDS: Final = 48
"""Common ids."""
POINTS: Final = 48
SIGMAS: Final = 5.0


def order_of_rows(trial: Trial) -> str:
    """Neither the result, nor what a message does to it, nor the sizes of messages tell a party's order.

    The result: its order is uncorrelated with every party's rows. Messages: each is damaged at places from
    its beginning to its end and played to its receiver again; which common id is lost then must not be
    correlated with where in the sender's rows it stands (it is where elements go out unshuffled). Sizes: the
    same for the same set in another order, under the same randomness. Correlations are Spearman's.
    """
    places = 0
    for parties in trial.parties(2, 3):
        results = dict.fromkeys(NAMES[:parties], 0.0)
        messages: dict[tuple[str, str, str], list[float]] = {}
        for run in range(RUNS):
            seed = trial.seed * 1000 + run
            draw = random.Random(seed)
            everybody = 2**parties - 1
            sets = populate([everybody] * IDS + [1 << party for party in range(parties)] * 8, parties, draw)
            ends = trial.play(sets, seed)
            for name in results:
                results[name] += _z(np.arange(len(ends.rows[name])), ends.rows[name])
            for index, message in enumerate(ends.transcript):
                lost = _lost(trial, sets, seed, ends.transcript, index) if run < 2 else []
                if not lost:
                    continue
                rows = {row.tobytes(): place for place, row in enumerate(sets[NAMES.index(message.sender)])}
                z = _z(np.array([at for at, _ in lost]), np.array([rows[one] for _, one in lost]))
                messages.setdefault(message[:3], []).append(z)
                places += len(lost)
        for name, z in results.items():
            if abs(z) > SIGMAS * math.sqrt(RUNS):
                raise Violation(
                    f"the result of {parties} parties follows the order of {name}'s rows", trial.seed
                )
        for (sender, receiver, kind), every in messages.items():
            if abs(sum(every)) > SIGMAS * math.sqrt(len(every)):
                raise Violation(
                    f"{receiver} of {parties} sees the order of {sender}'s common rows in {kind!r}",
                    trial.seed,
                )
        _sizes(trial, parties)
    return f"{RUNS} results of {IDS} common ids; {places} places in messages whose damage loses one id"


def _lost(
    trial: Trial, sets: list[Bytes], seed: int, transcript: list[Message], index: int
) -> list[tuple[int, bytes]]:
    """Damage one message at one place after the other: (place, the one id that its receiver loses by it)."""
    message = transcript[index]
    me = message.receiver
    own = sets[NAMES.index(me)]
    whole: set[bytes] | None = None
    lost: list[tuple[int, bytes]] = []
    for at in sorted({len(message.payload) * point // POINTS for point in range(POINTS)}):
        if at >= len(message.payload):
            break
        damaged = bytearray(message.payload)
        damaged[at] ^= 1
        told = [*transcript[:index], message._replace(payload=bytes(damaged)), *transcript[index + 1 :]]
        ends = trial.replay(sets, seed, me, told)
        if me not in ends.rows:
            if isinstance(ends.errors[me], RoundsError) and not lost and at:
                return []  # it refuses damage, at the second place as at the first: nothing to see
            continue
        if whole is None:
            whole = set(named(own, trial.replay(sets, seed, me, transcript).rows[me]))
        missing = whole - set(named(own, ends.rows[me]))
        if len(missing) == 1:
            lost.append((at, missing.pop()))
    return lost


def _z(one: NDArray[np.int64], other: NDArray[np.int64]) -> float:
    """Spearman's rank correlation, in standard deviations from none."""
    if len(one) < 8:
        return 0.0
    ranks = np.stack([np.argsort(np.argsort(values)) for values in (one, other)]).astype(float)
    ranks -= ranks.mean(axis=1, keepdims=True)
    correlation = float(ranks[0] @ ranks[1]) / float(ranks[0] @ ranks[0])
    return correlation * math.sqrt(len(one) - 1)


def _sizes(trial: Trial, parties: int) -> None:
    draw = random.Random(trial.seed)
    sets = populate([2**parties - 1] * IDS + [1] * 8, parties, draw)
    permuted = [own[draw.sample(range(len(own)), len(own))] for own in sets]
    one, again, other = (
        [(m.sender, m.receiver, m.kind, len(m.payload)) for m in trial.play(each, trial.seed).transcript]
        for each in (sets, sets, permuted)
    )
    # A protocol with randomness of its own may vary in size; then nothing can be told from one run.
    if one == again != other:
        raise Violation(f"{parties} parties: messages' sizes change with the order of rows", trial.seed)
