"""One feature holder's tensors on their way across the cut, by the codecs that the parties agreed on.

The random draws of a step are a function of (private seed, direction, step): whoever starts again at a
step draws as it did before, with nothing to keep but the step, and the order in which tensors leave
does not matter.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from protos.rounds import LocalProtocolError, Receive, Rounds
from splitnn.codecs import DENSE, FP32, Codec, Kept, RandTopk, finite
from splitnn.embedding_dp import EmbeddingDP
from splitnn.errors import TrainingError
from splitnn.masks import Masks
from splitnn.randomness import generator
from splitnn.secure_sum import SECURE_SUM, Hidden
from splitnn.tensors import decode, encode, encoded_size

if TYPE_CHECKING:
    from splitnn.plan import Plan

IDENTITY = EmbeddingDP()
ACTIVATION_CODECS = (*DENSE, "randtopk")
GRADIENT_CODECS = (*DENSE,)
"""Under randtopk, of the gradient of the kept values: the label holder has nothing to select."""
LEAST_EXPLORE = 1e-6
"""Other than 0. Less is never drawn, and far less overflows when draws are weighed against one another."""


@dataclass(frozen=True)
class Codecs:
    """Which codec each direction has. Raises ValueError for an unknown one or numbers that do not fit it.

    activations: of ACTIVATION_CODECS. gradients: of GRADIENT_CODECS; under randtopk, of the kept values.
    keep: numbers that randtopk keeps of each row; None for all other codecs. explore: the share of
    randtopk's draws that go to numbers which are not among the largest (0: always the largest).
    """

    activations: str = "fp32"
    gradients: str = "fp32"
    keep: int | None = None
    explore: float = 0.1

    def __post_init__(self) -> None:
        if self.activations not in ACTIVATION_CODECS:
            known = ", ".join(ACTIVATION_CODECS)
            raise ValueError(f"unknown codec of activations {self.activations!r}: choose one of {known}")
        if self.gradients not in GRADIENT_CODECS:
            known = ", ".join(GRADIENT_CODECS)
            raise ValueError(f"unknown codec of gradients {self.gradients!r}: choose one of {known}")
        if (self.keep is not None) != (self.activations == "randtopk"):
            raise ValueError("keep goes with randtopk, which needs it: how many numbers of each row cross")
        if self.keep is not None and self.keep < 1:
            raise ValueError(f"keep must be at least 1, not {self.keep}")
        if self.explore and not LEAST_EXPLORE <= self.explore < 1:
            raise ValueError(f"explore must be 0, or at least {LEAST_EXPLORE:g} and below 1")

    @property
    def exact(self) -> bool:
        """Whether every bit arrives."""
        return self.activations == self.gradients == "fp32"


class Crossing:
    """Encodes and decodes what crosses between one feature holder and the label holder, at either end.

    width: the plan's cut. seed: the private seed of the party at this end. peer: the other's name, so that
    no two feature holders' gradients are rounded by the same draws. exchange: the number in the header.
    step: of the optimiser, for the draws; None in evaluation, which draws nothing.
    hidden: under secure sum, how activations cross in place of the codec's way.
    embedding: of the feature holder's end, what is done to activations first; drawn: told of its noise, as
    `EmbeddingDP.release` says.
    """

    def __init__(
        self,
        codecs: Codecs,
        width: int,
        seed: bytes,
        peer: str,
        hidden: Hidden | None = None,
        embedding: EmbeddingDP = IDENTITY,
        drawn: Callable[[bytes], None] = lambda noise: None,
    ) -> None:
        self.codecs, self.width, self.seed, self.peer = codecs, width, seed, peer
        self.hidden, self.embedding, self.drawn = hidden, embedding, drawn
        self._kept = RandTopk(codecs.keep, codecs.explore) if codecs.keep is not None else None
        self._up = DENSE.get(codecs.activations, FP32)
        self._down = DENSE[codecs.gradients]

    def activation_size(self, rows: int) -> int:
        """Bytes of a message with so many rows, exactly."""
        if self.hidden is not None:
            return encoded_size((rows, self.width), self.hidden.codec)
        return encoded_size((rows, self.width), self._up if self._kept is None else self._kept)

    def gradient_size(self, rows: int) -> int:
        return encoded_size((rows, self.codecs.keep or self.width), self._down)

    def send_activation(self, activation: Tensor, exchange: int, step: int | None) -> tuple[Tensor, bytes]:
        """What of the activation [b, cut] crosses, in its graph, and the message.

        The gradient that comes back is by the first, though what arrives was rounded: rounding passes
        gradients through unchanged (Bengio et al. 2013, "straight-through").
        Raises TrainingError, and nothing leaves, for NaN, infinity, and what the codec cannot hold.
        """
        with _staying_here(f"the activation for {self.peer!r}", step):
            activation = self.defended(activation, exchange, step)
            if self.hidden is not None:
                share = self.hidden.share(activation, exchange, training=step is not None)
                return self.hidden.fixed.clip(activation), encode(share, exchange, self.hidden.codec)
            if self._kept is None:
                return activation, encode(activation, exchange, self._up, self._noise(self._up, "up", step))
            kept = self._kept.choose(activation, self._noise(self._kept, "up", step))
            return kept.values, encode(kept, exchange, self._kept)

    def defended(self, activation: Tensor, exchange: int, step: int | None) -> Tensor:
        """An activation [b, cut] with its noise, in its graph: before any codec or sum sees it."""
        if not self.embedding.on:
            return activation
        context = f"evaluation {exchange}" if step is None else f"training {step}"
        return self.embedding.release(finite(activation), self.seed, context, self.drawn)

    def crossed_before(self, activation: Tensor, message: bytes, exchange: int) -> Tensor:
        """Of an activation [b, cut], in its graph, the numbers that our message of a staler one carried."""
        if self._kept is None:
            return activation
        kept = decode(message, "our own activation", activation.shape, exchange, self._kept)
        return activation.gather(1, kept.columns)

    def receive_activation(
        self, payload: bytes, what: str, rows: int, exchange: int
    ) -> tuple[Tensor, Tensor]:
        """The leaf whose gradient goes back, and the activation [b, cut] in its graph.

        Raises RemoteProtocolError, with `what` in it, for anything that the codec does not write.
        """
        shape = (rows, self.width)
        if self._kept is None:
            activation = decode(payload, what, shape, exchange, self._up).requires_grad_()
            return activation, activation
        kept = decode(payload, what, shape, exchange, self._kept)
        kept.values.requires_grad_()
        return kept.values, kept.dense()

    def send_gradient(self, gradient: Tensor, exchange: int, step: int) -> bytes:
        """gradient: of the loss by the leaf that `receive_activation` gave. Raises as `send_activation`."""
        with _staying_here(f"the gradient for {self.peer!r}", step):
            return encode(gradient, exchange, self._down, self._noise(self._down, f"down {self.peer}", step))

    def receive_gradient(self, payload: bytes, what: str, rows: int, exchange: int) -> Tensor:
        """float32, the shape of what `send_activation` said crosses. Errors as of `receive_activation`."""
        return decode(payload, what, (rows, self.codecs.keep or self.width), exchange, self._down)

    def _noise(
        self, codec: Codec[Tensor] | Codec[Kept], direction: str, step: int | None
    ) -> torch.Generator | None:
        if step is None or not codec.draws:
            return None
        return generator(self.seed, f"codec {direction} {step}")


def to_feature_holders(plan: "Plan", names: Sequence[str], seed: bytes) -> dict[str, Crossing]:
    """The label holder's end of each line. Raises TrainingError where the secure sum is not of so many."""
    hidden = Hidden(plan.fixed_point, len(names)) if plan.fusion == SECURE_SUM else None
    return {name: Crossing(plan.codec, plan.cut, seed, name, hidden) for name in names}


