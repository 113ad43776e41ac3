"""The schedules for slow lines: `pipelined`, `fedbcd` and `celu`.

`pipelined` has up to `in_flight` batches under way at once, so that a line's delay is shared. `fedbcd` takes
steps between exchanges, on what crossed last; `celu` has both, and a cache: `splitnn.local_steps`.

Which weights each number is computed from is fixed, so that the result does not depend on timing. Let w_t be
a feature holder's weights after t steps, v_t the label holder's, and k = in_flight. Step t (from 1):
- the activation of batch t is computed at w_(t-k), at w_0 while t <= k: it is k - 1 steps stale;
- the label holder computes loss and gradients from it, and its own activation, at v_(t-1), then steps to v_t;
- the feature holder pulls that gradient back through its bottom at w_(t-1), on the same dropout masks.
A step's local steps come right after it: w_t and v_t are the weights after them. With k = 1 and no local
steps this is `splitnn.exact`. `splitnn.pipelined_reference` is the same in one process, bit for bit.

At an epoch's end nobody waits: the validation rows are scored by the w and v of that moment when they come
by, and the verdict is there k - 1 steps into the next epoch; then comes `Save`.
"""

import math
import struct
from collections import deque
from collections.abc import Iterable, Sequence
from functools import partial
from itertools import islice

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.func import functional_call

from protos.rounds import Progress, Receive, Resume, Rounds, Save, Send
from splitnn.crossing import arrived, receive_each, to_feature_holders, to_hub
from splitnn.errors import TrainingError
from splitnn.evaluation import be_scored, score
from splitnn.exact import FeatureHolderResult, LabelHolderResult, gradient_of, kept_logits
from splitnn.features import Features
from splitnn.importance import be_examined, examine
from splitnn.learner import Learner, copied
from splitnn.local import DEFAULTS, Local
from splitnn.local_steps import Cache, Exchanged, learn_again, pull_back_again, streams
from splitnn.models import bottom_model, generators, top_model
from splitnn.outgoing import Outgoing
from splitnn.party_dropout import OfSets
from splitnn.plan import Plan
from splitnn.schedule import EVALUATION_ROWS, Split, steps_an_epoch
from splitnn.stopping import hear_verdict, is_judged, judge, tell_verdict
from splitnn.tasks import Labels, Objective
from splitnn.window import Window, training_batches


def stale_activation(ahead: nn.Module, bottom: nn.Module, features: Features, entities: Tensor) -> Tensor:
    """The activation by the weights that `bottom` has now, which will have changed when its gradient comes.

    ahead: a second model of the same seed. It runs ahead of `bottom` by the batches under way, so that both
    draw the same dropout masks for the same batch. It learns nothing, and its own weights are not used.
    """
    weights = dict(bottom.named_parameters())
    statistics = {name: buffer.clone() for name, buffer in bottom.named_buffers()}  # it keeps none
    with torch.no_grad():
        activation: Tensor = functional_call(ahead, weights | statistics, features.batch(entities))
    return activation


