"""The `exact` schedule: synchronous training across the cut, bit-identical to `splitnn.reference`.

Each step, every feature holder sends the activation of its rows and gets the loss's gradient by it; the
label holder's own bottom is treated alike, without the wire. `docs/splitnn.md` tells the life of a batch.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from protos.rounds import Progress, Receive, Resume, Rounds, Save, Send
from splitnn.crossing import Crossing, activations, to_feature_holders, to_hub
from splitnn.errors import TrainingError
from splitnn.evaluation import be_scored, most_bytes_unscored, score
from splitnn.features import Features
from splitnn.importance import Drop, Importance, be_examined, examine
from splitnn.learner import Learner
from splitnn.local import DEFAULTS, Local
from splitnn.masks import Masks
from splitnn.models import bottom_model, top_model
from splitnn.outgoing import Outgoing
from splitnn.party_dropout import OfSets, Present, present_sets
from splitnn.plan import Plan
from splitnn.schedule import EVALUATION_ROWS, Split, batches, steps_an_epoch
from splitnn.secure_sum import LEAST, SECURE_SUM, Hidden
from splitnn.stopping import hear_verdict, is_judged, judge, tell_verdict
from splitnn.tasks import Labels, Objective


@dataclass(frozen=True)
class LabelHolderResult:
    """Both models with the best epoch's weights, and what the label holder alone may know.

    history: an entry an epoch with `train_loss` and, where it was judged, the validation metric that decided.
    objective: what the outputs mean.
    scores, labels: of the test part, in its order, as `objective.scores` and `Labels` have them.
    logits, validation_logits: of the test and of the validation part, [n, outputs].
    validation_fewer: `validation_logits` by each other set of feature holders; empty as `without` is.
    without: test scores without each feature holder, by its name; empty without `party_dropout`.
    steps: optimiser steps taken; epochs: run, of which `best_epoch` was kept.
    importance: of the parties and, if the plan says so, of their columns, on the test part.
    activations: what arrived of the first `EXAMINED` rows of the test part, [n, cut] by feature holder; only
    if `Local` says so.
    """

    bottom: nn.Module
    top: nn.Module
    history: list[dict[str, float]]
    objective: Objective
    scores: Tensor
    labels: Tensor
    logits: Tensor
    validation_logits: Tensor
    without: dict[str, Tensor]
    steps: int
    epochs: int
    best_epoch: int
    importance: Importance | None
    activations: dict[str, Tensor] = field(default_factory=dict)
    validation_fewer: dict[Present, Tensor] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        learner: Learner,
        objective: Objective,
        labels: Labels,
        logits: Tensor,
        importance: Importance | None,
        feature_holders: Sequence[str],
        steps: int,
        kept: list[list[Tensor]] | None,
    ) -> "LabelHolderResult":
        """learner: of [bottom, top], its best weights restored. logits: of the test part, as
        `WithAndWithout` has them. kept: as `score` has it, of the same."""
        bottom, top = learner.module.children()
        present, *without = map(objective.scores, logits)
        best = learner.best_logits
        validation, *fewer = best if best.ndim == 3 else [best]
        sets = present_sets(top, len(feature_holders))[1 : 1 + len(fewer)]
        arrived = [torch.cat(rows) for rows in zip(*kept or [], strict=True)][1:]
        return cls(
            bottom=bottom,
            top=top,
            history=learner.position.history,
            objective=objective,
            scores=present,
            labels=labels.test,
            logits=logits[0],
            validation_logits=validation,
            validation_fewer=dict(zip(sets, fewer, strict=True)),
            without=dict(zip(feature_holders, without, strict=bool(without))),
            steps=steps,
            epochs=learner.position.epoch,
            best_epoch=learner.position.best_epoch,
            importance=importance,
            activations=dict(zip(feature_holders, arrived, strict=bool(arrived))),
        )


@dataclass(frozen=True)
class FeatureHolderResult:
    """The bottom model with the best epoch's weights; steps, epochs, best_epoch as at the label holder.

    importance: of its own groups of columns, as far as it is told. history: an entry an epoch; `improved`,
    1 or 0, where it was judged.
    """

    bottom: nn.Module
    steps: int
    epochs: int
    best_epoch: int
    importance: tuple[Drop, ...]
    history: list[dict[str, float]] = field(default_factory=list)


def most_bytes_unanswered(plan: Plan, rows: Split) -> int:
    """The most bytes a party sends to another before it waits for an answer."""
    hidden = Hidden(plan.fixed_point, LEAST) if plan.fusion == SECURE_SUM else None  # any number: one size
    crossing, largest = Crossing(plan.codec, plan.cut, b"", "", hidden), min(plan.batch, len(rows.train))
    trained = max(crossing.activation_size(largest), crossing.gradient_size(largest))
    return max(trained, *(most_bytes_unscored(crossing, part) for part in (rows.validation, rows.test)))


def label_holder(
    plan: Plan,
    rows: Split,
    features: Features,
    labels: Labels,
    feature_holders: Sequence[str],
    seed: bytes,
    resume: Resume | None = None,
    local: Local = DEFAULTS,
) -> Rounds[LabelHolderResult]:
    """Train with these feature holders (none is allowed: the label holder alone); see the module.

    rows: of each part's examples, their places in this party's features; as many as at every other party.
    labels: of these examples.
    seed: this party's private seed. resume: a `Save` of an earlier incarnation, the same step at every party.
    local: what this party chooses by itself.
    Raises RemoteProtocolError for a malformed message and TrainingError where the loss is not finite, or
    labels leave nothing to train or evaluate by, or the plan's secure sum is not of so many.
    """
    objective = Objective(plan.task, plan.loss, labels, plan.label_defence.epsilon)
    bottom = bottom_model(plan, features.numeric.shape[1], features.levels, seed, local, features.bag_levels)
    top = top_model(plan, 1 + len(feature_holders), seed, objective.outputs, local)
    epoch_steps = steps_an_epoch(len(rows.train), plan.batch)
    outgoing = Outgoing(plan, labels, objective, feature_holders, seed)
    learner = Learner(plan, nn.ModuleList([bottom, top]), epoch_steps, local, outgoing)
    if resume is not None:
        learner.load(resume.state)
    position = learner.position
    exchanges = exchanges_an_epoch(plan, rows)
    weights = [weight for weight in top.parameters() if weight.requires_grad]
    crossings = to_feature_holders(plan, feature_holders, seed)

    while not position.stopped and position.epoch < plan.epochs:
        exchange = position.epoch * exchanges
        total_loss = 0.0
        order = batches(len(rows.train), plan.batch, plan.seed, position.epoch)
        for step, batch in enumerate(order, position.epoch * epoch_steps + 1):
            exchange += 1
            own = bottom(*features.batch(rows.train[batch]))
            leaves, cut = yield from activations(crossings, "activation", own, exchange)
            loss = objective.loss(top(cut), batch)
            value = loss.item()
            if not math.isfinite(value):
                raise TrainingError(f"the loss is not finite at step {step}: lower learning_rate in run.toml")
            # What the others wait for comes first; the top's own gradients go back the same graph below.
            torch.autograd.backward(loss, inputs=[*dict.fromkeys(leaves)], retain_graph=True)
            gradients = [
                outgoing.defended(name, gradient_of(leaf), batch, step)
                for name, leaf in zip(crossings, leaves[1:], strict=True)
            ]
            for (name, crossing), gradient in zip(crossings.items(), gradients, strict=True):
                yield Send(name, "gradient", crossing.send_gradient(gradient, exchange, step))
            if weights:
                torch.autograd.backward(loss, inputs=weights)
            outgoing.measure()
            own.backward(gradient_of(leaves[0]))
            learner.step()
            total_loss += value * len(batch)
            yield Progress("training", step, plan.epochs * epoch_steps)
        position.history.append({"train_loss": total_loss / len(rows.train), **outgoing.end_epoch()})
        improved = stop = False
        if is_judged(plan, rows, position.epoch + 1):
            views = OfSets(top, len(feature_holders))
            logits = yield from score(
                crossings, "validation", bottom, views, features, rows.validation, exchange + 1
            )
            position.history[-1] |= objective.verdict(logits[0])
            improved, stop = judge(plan, position.history)
            if improved:
                learner.best_logits = kept_logits(logits)
            yield from tell_verdict(feature_holders, improved, stop)
        learner.end_epoch(improved, stop)
        yield Save(position.epoch, learner.state)
        yield learner.epoch(rows, position.epoch * epoch_steps, epoch_steps)

    learner.restore_best()
    exchange = position.epoch * exchanges + 1
    kept: list[list[Tensor]] | None = [] if local.keep_activations and plan.fusion != SECURE_SUM else None
    logits, importance = yield from examine(
        plan, crossings, bottom, top, features, rows.test, labels.test, objective, seed, exchange, kept
    )
    steps = position.epoch * epoch_steps
    return LabelHolderResult.of(learner, objective, labels, logits, importance, feature_holders, steps, kept)


def feature_holder(
    plan: Plan,
    rows: Split,
    features: Features,
    hub: str,
    seed: bytes,
    resume: Resume | None = None,
    local: Local = DEFAULTS,
    masks: Masks | None = None,
    drawn: Callable[[bytes], None] = lambda noise: None,
) -> Rounds[FeatureHolderResult]:
    """Train this party's bottom model with the label holder `hub`; arguments and errors as there.

    masks: where the plan's fusion is a secure sum, this attempt's. drawn: told of the noise of each message
    before it leaves, as `EmbeddingDP.release` says.
    """
    bottom = bottom_model(plan, features.numeric.shape[1], features.levels, seed, local, features.bag_levels)
    epoch_steps = steps_an_epoch(len(rows.train), plan.batch)
    learner = Learner(plan, bottom, epoch_steps, local)
    if resume is not None:
        learner.load(resume.state)
    position = learner.position
    exchanges = exchanges_an_epoch(plan, rows)
    crossing = to_hub(plan, hub, seed, masks, drawn)

    while not position.stopped and position.epoch < plan.epochs:
        exchange = position.epoch * exchanges
        order = batches(len(rows.train), plan.batch, plan.seed, position.epoch)
        gathered = (features.batch(rows.train[batch]) for batch in order)
        columns = next(gathered)
        for step in range(position.epoch * epoch_steps + 1, (position.epoch + 1) * epoch_steps + 1):
            exchange += 1
            activation = bottom(*columns)
            sent, payload = crossing.send_activation(activation, exchange, step)
            yield Send(hub, "activation", payload)
            columns = next(gathered, columns)  # while the label holder computes; after the last, unused
            size = crossing.gradient_size(len(activation))
            payload = yield Receive(hub, "gradient", at_most=size)
            what = f"gradient from {hub!r}"
            gradient = crossing.receive_gradient(payload, what, len(activation), exchange)
            sent.backward(gradient)  # type: ignore[no-untyped-call]
            learner.step()
            yield Progress("training", step, plan.epochs * epoch_steps)
        improved = stop = False
        told: dict[str, float] = {}
        if is_judged(plan, rows, position.epoch + 1):
            yield from be_scored(crossing, hub, "validation", bottom, features, rows.validation, exchange + 1)
            improved, stop = yield from hear_verdict(hub, position.epoch + 1, position.best_epoch > 0)
            told = {"improved": float(improved)}
        position.history.append(told)
        learner.end_epoch(improved, stop)
        yield Save(position.epoch, learner.state)
        yield learner.epoch(rows, position.epoch * epoch_steps, epoch_steps)

    learner.restore_best()
    exchange = position.epoch * exchanges + 1
    drops = yield from be_examined(plan, crossing, hub, bottom, features, rows.test, seed, exchange)
    return FeatureHolderResult(
        bottom,
        position.epoch * epoch_steps,
        position.epoch,
        position.best_epoch,
        drops,
        position.history,
    )


def exchanges_an_epoch(plan: Plan, rows: Split) -> int:
    """Tensors that cross the cut each way at most. They are numbered: one of another step cannot pass for
    this one's. An epoch that is not judged leaves its last numbers out."""
    return steps_an_epoch(len(rows.train), plan.batch) + steps_an_epoch(len(rows.validation), EVALUATION_ROWS)


def kept_logits(views: Tensor) -> Tensor:
    """Of the best epoch, as a checkpoint has them: [sets, n, outputs], or [n, outputs] of everyone alone."""
    return views if len(views) > 1 else views[0]


def gradient_of(part: Tensor) -> Tensor:
    assert part.grad is not None
    return part.grad
