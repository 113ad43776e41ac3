"""The gradients of the training rows on their way out: what each feature holder is to get of them.

At every schedule this is the last place before the codec: what comes out of here may leave, and nothing else
does. Here noise is added, what still leaks is measured, and the gate stops what leaks too much.
"""

import hashlib
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from splitnn.errors import LeakError
from splitnn.label_noise import iso, max_norm
from splitnn.leak_gate import LeakGate
from splitnn.leak_meter import LeakMeter
from splitnn.marvell import Noise, Spread, evenly, noise_of, perturbed
from splitnn.plan import Plan
from splitnn.randomness import normal
from splitnn.schedule import steps_an_epoch
from splitnn.tasks import Labels, Objective

EVERY = 8
"""Of so many batches one is measured, where no gate has to look at all; two an epoch at least."""

TOGETHER = 1 << 19
"""Numbers that wait to be measured together: one by one, between two steps, each attack took four times as
long, as what it needs had to come back into the processor's caches."""


class Outgoing:
    """The label holder's, for all its feature holders, each by itself: none sees another's gradients.

    objective: of these labels, by which the gradients are computed. peers: the feature holders. seed: the
    label holder's private seed. A step's noise is a function of seed, peer, step, strength and the gradient
    itself: who starts again and comes to the same gradient sends what was sent, and no two gradients ever
    share noise, which their difference would tell. meter: of binary labels, where there are feature holders;
    where a gate stops by it, of the labels that are learned from, else of the true ones.
    """

    def __init__(
        self, plan: Plan, labels: Labels, objective: Objective, peers: Sequence[str], seed: bytes
    ) -> None:
        self.defence, self.seed, self.peers = plan.label_defence, seed, list(peers)
        self.learned = objective.train
        self.strengths = dict.fromkeys(peers, self.defence.strength)
        self.told = torch.zeros(len(self.peers), 2, dtype=torch.float64)
        """Of each peer, this epoch: the sum of marvell's sum_kl over batches, and how many."""
        self.noises: dict[str, Noise] = {}
        """The last of marvell, by peer: a batch of one class tells nothing of the other's gradients."""
        self.meter: LeakMeter | None = None
        self.gate: LeakGate | None = None
        self.waiting: list[tuple[str, Tensor, Tensor, Tensor]] = []
        self.every = max(1, min(EVERY, steps_an_epoch(len(labels.train), plan.batch) // 2))
        if plan.task == "binary" and peers:
            gated = self.defence.max_leak is not None
            # Whether the gate stops, the peers see: by true labels that would be outside of epsilon.
            by = objective.train if gated else labels.train
            self.meter = LeakMeter(by > 0.5, peers, plan.party_dropout == 0, gated)
            if self.defence.max_leak is not None:
                self.gate = LeakGate(self.defence.max_leak, self.defence.window, peers)

    def defended(self, peer: str, gradient: Tensor, batch: Tensor, step: int) -> Tensor:
        """What may leave of the gradient [b, d] of these training rows (int64 [b]); itself if undefended.

        Raises LeakError where it tells too much of the labels. All peers' of a step are to be asked for
        before any of them leaves.
        """
        measured = self.meter is not None and (self.gate is not None or (step - 1) % self.every == 0)
        if not measured and not self.defence.noisy:
            return gradient
        # The joined model's gradient may lie in memory otherwise, and its sums end with another last bit.
        clean = gradient.clone(memory_format=torch.contiguous_format)
        left = self._noised(peer, clean, batch, step)
        if self.gate is None or self.meter is None:
            if measured:
                self.waiting.append((peer, clean, left, batch))
        else:
            attacked = self.meter.attacked(clean, left, batch)
            if self.gate.blind(peer, attacked):
                raise LeakError(
                    f"at step {step} no batch so far had both classes, so nobody can say what the "
                    f"gradients for {peer!r} tell (privacy.max_label_leak is "
                    f"{self.defence.max_leak:g}): they were not sent; raise training.batch in run.toml"
                )
            while (leak := self.gate.admit(peer, attacked)) is not None:
                if not self._harden(peer):
                    attack, interval = leak
                    raise LeakError(
                        f"at step {step} the {attack} attack tells labels by the gradients for {peer!r} with "
                        f"AUC {interval.value:.2f} (between {interval.low:.2f} and {interval.high:.2f} with "
                        f"95 % confidence; privacy.max_label_leak allows {self.defence.max_leak:g}): they "
                        f"were not sent; {self._advice()} in run.toml, then `party run --afresh`"
                    )
                left = self._noised(peer, clean, batch, step)
                attacked = self.meter.attacked(clean, left, batch)
            self.meter.record(peer, attacked)
        if peer in self.noises:
            self.told[self.peers.index(peer)] += torch.tensor([self.noises[peer].sum_kl, 1.0])
        return gradient if left is clean else left

    def measure(self, least: int = TOGETHER) -> None:
        """Attack what was defended since, where no gate did so before, if it has at least so many numbers:
        nobody waits for it."""
        if self.meter is not None and sum(left.numel() for _, _, left, _ in self.waiting) >= least:
            for peer, clean, left, batch in self.waiting:
                self.meter.record(peer, self.meter.attacked(clean, left, batch))
            self.waiting.clear()

    def end_epoch(self) -> dict[str, float]:
        """For the history: what the meter tells, the mean sum_kl of marvell's batches and, where it may be
        raised, the strength by now; all of the feature holder that learns most."""
        self.measure(0)
        found = {} if self.meter is None else self.meter.end_epoch()
        if self.told[:, 1].any():
            found["sum_kl"] = (self.told[:, 0] / self.told[:, 1]).nan_to_num(0.0).max().item()
            self.told.zero_()
        if self.defence.max_strength is not None and self.peers:
            found["label_defence_strength"] = max(self.strengths.values())
        return found

    def _noised(self, peer: str, clean: Tensor, batch: Tensor, step: int) -> Tensor:
        """The gradient with noise; itself at strength 0."""
        strength = self.strengths[peer]
        if not strength:
            return clean
        width = 1 if self.defence.noise == "max_norm" else clean.shape[1]
        content = hashlib.sha256((clean + 0.0).numpy().data).hexdigest()  # 0 and -0 are one gradient
        normals = normal(self.seed, f"defence {step} {strength!r} {content} {peer}", (len(clean), width))
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

    def _advice(self) -> str:
        """What may bring the leak under the bound."""
        if self.defence.noise == "none":
            return "set privacy.label_defence, or raise max_label_leak,"
        if self.defence.noise == "max_norm":  # a contract gives it no strength
            return "choose another privacy.label_defence, or raise max_label_leak,"
        key = "label_strength" if self.defence.max_strength is None else "max_label_strength"
        return f"raise privacy.{key}, or max_label_leak,"

    def _harden(self, peer: str) -> bool:
        """Double the strength for this peer, if the plan allows; from 0, to a sixteenth of the most."""
        strength, most = self.strengths[peer], self.defence.max_strength
        if most is None or strength >= most or self.gate is None:
            return False
        self.strengths[peer] = min(max(2 * strength, most / 16), most)
        self.noises.pop(peer, None)  # it was drawn for less
        self.gate.forget(peer)
        return True

    def state(self) -> dict[str, Tensor]:
        """What the next steps depend on, by names of its own."""
        self.measure(0)
        parts = {"strengths": torch.tensor([*self.strengths.values()], dtype=torch.float64)}
        parts["told"] = self.told.clone()
        for peer, noise in self.noises.items():
            numbers = torch.tensor([*noise.spread, noise.sum_kl], dtype=torch.float64)
            parts[f"marvell.{self.peers.index(peer)}"] = torch.cat((numbers, noise.direction))
        for kind, part in (("meter", self.meter), ("gate", self.gate)):
            if part is not None:
                parts |= {f"{kind}.{name}": tensor for name, tensor in part.state().items()}
        return parts

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Raises ValueError, TypeError or LookupError for what `state` does not give."""
        self.strengths = dict(zip(self.peers, state["strengths"].tolist(), strict=True))
        if state["told"].shape != self.told.shape or state["told"].dtype != self.told.dtype:
            raise ValueError("other feature holders")
        self.told, self.noises = state["told"].clone(), {}
        for place, peer in enumerate(self.peers):
            kept = state.get(f"marvell.{place}")
            if kept is None:
                continue
            if kept.dtype != torch.float64 or len(kept) < 6:
                raise ValueError("an impossible noise")
            self.noises[peer] = Noise(kept[5:], Spread(*kept[:4].tolist()), kept[4].item())
        for kind, part in (("meter", self.meter), ("gate", self.gate)):
            if part is not None:
                under = f"{kind}."
                part.load({name.removeprefix(under): state[name] for name in state if name.startswith(under)})