def gradients(peers: Iterable[str], leaves: Sequence[Tensor]) -> dict[str, Tensor]:
    """Of the loss by what each of these feature holders sent."""
    return {name: gradient_of(leaf) for name, leaf in zip(peers, leaves, strict=True)}


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
    """As `splitnn.exact.label_holder`. `steps` counts the in_flight - 1 that stopping early throws away."""
    objective = Objective(plan.task, plan.loss, labels, plan.label_defence.epsilon)
    window = Window.of(plan, rows)

    def models() -> tuple[nn.Module, nn.Module]:
        return (
            bottom_model(plan, features.numeric.shape[1], features.levels, seed, local, features.bag_levels),
            top_model(plan, 1 + len(feature_holders), seed, objective.outputs, local),
        )

    bottom, top = models()
    outgoing = Outgoing(plan, labels, objective, feature_holders, seed)
    learner = Learner(plan, nn.ModuleList([bottom, top]), window.epoch_steps, local, outgoing)
    judged = nn.ModuleList(models())  # with the weights at the end of the last epoch to judge
    crossings = to_feature_holders(plan, feature_holders, seed)
    cache = Cache(plan)
    told: dict[str, float] = {}
    total_loss = 0.0
    step = 0
    if resume is not None:
        parts = _load(learner, resume.state, ["total_loss", "cache"])
        step = window.judged_after(learner.position.epoch)
        (total_loss,) = struct.unpack("<d", parts["total_loss"])
        cache.load(parts["cache"], step, rows, crossings, learner.module)
    position = learner.position
    order = training_batches(plan, rows, step)

    while not position.stopped and position.epoch < plan.epochs:
        while step < window.judged_after(position.epoch + 1):
            step += 1
            batch = next(order)
            masks = streams(learner.module)
            own = bottom(*features.batch(rows.train[batch]))
            up = yield from receive_each(crossings, "activation", len(own))
            leaves, cut = arrived(crossings, "activation", up, own, step)
            loss = objective.loss(top(cut), batch)
            value = loss.item()
            if not math.isfinite(value):
                raise TrainingError(f"the loss is not finite at step {step}: lower learning_rate in run.toml")
            loss.backward()  # type: ignore[no-untyped-call]
            clean = gradients(crossings, leaves[1:])
            left = {name: outgoing.defended(name, clean[name], batch, step) for name in clean}
            down: dict[str, bytes] = {}
            for name, crossing in crossings.items():
                down[name] = crossing.send_gradient(left[name], step, step)
                yield Send(name, "gradient", down[name])
            outgoing.measure()
            own.backward(leaves[0].grad)
            learner.step()
            if outgoing.defence.noisy:  # rows are weighed by how like the loss's own gradient still is
                down = {name: crossings[name].send_gradient(clean[name], step, step) for name in clean}
            for again in cache.turns(Exchanged(step, batch, up, down, masks)):
                columns = features.batch(rows.train[again.batch])
                learn_again(bottom, top, objective, columns, crossings, again, cache.similarity)
                learner.step(local=True)
            total_loss += value * len(batch)
            if step % window.epoch_steps == 0:
                if is_judged(plan, rows, position.epoch + 1):
                    judged.load_state_dict(learner.module.state_dict())
                told, total_loss = {"train_loss": total_loss / len(rows.train), **outgoing.end_epoch()}, 0.0
            yield Progress("training", step, window.steps)
        position.history.append(told)
        improved = stop = False
        if is_judged(plan, rows, position.epoch + 1):
            number = 1 + position.epoch * steps_an_epoch(len(rows.validation), EVALUATION_ROWS)
            logits = yield from score(
                crossings,
                "validation",
                judged[0],
                OfSets(judged[1], len(feature_holders)),
                features,
                rows.validation,
                number,
                acknowledged=False,
            )
            position.history[-1] |= objective.verdict(logits[0])
            improved, stop = judge(plan, position.history)
            if improved:
                learner.best_logits = kept_logits(logits)
            yield from tell_verdict(feature_holders, improved, stop)
        learner.end_epoch(improved, stop, judged.state_dict())
        if stop:
            for batch in islice(order, window.sent_after(step) - step):
                for name, crossing in crossings.items():  # what was under way: nobody trains on it
                    yield Receive(name, "activation", at_most=crossing.activation_size(len(batch)))
        begun = struct.pack("<d", total_loss)
        yield Save(position.epoch, partial(_state, learner, cache, {"total_loss": begun}))
        yield learner.epoch(rows, step, window.epoch_steps)

    learner.restore_best()
    kept: list[list[Tensor]] | None = [] if local.keep_activations else None
    logits, importance = yield from examine(
        plan, crossings, bottom, top, features, rows.test, labels.test, objective, seed, 1, kept
    )
    return LabelHolderResult.of(learner, objective, labels, logits, importance, feature_holders, step, kept)


