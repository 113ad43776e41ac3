"""The `pipelined` schedule in one process: what `splitnn.pipelined` must equal bit for bit."""

import copy
import math
from collections import deque
from collections.abc import Mapping
from types import MappingProxyType

from torch import Tensor, nn

from splitnn.crossing import Crossing
from splitnn.crossing_reference import Lines
from splitnn.descent import Descent
from splitnn.errors import TrainingError
from splitnn.features import Features
from splitnn.importance_reference import examine
from splitnn.local import DEFAULTS, Local
from splitnn.local_steps import Cache, Exchanged, learn_again, pull_back_again, streams
from splitnn.models import bottom_model, top_model
from splitnn.outgoing import Outgoing
from splitnn.pipelined import gradients, stale_activation
from splitnn.plan import Plan
from splitnn.reference import JoinedModel, ReferenceResult
from splitnn.schedule import Split
from splitnn.stopping import is_judged, judge
from splitnn.tasks import Labels, Objective
from splitnn.window import Window, training_batches


def train(
    plan: Plan,
    rows: Split,
    features: Mapping[str, Features],
    labels: Labels,
    seeds: Mapping[str, bytes],
    choices: Mapping[str, Local] = MappingProxyType({}),
) -> ReferenceResult:
    """As `splitnn.reference.train`, with the weights that `splitnn.pipelined` states for each number."""
    objective = Objective(plan.task, plan.loss, labels, plan.label_defence.epsilon)
    window = Window.of(plan, rows)
    columns, local = list(features.values()), {name: choices.get(name, DEFAULTS) for name in features}
    hub, *others = features

    def bottoms() -> dict[str, nn.Module]:
        return {
            name: bottom_model(
                plan, part.numeric.shape[1], part.levels, seeds[name], local[name], part.bag_levels
            )
            for name, part in features.items()
        }

    bottom, ahead = bottoms(), bottoms()
    top = top_model(plan, len(bottom), seeds[hub], objective.outputs, local[hub])
    model = JoinedModel(list(bottom.values()), top)
    parties = [(nn.ModuleList([bottom[hub], top]), local[hub])]
    parties += [(nn.ModuleList([bottom[name]]), local[name]) for name in others]
    descent = Descent(plan, parties, window.epoch_steps)
    sending, learning = training_batches(plan, rows, 0), training_batches(plan, rows, 0)
    up = {name: Crossing(plan.codec, plan.cut, seeds[name], hub) for name in others}
    down = {name: Crossing(plan.codec, plan.cut, seeds[hub], name) for name in others}
    sent: deque[dict[str, bytes]] = deque()  # the feature holders' messages of each batch under way
    caches = {name: Cache(plan) for name in features}
    similarity = caches[hub].similarity
    outgoing = Outgoing(plan, labels, objective, others, seeds[hub])
    lines = Lines(plan, {name: seeds[name] for name in features})
    history: list[dict[str, float]] = []
    best, best_epoch, stop = copy.deepcopy(model.state_dict()), 0, False
    total_loss = 0.0
    step = 0

    def test_scores(absent: int | None = None) -> Tensor:
        return objective.scores(model.logits(columns, lines, rows.test, absent))

    while step < window.steps and not stop:
        while step + len(sent) < window.sent_after(step):
            entities = rows.train[next(sending)]
            number, messages = step + len(sent) + 1, {}
            for name in others:
                stale = stale_activation(ahead[name], bottom[name], features[name], entities)
                messages[name] = up[name].send_activation(stale, number, number)[1]
            sent.append(messages)
        step += 1
        batch, messages = next(learning), sent.popleft()
        masks = {name: streams(module) for name, (module, _) in zip(features, parties, strict=True)}
        entities = rows.train[batch]
        fresh = {name: bottom[name](*party.batch(entities)) for name, party in features.items()}
        own = fresh[hub].detach().requires_grad_()
        arrived = {
            name: down[name].receive_activation(messages[name], name, len(batch), step) for name in others
        }
        loss = objective.loss(top([own, *(activation for _, activation in arrived.values())]), batch)
        if not math.isfinite(loss.item()):
            raise TrainingError(f"the loss is not finite at step {step}: lower learning_rate in run.toml")
        loss.backward()  # type: ignore[no-untyped-call]
        fresh[hub].backward(own.grad)
        answers: dict[str, bytes] = {}
        clean = gradients(arrived, [leaf for leaf, _ in arrived.values()])
        left = {name: outgoing.defended(name, clean[name], batch, step) for name in clean}
        for name in arrived:
            answers[name] = down[name].send_gradient(left[name], step, step)
            gradient = up[name].receive_gradient(answers[name], name, len(batch), step)
            crossed = up[name].crossed_before(fresh[name], messages[name], step)
            crossed.backward(gradient)  # type: ignore[no-untyped-call]
        descent.step()
        outgoing.measure()
        computed = answers
        if outgoing.defence.noisy:
            computed = {name: down[name].send_gradient(clean[name], step, step) for name in clean}
        exchanged = {hub: Exchanged(step, batch, messages, computed, masks[hub])}
        for name in others:
            to_and_fro = {hub: messages[name]}, {hub: answers[name]}
            exchanged[name] = Exchanged(step, batch, *to_and_fro, masks[name])
        turns = (cache.turns(exchanged[name]) for name, cache in caches.items())
        for again, *theirs in zip(*turns, strict=True):
            columns_again = {name: party.batch(rows.train[again.batch]) for name, party in features.items()}
            learn_again(bottom[hub], top, objective, columns_again[hub], down, again, similarity)
            for name, kept in zip(others, theirs, strict=True):
                pull_back_again(bottom[name], columns_again[name], up[name], kept, similarity)
            descent.step(local=True)
        total_loss += loss.item() * len(batch)
        if step % window.epoch_steps == 0:
            history.append({"train_loss": total_loss / len(rows.train), **outgoing.end_epoch()})
            total_loss = 0.0
            if not is_judged(plan, rows, len(history)):
                continue
            logits = model.logits(columns, lines, rows.validation)
            history[-1] |= objective.verdict(logits)
            improved, stop = judge(plan, history)
            if improved:
                best, best_epoch = copy.deepcopy(model.state_dict()), len(history)
    model.load_state_dict(best)
    importance = examine(
        plan, [*bottom.values()], top, features, lines, rows.test, labels.test, objective, seeds
    )
    return ReferenceResult(
        bottoms=bottom,
        top=top,
        history=history,
        objective=objective,
        scores=test_scores(),
        labels=labels.test,
        validation_logits=model.logits(columns, lines, rows.validation),
        without={name: test_scores(place) for place, name in enumerate(others, 1) if plan.party_dropout},
        steps=window.judged_after(len(history)),  # the steps after an early stop moved nothing that is kept
        epochs=len(history),
        best_epoch=best_epoch,
        importance=importance,
    )
