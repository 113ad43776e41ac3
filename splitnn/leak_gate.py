"""The leak gate: gradients that tell the labels too well do not leave.

Each batch is attacked before it leaves (`splitnn.leak_meter`), and its AUC pooled with those of the last
batches for the same feature holder. One batch says little: where gradients tell nothing at all, the 95 %
quantile over batches of 256 rows with 15 % positives is .60. So the bound is held against the pool's 95 %
confidence interval: once the window is full the interval must end below it; before, when it is wide, it may
not lie above it as a whole. Batches of one class tell it nothing: where the first ones, more than
the window has room for, all are such, it is no gate.
"""

from collections import deque
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from splitnn.attacks import Area, Interval, pooled
from splitnn.leak_meter import ATTACKS, Attacked


class LeakGate:
    """bound: the AUC that is too much. window: batches, of each peer and each attack."""

    def __init__(self, bound: float, window: int, peers: Sequence[str]) -> None:
        self.bound, self.window = bound, window
        self.windows: dict[str, list[deque[Area]]] = {peer: self._empty() for peer in peers}
        self.unseen = dict.fromkeys(peers, 0)
        """Of each peer, batches before the first that could be measured; -1: there was one."""

    def admit(self, peer: str, attacked: Attacked) -> tuple[str, Interval] | None:
        """Count the batch in; None if it may leave, else the attack that finds too much, and how much."""
        for attack, window, area in zip(ATTACKS, self.windows[peer], attacked.areas, strict=True):
            if area is not None:
                window.append(area)
            interval = pooled(window)
            if interval is None:
                continue
            if (interval.high if len(window) == self.window else interval.low) > self.bound:
                return attack, interval
        return None

    def blind(self, peer: str, attacked: Attacked) -> bool:
        """Has no batch so far been one that could be measured, and are these too many? To be asked of each
        batch once, before it is counted in."""
        if any(area is not None for area in attacked.areas):
            self.unseen[peer] = -1
        elif self.unseen[peer] >= 0:
            self.unseen[peer] += 1
        return self.unseen[peer] > self.window

    def forget(self, peer: str) -> None:
        """What was measured under a weaker defence says nothing of a stronger one."""
        self.windows[peer] = self._empty()

    def state(self) -> dict[str, Tensor]:
        parts = {
            f"{attack}.{place}": torch.tensor([*window], dtype=torch.float64).reshape(-1, 3)
            for place, windows in enumerate(self.windows.values())
            for attack, window in zip(ATTACKS, windows, strict=True)
        }
        return parts | {"unseen": torch.tensor([*self.unseen.values()])}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Raises ValueError, TypeError or LookupError for what `state` does not give."""
        self.unseen = dict(zip(self.unseen, map(int, state["unseen"].tolist()), strict=True))
        for place, peer in enumerate(self.windows):
            self.forget(peer)
            for attack, window in zip(ATTACKS, self.windows[peer], strict=True):
                for value, variance, pairs in state[f"{attack}.{place}"].tolist():
                    window.append(Area(value, variance, int(pairs)))

    def _empty(self) -> list[deque[Area]]:
        return [deque(maxlen=self.window) for _ in ATTACKS]
