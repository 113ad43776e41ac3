"""Permutation importance in one process: what `splitnn.importance` must equal bit for bit."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from splitnn.crossing_reference import Lines
from splitnn.evaluation import EXAMINED
from splitnn.features import Features
from splitnn.importance import REPEATS, Drop, Importance, Judge, activation_of, first_exchange, shuffled
from splitnn.plan import Plan
from splitnn.schedule import chunks
from splitnn.tasks import Objective


def examine(
    plan: Plan,
    bottoms: Sequence[nn.Module],
    top: nn.Module,
    features: Mapping[str, Features],
    lines: Lines,
    part: Tensor,
    labels: Tensor,
    objective: Objective,
    seeds: Mapping[str, bytes],
    number: int = 0,
) -> Importance | None:
    """What `splitnn.importance.examine` finds. bottoms, features: of each party, the label holder first.
    number: of the first chunk's exchange."""
    if plan.importance == "none":
        return None
    for module in (*bottoms, top):
        module.eval()
    columns = list(features.values())

    def cross(cut: Sequence[Tensor], first: int) -> list[Tensor]:
        parts = enumerate(zip(*map(chunks, cut), strict=True), first)
        arrived = [lines.at(None, exchange=place)(part) for place, part in parts]
        return [torch.cat(of_party) for of_party in zip(*arrived, strict=True)]

    every = [map(own.batch, chunks(part)) for own in columns]
    cut = cross([activation_of(bottom, own) for bottom, own in zip(bottoms, every, strict=True)], number)
    with torch.no_grad():
        logits = torch.cat([top(list(rows)) for rows in zip(*map(chunks, cut), strict=True)])
    judge = Judge(objective, labels, top, [rows[:EXAMINED] for rows in cut], logits)
    parties = judge.parties(seeds[next(iter(features))])
    if plan.importance == "parties":
        return Importance(parties)
    groups: list[list[Drop]] = [[] for _ in columns]
    for group in range(max(len(own.groups) for own in columns)):
        for party, (name, own) in enumerate(features.items()):
            if group < len(own.groups):
                lost = []
                for repeat in range(REPEATS):
                    moved = shuffled(own, part, group, seeds[name], repeat)
                    activation = activation_of(bottoms[party], moved)
                    first = first_exchange(number, part, group, repeat)
                    lost.append(judge.lost(party, cross([activation] * len(columns), first)[party]))
                groups[party].append(Drop.of(lost))
    return Importance(parties, tuple(map(tuple, groups)))