def to_hub(
    plan: "Plan",
    hub: str,
    seed: bytes,
    masks: Masks | None,
    drawn: Callable[[bytes], None] = lambda noise: None,
) -> Crossing:
    """A feature holder's end. masks: this attempt's, where the plan's fusion is a secure sum. drawn: as
    `Crossing` has it."""
    hidden = None
    if plan.fusion == SECURE_SUM:
        if masks is None:
            raise LocalProtocolError("secure-sum without masks: nothing leaves")
        hidden = Hidden(plan.fixed_point, masks.holders, masks)
    return Crossing(plan.codec, plan.cut, seed, hub, hidden, plan.embedding, drawn)


def activations(
    crossings: Mapping[str, Crossing], kind: str, own: Tensor, exchange: int
) -> Rounds[tuple[list[Tensor], list[Tensor]]]:
    """Receive a message of each feature holder; what `arrived` makes of them."""
    messages = yield from receive_each(crossings, kind, len(own))
    return arrived(crossings, kind, messages, own, exchange)


def receive_each(crossings: Mapping[str, Crossing], kind: str, rows: int) -> Rounds[dict[str, bytes]]:
    """Every feature holder's message with the activations of so many rows."""
    messages: dict[str, bytes] = {}
    for name, crossing in crossings.items():
        messages[name] = yield Receive(name, kind, at_most=crossing.activation_size(rows))
    return messages


def arrived(
    crossings: Mapping[str, Crossing], kind: str, messages: Mapping[str, bytes], own: Tensor, exchange: int
) -> tuple[list[Tensor], list[Tensor]]:
    """What crossed, a leaf of the autograd graph a party, and the activations that they make: the label
    holder's own first, then as `received` has them."""
    leaf = own.detach().requires_grad_()
    leaves, theirs = received(crossings, kind, messages, len(own), exchange)
    return [leaf, *leaves], [leaf, *theirs]


def received(
    crossings: Mapping[str, Crossing], kind: str, messages: Mapping[str, bytes], rows: int, exchange: int
) -> tuple[list[Tensor], list[Tensor]]:
    """The same of the feature holders: a leaf and an activation [rows, cut] each. Under secure sum all these
    have one leaf, which is the only activation: their sum."""
    hidden = next((crossing.hidden for crossing in crossings.values()), None)
    if hidden is not None:
        shares = [
            decode(messages[name], f"{kind} from {name!r}", (rows, crossing.width), exchange, hidden.codec)
            for name, crossing in crossings.items()
        ]
        total = hidden.total(shares, kind).requires_grad_()
        return [total] * len(crossings), [total]
    found = [
        crossing.receive_activation(messages[name], f"{kind} from {name!r}", rows, exchange)
        for name, crossing in crossings.items()
    ]
    return [leaf for leaf, _ in found], [activation for _, activation in found]


@contextmanager
def _staying_here(what: str, step: int | None) -> Iterator[None]:
    """Blame the model for a tensor that its codec cannot write."""
    try:
        yield
    except ValueError as error:
        when = "in evaluation" if step is None else f"at step {step}"
        raise TrainingError(
            f"{what} {error} {when}: the model diverged, lower learning_rate in run.toml"
        ) from error
