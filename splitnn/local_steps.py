"""Local steps: what crossed once is learned from again between exchanges (`fedbcd`, `celu`).

Of a batch its two messages are kept. In a local step a feature holder pulls the gradient that it once got
back through its bottom, computed again by the weights it has now. The label holder computes the loss again,
from the activations that it once got, its own bottom and the top by the weights they have now. The dropout
masks are those of the exchange, so that what is now differs from what crossed by the weights alone.

After the exchange of batch t there are `times` turns, numbered on from (t - 1) * times. In turn s the batch
at place s mod `size` is learned from; batch t is put at place t mod `size`, where another is dropped. So no
batch comes twice in `size` turns, each comes at most `times` times, and is gone after `size` * `times` turns;
at first, places are empty and their turns are left out. That is the round-robin local sampling of Fu et al.
2022, "Towards Communication-efficient Vertical Federated Learning Training via Cache-enabled Local Updates".
"""

import io
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity

from splitnn.crossing import Crossing, arrived
from splitnn.errors import TrainingError
from splitnn.models import generators
from splitnn.plan import Plan
from splitnn.schedule import Split
from splitnn.tasks import Objective
from splitnn.window import training_batches


@dataclass(frozen=True)
class Exchanged:
    """A batch that has crossed. batch: positions in the training part. up, down: the messages of its
    activation and of the gradient, by peer. masks: where this party's random streams stood before."""

    step: int
    batch: Tensor
    up: Mapping[str, bytes]
    down: Mapping[str, bytes]
    masks: bytes


class Cache:
    """One party's last `size` batches, each learned from again at most `times` times.

    similarity: the cosine of what is now to what crossed from which on a row counts; None: all rows count.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.size, self.times = 1, 0
        self.similarity: float | None = None
        if plan.schedule == "fedbcd":
            self.times = plan.local_steps - 1
        if plan.schedule == "celu":
            self.size, self.times, self.similarity = plan.cache, plan.reuse, plan.similarity
        self.places: dict[int, Exchanged] = {}

    def turns(self, exchanged: Exchanged) -> Iterator[Exchanged]:
        """Keep this batch; the batches to learn from before the next."""
        if self.times:
            self.places[exchanged.step % self.size] = exchanged
        for turn in range((exchanged.step - 1) * self.times, exchanged.step * self.times):
            if turn % self.size in self.places:
                yield self.places[turn % self.size]

    def state(self) -> bytes:
        kept = sorted(self.places.values(), key=lambda exchanged: exchanged.step)
        return b"".join(part for e in kept for part in (e.masks, *e.up.values(), *e.down.values()))

    def load(
        self, state: bytes, step: int, rows: Split, crossings: Mapping[str, Crossing], module: nn.Module
    ) -> None:
        """What was kept after this step. module: whose masks they are. TrainingError: of another plan."""
        rest, drawn, size = io.BytesIO(state), len(streams(module)), 0
        first = max(1, step - self.size + 1) if self.times else step + 1
        batches = training_batches(self.plan, rows, first - 1)
        for number, batch in zip(range(first, step + 1), batches, strict=False):
            ups = {name: crossing.activation_size(len(batch)) for name, crossing in crossings.items()}
            downs = {name: crossing.gradient_size(len(batch)) for name, crossing in crossings.items()}
            size += drawn + sum(ups.values()) + sum(downs.values())
            masks = rest.read(drawn)
            up, down = ({name: rest.read(n) for name, n in sizes.items()} for sizes in (ups, downs))
            self.places[number % self.size] = Exchanged(number, batch, up, down, masks)
        if size != len(state):
            raise TrainingError("the saved training state is damaged, or of another plan: start afresh")


def streams(module: nn.Module) -> bytes:
    """Where all random streams of a module stand."""
    return b"".join(stream.get_state().numpy().tobytes() for stream in generators(module))


def learn_again(
    bottom: nn.Module,
    top: nn.Module,
    objective: Objective,
    columns: tuple[Tensor, Tensor],
    crossings: Mapping[str, Crossing],
    exchanged: Exchanged,
    similarity: float | None,
) -> None:
    """The gradients of a local step by the label holder's weights. columns: its own, of the batch."""
    step, rows = exchanged.step, len(exchanged.batch)
    with _masks(nn.ModuleList([bottom, top]), exchanged.masks):
        own = bottom(*columns)
        leaves, cut = arrived(crossings, "activation", exchanged.up, own, step)
        logits = top(cut)
    (gradient,) = torch.autograd.grad(objective.loss(logits, exchanged.batch), logits)
    if similarity is not None and crossings:
        now = torch.autograd.grad(logits, leaves[1:], gradient, retain_graph=True)
        then = [
            crossing.receive_gradient(exchanged.down[name], f"gradient for {name!r}", rows, step)
            for name, crossing in crossings.items()
        ]
        gradient = gradient * reliability(torch.cat(now, 1), torch.cat(then, 1), similarity)
    logits.backward(gradient)
    own.backward(leaves[0].grad)


def pull_back_again(
    bottom: nn.Module,
    columns: tuple[Tensor, Tensor],
    crossing: Crossing,
    exchanged: Exchanged,
    similarity: float | None,
) -> None:
    """The gradients of a local step by a feature holder's weights."""
    step, rows = exchanged.step, len(exchanged.batch)
    up, down = exchanged.up[crossing.peer], exchanged.down[crossing.peer]
    with _masks(bottom, exchanged.masks):
        activation = bottom(*columns)
    now = crossing.crossed_before(activation, up, step)
    gradient = crossing.receive_gradient(down, f"gradient from {crossing.peer!r}", rows, step)
    if similarity is not None:
        then, _ = crossing.receive_activation(up, "our own activation", rows, step)
        gradient = gradient * reliability(now.detach(), then.detach(), similarity)
    now.backward(gradient)  # type: ignore[no-untyped-call]


def reliability(now: Tensor, then: Tensor, similarity: float) -> Tensor:
    """How much each row counts, [b, 1]: the cosine of now [b, d] to then, 0 where it is below `similarity`
    (Fu et al. 2022, instance weighting). A row that is zeros both times is what it was, and counts in full:
    so is the gradient of a party that party dropout left out."""
    cosine = torch.where(now.any(1) | then.any(1), cosine_similarity(now, then), 1.0)
    return torch.where(cosine >= similarity, cosine, 0.0).unsqueeze(1)


@contextmanager
def _masks(module: nn.Module, masks: bytes) -> Iterator[None]:
    """What is drawn inside is what was drawn there; what is drawn afterwards is as if nothing had been."""
    outer = streams(module)
    _set_streams(module, masks)
    yield
    _set_streams(module, outer)


def _set_streams(module: nn.Module, state: bytes) -> None:
    rest = io.BytesIO(state)
    for stream in generators(module):
        size = len(stream.get_state())
        stream.set_state(torch.frombuffer(bytearray(rest.read(size)), dtype=torch.uint8))
