"""The gradients of the training rows on their way out: what each feature holder is to get of them.

At every schedule this is the last place before the codec: what comes out of here may leave.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from splitnn.label_noise import iso, max_norm
from splitnn.marvell import Noise, Spread, evenly, noise_of, perturbed
from splitnn.plan import Plan
from splitnn.randomness import normal
from splitnn.tasks import Objective


class Outgoing:
    """The label holder's, for all its feature holders, each by itself: none sees another's gradients.

    objective: by which the gradients are computed. peers: the feature holders. seed: the label holder's
    private seed. A step's noise is a function of seed, peer and step: who starts again sends what was sent.
    """

    def __init__(self, plan: Plan, objective: Objective, peers: Sequence[str], seed: bytes) -> None:
        self.defence, self.seed = plan.label_defence, seed
        self.peers = list(peers)
        self.learned = objective.train
        self.noises: dict[str, Noise] = {}
        """The last of marvell, by peer: a batch of one class tells nothing of the other's gradients."""

    def defended(self, peer: str, gradient: Tensor, batch: Tensor, step: int) -> Tensor:
        """What may leave of the gradient [b, d] of these training rows (int64 [b]); itself if undefended."""
        if not self.defence.noisy:
            return gradient
        # The joined model's gradient may lie in memory otherwise, and its sums end with another last bit.
        clean = gradient.clone(memory_format=torch.contiguous_format)
        strength = self.defence.strength
        width = 1 if self.defence.noise == "max_norm" else clean.shape[1]
        normals = normal(self.seed, f"defence {step} {peer}", (len(clean), width))
        if self.defence.noise == "max_norm":
            return max_norm(clean, strength, normals)
        if self.defence.noise == "iso":
            return iso(clean, strength, normals)
        # By the labels that are learned from: true ones would tell more than randomised response allows.
        positive = self.learned[batch] > 0.5
        noise = noise_of(clean, positive, strength)
        if noise is not None:
            self.noises[peer] = noise
        else:
            noise = self.noises.get(peer) or evenly(clean, strength)
        return perturbed(clean, positive, noise, normals)

    def state(self) -> dict[str, Tensor]:
        """What the next steps depend on, by names of its own."""
        return {
            f"marvell.{self.peers.index(peer)}": torch.cat(
                (torch.tensor([*noise.spread, noise.sum_kl], dtype=torch.float64), noise.direction)
            )
            for peer, noise in self.noises.items()
        }

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Raises ValueError or LookupError for what `state` does not give."""
        self.noises = {}
        for name, tensor in state.items():
            kind, place = name.split(".")
            if kind != "marvell" or tensor.dtype != torch.float64 or len(tensor) < 6:
                raise ValueError("an unknown part of the state of the gradients that leave")
            spread = Spread(*tensor[:4].tolist())
            self.noises[self.peers[int(place)]] = Noise(tensor[5:], spread, tensor[4].item())
