"""One process's share of the model while it trains: modules, optimiser, best weights, and how far it got."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from splitnn.descent import Descent
from splitnn.epoch import Epoch
from splitnn.errors import TrainingError
from splitnn.local import DEFAULTS, Local
from splitnn.models import generators
from splitnn.outgoing import Outgoing
from splitnn.plan import Plan
from splitnn.schedule import Split
from splitnn.stopping import is_judged


@dataclass
class Position:
    """How far training got. epoch: epochs completed. best_epoch: the one whose weights are kept, from 1.
    steps: that the weights have taken.

    history: one entry an epoch: train_loss and the validation metrics at the label holder, at a feature
    holder the verdict. Empty in a feature holder's state of an earlier release.
    """

    epoch: int = 0
    best_epoch: int = 0
    steps: int = 0
    stopped: bool = False
    history: list[dict[str, float]] = field(default_factory=list)

    def check(self, plan: Plan) -> None:
        """Raises ValueError for a position that no training by this plan can have."""
        counts = (self.best_epoch, self.epoch, self.steps)
        whole = all(type(count) is int for count in counts) and type(self.stopped) is bool
        if not whole or not 0 <= self.best_epoch <= self.epoch <= plan.epochs or self.steps < self.epoch:
            raise ValueError("an impossible position")
        told = [entry for entry in self.history if isinstance(entry, dict)]
        numbers = [number for entry in told for number in entry.values()]
        if len(told) != len(self.history) or len(told) not in (0, self.epoch):
            raise ValueError("an impossible history")
        if not all(isinstance(number, float) for number in numbers):
            raise ValueError("a history of something else than numbers")


class Learner:
    """Trains `module` by the plan; remembers its best weights; can be saved at an epoch's end and loaded.

    outgoing: the label holder's, saved and loaded with it.
    """

    def __init__(
        self,
        plan: Plan,
        module: nn.Module,
        epoch_steps: int,
        local: Local = DEFAULTS,
        outgoing: Outgoing | None = None,
    ) -> None:
        self.plan, self.module, self.outgoing = plan, module, outgoing
        self.descent = Descent(plan, [(module, local)], epoch_steps)
        self.optimizer = local.descent(plan)[0]
        self.position = Position()
        self.best: dict[str, Tensor] = {}
        self.best_logits = torch.empty(0)
        """Of the validation rows, by the best weights; at the label holder only."""

    def step(self, local: bool = False) -> None:
        self.descent.step(local)

    def end_epoch(self, improved: bool, stop: bool, judged: Mapping[str, Tensor] | None = None) -> None:
        """judged: the weights that the verdict is on, where they are not those of now."""
        self.position.epoch += 1
        self.position.steps = self.descent.steps
        self.position.stopped = stop
        if improved:
            self.position.best_epoch = self.position.epoch
            self.best = copied(self.module.state_dict() if judged is None else judged)

    def epoch(self, rows: Split, step: int, epoch_steps: int) -> Epoch:
        """What is told of the epoch that has ended. step: of training, the last that was taken."""
        position = self.position
        return Epoch(
            "training",
            step,
            self.plan.epochs * epoch_steps,
            position.epoch,
            judged=is_judged(self.plan, rows, position.epoch),
            improved=position.best_epoch == position.epoch,
            stops=position.stopped,
            rows=len(rows.train),
            metrics={} if self.outgoing is None else position.history[-1],
        )

    def restore_best(self) -> None:
        self.module.load_state_dict(self.best)

    def state(self) -> bytes:
        """All that the next epochs depend on, as safetensors: a loaded learner goes on bit for bit."""
        tensors = {f"weights.{name}": tensor for name, tensor in self.module.state_dict().items()}
        tensors |= {f"best.{name}": tensor for name, tensor in self.best.items()}
        for index, moments in self.descent.moments().items():
            tensors |= {f"{self.optimizer}.{index}.{name}": tensor for name, tensor in moments.items()}
        for index, generator in enumerate(generators(self.module)):
            tensors[f"generator.{index}"] = generator.get_state()
        if self.outgoing is not None:
            tensors |= {f"outgoing.{name}": tensor for name, tensor in self.outgoing.state().items()}
        position = json.dumps(asdict(self.position)).encode()
        tensors["best_logits"] = self.best_logits
        tensors["position"] = torch.frombuffer(bytearray(position), dtype=torch.uint8)
        return safetensors.torch.save(tensors)

    def load(self, state: bytes) -> None:
        """Raises TrainingError where the state is not one of this plan and these columns."""
        try:
            tensors = safetensors.torch.load(state)
            self.position = Position(**json.loads(tensors["position"].numpy().tobytes()))
            self.position.check(self.plan)
            if self.outgoing is None and not self.position.history:
                self.position.history = [{} for _ in range(self.position.epoch)]
            self.module.load_state_dict(_under("weights.", tensors))
            self.best, self.best_logits = _under("best.", tensors), tensors["best_logits"]
            shapes = {name: weight.shape for name, weight in self.module.state_dict().items()}
            if {name: weight.shape for name, weight in self.best.items()} != (
                shapes if self.position.best_epoch else {}
            ):
                raise ValueError("the best weights are those of another model")
            moments: dict[int, dict[str, Tensor]] = {}
            for name, tensor in _under(f"{self.optimizer}.", tensors).items():
                index, moment = name.split(".")
                moments.setdefault(int(index), {})[moment] = tensor
            if (
                not moments
            ):  # another optimiser's: a module of one's own may leave some weights unused, not all
                raise KeyError(self.optimizer)
            self.descent.load(moments, self.position.steps, self.optimizer)
            if self.outgoing is not None:
                self.outgoing.load(_under("outgoing.", tensors))
            for place, generator in enumerate(generators(self.module)):
                generator.set_state(tensors[f"generator.{place}"])
        except (SafetensorError, LookupError, TypeError, ValueError, RuntimeError) as error:
            raise TrainingError(
                "the saved training state is damaged, or of another plan or other columns: start afresh"
            ) from error


def best_of(state: bytes) -> tuple[int, dict[str, Tensor]]:
    """The best epoch, from 1, of a training's `Save`d state, and its weights by their names in the module.

    0 and no weights before any epoch was judged.
    """
    tensors = safetensors.torch.load(state)
    while "learner" in tensors:  # beside what else a schedule keeps
        tensors = safetensors.torch.load(tensors["learner"].numpy().tobytes()[:-1])
    position = Position(**json.loads(tensors["position"].numpy().tobytes()))
    return position.best_epoch, _under("best.", tensors)


def copied(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in weights.items()}


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
