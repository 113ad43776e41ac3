"""One process's share of the model while it trains: modules, optimiser, best weights, and how far it got."""

import json
from dataclasses import asdict, dataclass, field

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from splitnn.errors import TrainingError
from splitnn.models import dropouts
from splitnn.optimizers import OPTIMIZERS
from splitnn.plan import Plan


@dataclass
class Position:
    """How far training got. epoch: epochs completed. best_epoch: the one whose weights are kept, from 1.

    history: one entry an epoch (train_loss and the validation metrics); at the label holder only.
    """

    epoch: int = 0
    best_epoch: int = 0
    stopped: bool = False
    history: list[dict[str, float]] = field(default_factory=list)


class Learner:
    """Trains `module` by the plan; remembers its best weights; can be saved at an epoch's end and loaded."""

    def __init__(self, plan: Plan, module: nn.Module) -> None:
        self.plan, self.module = plan, module
        self.optimizer = OPTIMIZERS[plan.optimizer](module, plan.learning_rate, plan.weight_decay)
        self.position = Position()
        self.best: dict[str, Tensor] = {}

    def step(self) -> None:
        self.optimizer.step()
        self.optimizer.zero_grad()

    def end_epoch(self, improved: bool, stop: bool) -> None:
        self.position.epoch += 1
        self.position.stopped = stop
        if improved:
            self.position.best_epoch = self.position.epoch
            self.best = {name: tensor.clone() for name, tensor in self.module.state_dict().items()}

    def restore_best(self) -> None:
        self.module.load_state_dict(self.best)

    def state(self) -> bytes:
        """All that the next epochs depend on, as safetensors: a loaded learner goes on bit for bit."""
        tensors = {f"weights.{name}": tensor for name, tensor in self.module.state_dict().items()}
        tensors |= {f"best.{name}": tensor for name, tensor in self.best.items()}
        for index, moments in self.optimizer.state_dict()["state"].items():
            tensors |= {f"{self.plan.optimizer}.{index}.{name}": tensor for name, tensor in moments.items()}
        for index, dropout in enumerate(dropouts(self.module)):
            tensors[f"dropout.{index}"] = dropout.generator.get_state()
        position = json.dumps(asdict(self.position)).encode()
        tensors["position"] = torch.frombuffer(bytearray(position), dtype=torch.uint8)
        return safetensors.torch.save(tensors)

    def load(self, state: bytes) -> None:
        """Raises TrainingError where the state is not one of this plan and these columns."""
        try:
            tensors = safetensors.torch.load(state)
            self.position = Position(**json.loads(tensors["position"].numpy().tobytes()))
            self.module.load_state_dict(_under("weights.", tensors))
            self.best = _under("best.", tensors)
            moments: dict[int, dict[str, Tensor]] = {}
            for name, tensor in _under(f"{self.plan.optimizer}.", tensors).items():
                index, moment = name.split(".")
                moments.setdefault(int(index), {})[moment] = tensor
            if len(moments) != len(list(self.module.parameters())):
                raise KeyError(self.plan.optimizer)
            groups = self.optimizer.state_dict()["param_groups"]
            self.optimizer.load_state_dict({"state": moments, "param_groups": groups})
            for layer, dropout in enumerate(dropouts(self.module)):
                dropout.generator.set_state(tensors[f"dropout.{layer}"])
        except (SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
            raise TrainingError(
                "the saved training state is damaged, or of another plan or other columns: start afresh"
            ) from error


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
