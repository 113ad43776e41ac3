"""The same model trained in one process, in one autograd graph: what `splitnn.exact` must equal bit for bit.

It is the oracle of the tests, the yardstick of the benchmarks, and the trainer of the baselines (the label
holder alone; all columns pooled).
"""

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from splitnn.crossing_reference import Lines
from splitnn.errors import TrainingError
from splitnn.features import Features
from splitnn.models import Bottom, Top
from splitnn.optimizers import OPTIMIZERS
from splitnn.plan import Plan
from splitnn.schedule import Split, batches, chunks, steps_an_epoch
from splitnn.stopping import judge
from splitnn.tasks import Labels, Objective


class JoinedModel(nn.Module):
    """All parties' bottoms and the top: a list of (numeric, categorical) batches to logits."""

    def __init__(self, bottoms: Sequence[Bottom], top: Top) -> None:
        super().__init__()
        self.bottoms = nn.ModuleList(bottoms)
        self.top = top

    def forward(
        self,
        inputs: Sequence[tuple[Tensor, Tensor]],
        cross: Callable[[Sequence[Tensor]], Sequence[Tensor]] = list,
    ) -> Tensor:
        """cross: what becomes of the parties' activations between the bottoms and the top."""
        cut = [bottom(*columns) for bottom, columns in zip(self.bottoms, inputs, strict=True)]
        for activation in cut:
            if activation.requires_grad:
                # As it would come over a wire: contiguous and aligned. A GEMM may sum in another order on
                # a view into a larger gradient, and the last bit would differ.
                activation.register_hook(torch.clone)
        logits: Tensor = self.top(cross(cut))
        return logits


@dataclass(frozen=True)
class ReferenceResult:
    """As `splitnn.exact.LabelHolderResult`, with the bottom of every party by name."""

    bottoms: dict[str, Bottom]
    top: Top
    history: list[dict[str, float]]
    objective: Objective
    scores: Tensor
    labels: Tensor
    steps: int
    epochs: int
    best_epoch: int


def train(
    plan: Plan, rows: Split, features: Mapping[str, Features], labels: Labels, seeds: Mapping[str, bytes]
) -> ReferenceResult:
    """Train on all these parties' columns; the first in `features` is the label holder.

    rows, labels: as `splitnn.exact.label_holder` takes them. seeds: each party's private seed.
    Raises TrainingError where the loss is not finite, or labels leave nothing to train or evaluate by.
    """
    objective, columns = Objective(plan.task, plan.loss, labels), list(features.values())
    bottoms = {
        name: Bottom(plan, part.numeric.shape[1], part.levels, seeds[name]) for name, part in features.items()
    }
    top = Top(plan, len(bottoms), seeds[next(iter(features))], objective.outputs)
    model = JoinedModel(list(bottoms.values()), top)
    optimizer = OPTIMIZERS[plan.optimizer](model, plan.learning_rate, plan.weight_decay)
    lines = Lines(plan, {name: seeds[name] for name in features})
    history: list[dict[str, float]] = []
    best, best_epoch = copy.deepcopy(model.state_dict()), 0

    def score(part: Tensor) -> Tensor:
        model.eval()
        with torch.no_grad():
            logits = [
                model([party.batch(entities) for party in columns], lines.at(None))
                for entities in chunks(part)
            ]
        model.train()
        return objective.scores(torch.cat(logits))

    for epoch in range(plan.epochs):
        total_loss = 0.0
        order = batches(len(rows.train), plan.batch, plan.seed, epoch)
        for step, batch in enumerate(order, epoch * steps_an_epoch(len(rows.train), plan.batch) + 1):
            entities = rows.train[batch]
            loss = objective.loss(model([party.batch(entities) for party in columns], lines.at(step)), batch)
            if not math.isfinite(loss.item()):
                raise TrainingError(f"the loss is not finite in epoch {epoch + 1}: lower learning_rate")
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            total_loss += loss.item() * len(batch)
        metrics = objective.metrics(labels.validation, score(rows.validation))
        history.append({"train_loss": total_loss / len(rows.train), **metrics})
        improved, stop = judge(plan, history)
        if improved:
            best, best_epoch = copy.deepcopy(model.state_dict()), epoch + 1
        if stop:
            break
    model.load_state_dict(best)
    return ReferenceResult(
        bottoms=bottoms,
        top=model.top,
        history=history,
        objective=objective,
        scores=score(rows.test),
        labels=labels.test,
        steps=len(history) * steps_an_epoch(len(rows.train), plan.batch),
        epochs=len(history),
        best_epoch=best_epoch,
    )
