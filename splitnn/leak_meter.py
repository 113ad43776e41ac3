"""The leak meter: what the attacks of `splitnn.attacks` find in the very gradients that leave.

They are measured after the defences and before the codec, which only rounds. The cosine attack is given one
positive row's clean gradient a batch, and is not paid for that row. Of each attack two figures an epoch:
the 95 % quantile of its AUC over the batches, and its AUC where an attacker takes each row's mean score over
all epochs so far. Batches of one class tell nothing and are left out.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from splitnn.attacks import Area, auc, cosines, high, known_row, norms

ATTACKS = ("norm", "cosine")


class Attacked(NamedTuple):
    """One batch's gradients for one peer under attack. areas: of each attack; None: it has nothing to
    compare.

    rows: int64 [r], whose labels an attacker still has to guess. scores: float64 [attacks, r].
    """

    areas: tuple[Area | None, ...]
    rows: Tensor
    scores: Tensor


class LeakMeter:
    """Of the gradients for some feature holders, each by itself; what is reported is the worst of them.

    positive: bool [n], labels of the training rows. zeros_tell: whether a row of zeros may tell
    its label. With party dropout it does not, and whoever gets it knows: such rows are left out. sure: how
    sure each AUC is is wanted, for the gate.
    """

    def __init__(
        self, positive: Tensor, peers: Sequence[str], zeros_tell: bool = True, sure: bool = False
    ) -> None:
        self.positive, self.zeros_tell, self.sure = positive, zeros_tell, sure
        self.worst: dict[str, list[list[float]]] = {peer: [[] for _ in ATTACKS] for peer in peers}
        """Of this epoch's batches."""
        self.sums = {peer: torch.zeros(len(ATTACKS), len(positive)) for peer in peers}
        self.counts = {peer: torch.zeros(len(positive), dtype=torch.int32) for peer in peers}

    def attacked(self, clean: Tensor, left: Tensor, batch: Tensor) -> Attacked:
        """Attack left [b, d], which leaves for clean [b, d], of these training rows (int64 [b])."""
        if not self.zeros_tell:
            told = left.any(1)
            clean, left, batch = clean[told], left[told], batch[told]
        positive, length = self.positive[batch], norms(left)
        by_norm, known = auc(length, positive, self.sure), known_row(clean, positive)
        if known is None:
            return Attacked((by_norm, None), batch[:0], torch.zeros(len(ATTACKS), 0))
        # Gradients shrink as training goes on: so that each epoch counts alike, by the batch's mean.
        scores = torch.stack((length / (length.mean() or 1), cosines(left, clean[known], length)))
        scores, positive, batch = (_without(known, part) for part in (scores, positive, batch))
        return Attacked((by_norm, auc(scores[1], positive, self.sure)), batch, scores)

    def record(self, peer: str, attacked: Attacked) -> None:
        for values, area in zip(self.worst[peer], attacked.areas, strict=True):
            if area is not None:
                values.append(area.worst)
        self.sums[peer].index_add_(1, attacked.rows, attacked.scores.float())
        self.counts[peer][attacked.rows] += 1

    def end_epoch(self) -> dict[str, float]:
        """`norm_leak`, `cosine_leak`: over the epoch's batches; `norm_leak_rows`, `cosine_leak_rows`: by each
        row's mean score so far. Without what cannot be told. A new epoch begins."""
        found: dict[str, float] = {}
        areas = [self._by_rows(peer) for peer in self.worst]
        for place, attack in enumerate(ATTACKS):
            quantiles = [high(values[place]) for values in self.worst.values() if values[place]]
            by_rows = [area.worst for of in areas if (area := of[place]) is not None]
            if quantiles:
                found[f"{attack}_leak"] = max(quantiles)
            if by_rows:
                found[f"{attack}_leak_rows"] = max(by_rows)
        self.worst = {peer: [[] for _ in ATTACKS] for peer in self.worst}
        return found

    def _by_rows(self, peer: str) -> list[Area | None]:
        """Of each attack, by the rows that it has seen at all."""
        sums, counts, positive = self.sums[peer], self.counts[peer], self.positive
        seen = counts > 0
        if not seen.all():
            sums, counts, positive = sums[:, seen], counts[seen], positive[seen]
        return [auc(mean, positive, sure=False) for mean in sums / counts]

    def state(self) -> dict[str, Tensor]:
        """What the next figures depend on; peers by their places."""
        parts: dict[str, Tensor] = {}
        for place, peer in enumerate(self.worst):
            parts |= {f"sums.{place}": self.sums[peer], f"counts.{place}": self.counts[peer]}
            for attack, values in zip(ATTACKS, self.worst[peer], strict=True):
                parts[f"{attack}.{place}"] = torch.tensor(values, dtype=torch.float64)
        return parts

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Raises ValueError or LookupError for what `state` does not give."""
        for place, peer in enumerate(self.worst):
            sums, counts = state[f"sums.{place}"], state[f"counts.{place}"]
            if sums.shape != self.sums[peer].shape or counts.shape != self.counts[peer].shape:
                raise ValueError("the leak was measured on other training rows")
            self.sums[peer], self.counts[peer] = sums, counts
            self.worst[peer] = [state[f"{attack}.{place}"].tolist() for attack in ATTACKS]


def _without(row: int, tensor: Tensor) -> Tensor:
    """Of the last dimension, all but one."""
    return torch.cat((tensor[..., :row], tensor[..., row + 1 :]), -1)