def feature_holder(
    plan: Plan,
    rows: Split,
    features: Features,
    hub: str,
    seed: bytes,
    resume: Resume | None = None,
    local: Local = DEFAULTS,
) -> Rounds[FeatureHolderResult]:
    """As `splitnn.exact.feature_holder`."""
    window, width = Window.of(plan, rows), features.numeric.shape[1]
    bottom, ahead = (
        bottom_model(plan, width, features.levels, seed, local, features.bag_levels) for _ in range(2)
    )
    learner = Learner(plan, bottom, window.epoch_steps, local)
    crossing = to_hub(plan, hub, seed, None)
    judged: dict[str, Tensor] = {}
    cache = Cache(plan)
    sent: deque[tuple[Tensor, bytes]] = deque()  # each batch under way, and its message
    step = 0
    if resume is not None:
        parts = _load(learner, resume.state, ["sent", "cache"])
        kept = parts["sent"]
        step = window.judged_after(learner.position.epoch)
        for draws, drawn in zip(generators(ahead), generators(bottom), strict=True):
            draws.set_state(drawn.get_state())
        cache.load(parts["cache"], step, rows, {hub: crossing}, bottom)
    position = learner.position
    order = training_batches(plan, rows, step)
    if resume is not None:
        for batch in islice(order, 0 if position.stopped else window.sent_after(step) - step):
            size = crossing.activation_size(len(batch))
            message, kept = kept[:size], kept[size:]
            sent.append((batch, message))
            stale_activation(ahead, bottom, features, rows.train[batch])  # for the masks that it draws
            yield Send(hub, "activation", message)

    def send_ahead() -> Rounds[None]:
        while step + len(sent) < window.sent_after(step):
            batch = next(order)
            activation = stale_activation(ahead, bottom, features, rows.train[batch])
            number = step + len(sent) + 1
            _, message = crossing.send_activation(activation, number, number)
            sent.append((batch, message))
            yield Send(hub, "activation", message)

    while not position.stopped and position.epoch < plan.epochs:
        yield from send_ahead()
        while step < window.judged_after(position.epoch + 1):
            batch, message = sent[0]
            payload = yield Receive(hub, "gradient", at_most=crossing.gradient_size(len(batch)))
            gradient = crossing.receive_gradient(payload, f"gradient from {hub!r}", len(batch), step + 1)
            sent.popleft()
            step += 1
            masks = streams(bottom)
            activation = bottom(*features.batch(rows.train[batch]))
            fresh = crossing.crossed_before(activation, message, step)
            fresh.backward(gradient)  # type: ignore[no-untyped-call]
            learner.step()
            for again in cache.turns(Exchanged(step, batch, {hub: message}, {hub: payload}, masks)):
                columns = features.batch(rows.train[again.batch])
                pull_back_again(bottom, columns, crossing, again, cache.similarity)
                learner.step(local=True)
            if step % window.epoch_steps == 0 and is_judged(plan, rows, position.epoch + 1):
                judged = copied(bottom.state_dict())
                number = 1 + position.epoch * steps_an_epoch(len(rows.validation), EVALUATION_ROWS)
                yield from be_scored(
                    crossing, hub, "validation", bottom, features, rows.validation, number, acknowledged=False
                )
            yield from send_ahead()
            yield Progress("training", step, window.steps)
        improved = stop = False
        told: dict[str, float] = {}
        if is_judged(plan, rows, position.epoch + 1):
            improved, stop = yield from hear_verdict(hub, position.epoch + 1, position.best_epoch > 0)
            told = {"improved": float(improved)}
        position.history.append(told)
        learner.end_epoch(improved, stop, judged)
        messages = b"".join(message for _, message in sent)
        yield Save(position.epoch, partial(_state, learner, cache, {"sent": messages}))
        yield learner.epoch(rows, step, window.epoch_steps)

    learner.restore_best()
    drops = yield from be_examined(plan, crossing, hub, bottom, features, rows.test, seed, 1)
    return FeatureHolderResult(bottom, step, position.epoch, position.best_epoch, drops, position.history)


def _state(learner: Learner, cache: Cache, more: dict[str, bytes]) -> bytes:
    """The learner's state and what else the next steps depend on, as safetensors."""
    parts = {"learner": learner.state(), "cache": cache.state(), **more}
    return safetensors.torch.save(
        {name: torch.frombuffer(bytearray(part + b"."), dtype=torch.uint8) for name, part in parts.items()}
    )


def _load(learner: Learner, state: bytes, more: Sequence[str]) -> dict[str, bytes]:
    """Load the learner; returns the rest. Raises TrainingError for what is not a state of this plan."""
    try:
        tensors = safetensors.torch.load(state)
        parts = {name: tensors[name].numpy().tobytes()[:-1] for name in ("learner", *more)}
    except (SafetensorError, KeyError) as error:
        raise TrainingError(
            "the saved training state is damaged, or of another schedule: start afresh"
        ) from error
    learner.load(parts["learner"])
    return parts
