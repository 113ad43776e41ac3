"""The leak gate: gradients that tell the labels too well do not leave.

Each batch is attacked before it leaves (`splitnn.leak_meter`), and its AUC pooled with those of the last
batches for the same feature holder. One batch says little: where gradients tell nothing at all, the 95 %
quantile over batches of 256 rows with 15 % positives is .60. So the bound is held against the pool's 95 %
confidence interval: once the window is full the interval must end below it; before, when it is wide, it may
not lie above it as a whole.
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

    def forget(self, peer: str) -> None:
        """What was measured under a weaker defence says nothing of a stronger one."""
        self.windows[peer] = self._empty()

    def state(self) -> dict[str, Tensor]:
        return {
            f"{attack}.{place}": torch.tensor([*window], dtype=torch.float64).reshape(-1, 3)
            for place, windows in enumerate(self.windows.values())
            for attack, window in zip(ATTACKS, windows, strict=True)
        }

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Raises ValueError, TypeError or LookupError for what `state` does not give."""
        for place, peer in enumerate(self.windows):
            self.forget(peer)
            for attack, window in zip(ATTACKS, self.windows[peer], strict=True):
                for value, variance, pairs in state[f"{attack}.{place}"].tolist():
                    window.append(Area(value, variance, int(pairs)))

    def _empty(self) -> list[deque[Area]]:
        return [deque(maxlen=self.window) for _ in ATTACKS]
