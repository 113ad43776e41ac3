"""What the leader of the star computes of each client's hint tells nothing of who holds which id.

The only property that looks inside: at `psi.star`, for the protocols that run an engine of theirs in it.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from protos.rounds import Rounds
from psi import okvs, star
from psi.conformance.play import Ends, play
from psi.conformance.report import DoesNotApply, Violation
from psi.conformance.trial import NAMES, Bytes, Trial, populate, stream
from psi.interface import Engine, Setting

RUNS: Final = 4
IDS: Final = 1 << 12
"""Of the leader, in each run: held by b only, by c only, and by nobody else."""
WITHIN: Final = 0.02
"""Of an AUC of one half; over 2 x 8,192 ids its standard deviation is 0.0045."""

Features = NDArray[np.float64]


def unmasked_values(trial: Trial) -> str:
    """A classifier cannot tell the leader's ids that one client holds from those that nobody else holds.

    It sees, of every id and client, the bits of what the hint decodes to and of the same unmasked, of both
    clients' together, how many bits are set, and how many of the id's slots are repeated in the hint (those
    that an encoder left at zero are). Ridge regression, fitted on half of the runs and tried on the other:
    the area under the curve is 0.5 +- 0.02.
    """
    engine = getattr(trial.psi, "engine", None)
    if engine is None:
        raise DoesNotApply("the protocol runs no engine in psi.star")
    trial.parties(3)
    runs = [_features(engine(), trial.seed * 1000 + run) for run in range(RUNS)]
    nobodys = [run[2] for run in runs]
    found = []
    for place, client in enumerate(NAMES[1:3]):
        auc = _auc([run[place] for run in runs], nobodys)
        if abs(auc - 0.5) > WITHIN:
            raise Violation(f"ids that only {client} shares with the leader: AUC {auc:.3f}", trial.seed)
        found.append(f"{auc:.3f}")
    return f"AUC {' and '.join(found)} for the ids of two clients, {RUNS} runs of {3 * IDS} ids"


class _Kept:
    """An engine whose receiver's outputs are kept."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.outputs: dict[str, Bytes] = {}

    def receiver(self, setting: Setting, senders: Sequence[str], digests: Bytes) -> Rounds[dict[str, Bytes]]:
        self.outputs = yield from self.engine.receiver(setting, senders, digests)
        return self.outputs

    def __getattr__(self, name: str) -> Any:
        return getattr(self.engine, name)


def _features(engine: Engine, seed: int) -> list[Features]:
    """Of one run: what the leader can compute of the ids that b, that c, and that nobody else holds."""
    names = NAMES[:3]
    kept: Any = _Kept(engine)
    sets = populate([3] * IDS + [5] * IDS + [1] * IDS + [7] * 64, 3, random.Random(seed))
    at_most = len(sets[0])
    settings = {me: Setting(me, names, b"conformance".ljust(32), at_most, stream(seed, me)) for me in names}
    ends = play(
        {
            me: star.star(kept if me == NAMES[0] else engine, settings[me], own)
            for me, own in zip(names, sets, strict=True)
        }
    )
    leader = settings[NAMES[0]]
    seen = []
    together = np.zeros(at_most, np.uint64)
    for client, own in zip(names[1:], sets[1:], strict=True):
        hint = _hint(ends, client)
        unmasked = star.unmask(leader, client, hint, len(own), sets[0], kept.outputs[client])
        seed_bytes, slots = hint[: okvs.SEED], np.frombuffer(hint, "<u8", offset=okvs.SEED)
        decoded = okvs.decode(seed_bytes, slots.reshape(-1, 1), len(own), sets[0])[:, 0]
        repeated = okvs.decode(seed_bytes, _repeated(slots, len(own)), len(own), sets[0])[:, 0]
        seen += [_bits(decoded), _bits(unmasked), _bits(repeated).sum(axis=1, keepdims=True)]
        together ^= unmasked
    seen.append(_bits(together))
    seen += [bits.sum(axis=1, keepdims=True) for bits in seen]
    every = np.concatenate([*seen, np.ones((at_most, 1))], axis=1)
    holders = [{row.tobytes() for row in own} for own in sets[1:]]
    held = np.array([[row.tobytes() in one for one in holders] for row in sets[0]])
    by_b, by_c = held.T
    return [every[by_b & ~by_c], every[by_c & ~by_b], every[~by_b & ~by_c]]


def _hint(ends: Ends, client: str) -> bytes:
    for error in ends.errors.values():
        raise Violation(f"the star ended in {type(error).__name__}: {error}", 0)
    return next(one.payload for one in ends.transcript if one.sender == client and one.kind == "hint")


def _repeated(slots: NDArray[np.uint64], count: int) -> NDArray[np.uint64]:
    """A store [m, 1] that decodes to one bit for each of an id's sparse slots whose value occurs again."""
    size = okvs.shape(count)
    _, place, times = np.unique(slots, return_inverse=True, return_counts=True)
    marks = np.uint64(1) << (np.arange(len(slots)) % 64).astype(np.uint64)
    marks[times[place] < 2] = 0
    marks.reshape(size.bins, -1)[:, size.sparse :] = 0
    return marks.reshape(-1, 1)


def _bits(words: NDArray[np.uint64]) -> Features:
    return np.unpackbits(np.ascontiguousarray(words).view(np.uint8).reshape(-1, 8), axis=1).astype(np.float64)


def _auc(held: list[Features], unheld: list[Features]) -> float:
    """Fitted on the first half of the runs: how well the others' are told apart."""
    half = len(held) // 2
    fitted = np.concatenate([*held[:half], *unheld[:half]])
    wanted = np.repeat([1.0, 0.0], [sum(map(len, held[:half])), sum(map(len, unheld[:half]))])
    ridge = 1e-3 * len(fitted) * np.eye(fitted.shape[1])  # some features may be constant, or sums of others
    weights = np.linalg.solve(fitted.T @ fitted + ridge, fitted.T @ wanted)
    scores = [np.concatenate(each[half:]) @ weights for each in (held, unheld)]
    _, place, times = np.unique(np.concatenate(scores).round(9), return_inverse=True, return_counts=True)
    ranks = (np.cumsum(times) - (times - 1) / 2)[place]  # of equal scores, their mean
    m, n = map(len, scores)
    return float((ranks[:m].sum() - m * (m + 1) / 2) / (m * n))
