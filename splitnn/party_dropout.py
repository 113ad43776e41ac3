"""A top model that learns to do without some of the feature holders: party dropout.

In training each feature holder is left out of each example with a probability of its own draw, so that the
model can score later when a partner is not there. Leaving out a whole source of columns is ModDrop (Neverova
et al. 2016, "ModDrop: Adaptive Multi-modal Gesture Recognition"), and between companies party-wise dropout
(Sun et al. 2023, "Robust and IP-Protecting Vertical Federated Learning against Unexpected Quitting of
Parties"). Here what stands in the place of a party that is missing is learned: an embedding of its own.
"""

from collections.abc import Sequence
from itertools import product
from typing import Final, TypeAlias

import torch
from torch import Tensor, nn

from splitnn.randomness import strong_generator


class PartyDropout(nn.Module):
    """`top` behind the dropout of whole activations. In evaluation nothing is drawn.

    probability: of each (feature holder, example). seed: the label holder's private seed.
    `absent` [feature holders, cut]: what stands in for each; zeros before the first step.
    """

    def __init__(self, top: nn.Module, probability: float, parties: int, cut: int, seed: bytes) -> None:
        super().__init__()
        self.top, self.probability = top, probability
        self.absent = nn.Parameter(torch.zeros(parties - 1, cut))
        self.generator = strong_generator(seed, "party dropout")

    def forward(self, activations: Sequence[Tensor | None]) -> Tensor:
        """Logits, as `top` gives them. activations: None for a feature holder that is not there."""
        own, *others = activations
        assert own is not None, "the label holder is always there"
        cut = [own]
        for activation, absent in zip(others, self.absent, strict=True):
            if activation is None:
                cut.append(absent.repeat(len(own), 1))
            elif self.training:
                left_out = torch.rand(len(own), 1, generator=self.generator) < self.probability
                cut.append(torch.where(left_out, absent, activation))
            else:
                cut.append(activation)
        logits: Tensor = self.top(cut)
        return logits


class WithAndWithout(nn.Module):
    """Several views of the same rows, logits [1 + n, b, outputs]: of all parties, then without each of the n
    feature holders in turn. n is 0 where the top model has not learned to do without any."""

    def __init__(self, top: nn.Module) -> None:
        super().__init__()
        self.top = top

    def forward(self, cut: Sequence[Tensor]) -> Tensor:
        views: list[list[Tensor | None]] = [[*cut]]
        if isinstance(self.top, PartyDropout):
            views += [[*cut[:place], None, *cut[place + 1 :]] for place in range(1, len(cut))]
        return torch.stack([self.top(view) for view in views])


MOST_SETS: Final = 4
"""Feature holders, of which every set is looked at: 16. Of more, all of them, each left out, and nobody."""

Present: TypeAlias = tuple[bool, ...]
"""Who is there, of the feature holders."""


def present_sets(top: nn.Module, feature_holders: int) -> list[Present]:
    """Whom `top` can score with: everyone first."""
    everyone = (True,) * feature_holders
    if not isinstance(top, PartyDropout):
        return [everyone]
    if feature_holders <= MOST_SETS:
        return sorted(product((False, True), repeat=feature_holders), reverse=True)
    each = [(*everyone[:place], False, *everyone[place + 1 :]) for place in range(feature_holders)]
    return [everyone, *each, (False,) * feature_holders]


class OfSets(nn.Module):
    """Logits [sets, b, outputs] of the same rows by each set of `present_sets`."""

    def __init__(self, top: nn.Module, feature_holders: int) -> None:
        super().__init__()
        self.top, self.sets = top, present_sets(top, feature_holders)

    def forward(self, cut: Sequence[Tensor]) -> Tensor:
        own, *others = cut
        views = [self.top(cut)]
        for among in self.sets[1:]:
            those = zip(others, among, strict=True)
            views.append(self.top([own, *(one if there else None for one, there in those)]))
        return torch.stack(views)
