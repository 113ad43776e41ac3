"""The same model trained in one process, in one autograd graph: what `splitnn.exact` must equal bit for bit.

It is the oracle of the tests, the yardstick of the benchmarks, and the trainer of the baselines (the label
holder alone; all columns pooled).
"""

import copy
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from splitnn.crossing_reference import Lines
from splitnn.descent import Descent
from splitnn.errors import TrainingError
from splitnn.exact import exchanges_an_epoch
from splitnn.features import Features
from splitnn.importance import Importance
from splitnn.importance_reference import examine
from splitnn.local import DEFAULTS, Local
from splitnn.models import bottom_model, top_model
from splitnn.outgoing import Outgoing
from splitnn.plan import Plan
from splitnn.schedule import Split, batches, chunks, steps_an_epoch
from splitnn.stopping import is_judged, judge
from splitnn.tasks import Labels, Objective


class JoinedModel(nn.Module):
    """All parties' bottoms and the top: a list of batches of `Features` to logits."""

    def __init__(self, bottoms: Sequence[nn.Module], top: nn.Module) -> None:
        super().__init__()
        self.bottoms = nn.ModuleList(bottoms)
        self.top = top

    def forward(
        self,
        inputs: Sequence[tuple[Any, ...]],
        cross: Callable[[Sequence[Tensor]], Sequence[Tensor]] = list,
    ) -> Tensor:
        """cross: what becomes of the parties' activations between the bottoms and the top."""
        cut = [bottom(*columns) for bottom, columns in zip(self.bottoms, inputs, strict=True)]
        for activation in cut:
            if activation.requires_grad:
                # As it would come over a wire: contiguous and aligned. A GEMM may sum in another order on
                # a view into a larger gradient, and the last bit would differ.
                activation.register_hook(_contiguous)
        logits: Tensor = self.top(cross(cut))
        return logits

    def logits(
        self,
        columns: Sequence[Features],
        lines: Lines,
        part: Tensor,
        absent: int | None = None,
        number: int = 0,
    ) -> Tensor:
        """[len(part), outputs] of these entities in evaluation mode; columns: of each party.

        absent: the place of a party to do without. number: of the first chunk's exchange.
        """
        exchanges = itertools.count(number)

        def cross(cut: Sequence[Tensor]) -> list[Any]:
            arrived = enumerate(lines.at(None, exchange=next(exchanges))(cut))
            return [None if place == absent else activation for place, activation in arrived]

        self.eval()
        with torch.no_grad():
            logits = [self([party.batch(entities) for party in columns], cross) for entities in chunks(part)]
        self.train()
        return torch.cat(logits)


@dataclass(frozen=True)
class ReferenceResult:
    """As `splitnn.exact.LabelHolderResult`, with the bottom of every party by name."""

    bottoms: dict[str, nn.Module]
    top: nn.Module
    history: list[dict[str, float]]
    objective: Objective
    scores: Tensor
    labels: Tensor
    validation_logits: Tensor
    without: dict[str, Tensor]
    steps: int
    epochs: int
    best_epoch: int
    importance: Importance | None


def train(
    plan: Plan,
    rows: Split,
    features: Mapping[str, Features],
    labels: Labels,
    seeds: Mapping[str, bytes],
    choices: Mapping[str, Local] = MappingProxyType({}),
) -> ReferenceResult:
    """Train on all these parties' columns; the first in `features` is the label holder.

    rows, labels: as `splitnn.exact.label_holder` takes them. seeds: each party's private seed.
    choices: of the parties that do not take the defaults.
    Raises TrainingError where the loss is not finite, or labels leave nothing to train or evaluate by.
    """
    objective = Objective(plan.task, plan.loss, labels, plan.label_defence.epsilon)
    columns = list(features.values())
    local = {name: choices.get(name, DEFAULTS) for name in features}
    bottoms = {
        name: bottom_model(
            plan, part.numeric.shape[1], part.levels, seeds[name], local[name], part.bag_levels
        )
        for name, part in features.items()
    }
    hub, *others = features
    top = top_model(plan, len(bottoms), seeds[hub], objective.outputs, local[hub])
    model = JoinedModel(list(bottoms.values()), top)
    parties = [(nn.ModuleList([bottoms[hub], top]), local[hub])]
    parties += [(nn.ModuleList([bottoms[name]]), local[name]) for name in others]
    epoch_steps = steps_an_epoch(len(rows.train), plan.batch)
    descent = Descent(plan, parties, epoch_steps)
    outgoing = Outgoing(plan, labels, objective, others, seeds[hub])
    lines = Lines(plan, {name: seeds[name] for name in features}, outgoing)
    history: list[dict[str, float]] = []
    best, best_epoch, best_logits = copy.deepcopy(model.state_dict()), 0, torch.empty(0)
    exchanges = exchanges_an_epoch(plan, rows)

    def test_scores(absent: int | None = None) -> Tensor:
        return objective.scores(model.logits(columns, lines, rows.test, absent, len(history) * exchanges + 1))

    for epoch in range(plan.epochs):
        total_loss = 0.0
        order = batches(len(rows.train), plan.batch, plan.seed, epoch)
        for step, batch in enumerate(order, epoch * epoch_steps + 1):
            entities = rows.train[batch]
            cross = lines.at(step, batch)
            loss = objective.loss(model([party.batch(entities) for party in columns], cross), batch)
            if not math.isfinite(loss.item()):
                raise TrainingError(f"the loss is not finite at step {step}: lower learning_rate in run.toml")
            loss.backward()  # type: ignore[no-untyped-call]
            outgoing.measure()
            descent.step()
            total_loss += loss.item() * len(batch)
        history.append({"train_loss": total_loss / len(rows.train), **outgoing.end_epoch()})
        if not is_judged(plan, rows, epoch + 1):
            continue
        number = epoch * exchanges + epoch_steps + 1
        logits = model.logits(columns, lines, rows.validation, None, number)
        history[-1] |= objective.verdict(logits)
        improved, stop = judge(plan, history)
        if improved:
            best, best_epoch, best_logits = copy.deepcopy(model.state_dict()), epoch + 1, logits
        if stop:
            break
    model.load_state_dict(best)
    importance = examine(
        plan,
        [*bottoms.values()],
        top,
        features,
        lines,
        rows.test,
        labels.test,
        objective,
        seeds,
        len(history) * exchanges + 1,
    )
    return ReferenceResult(
        bottoms=bottoms,
        top=top,
        history=history,
        objective=objective,
        scores=test_scores(),
        labels=labels.test,
        validation_logits=best_logits,
        without={name: test_scores(place) for place, name in enumerate(others, 1) if plan.party_dropout},
        steps=len(history) * epoch_steps,
        epochs=len(history),
        best_epoch=best_epoch,
        importance=importance,
    )


def _contiguous(gradient: Tensor) -> Tensor:
    return gradient.clone(memory_format=torch.contiguous_format)
