"""The `pipelined` schedule: up to `in_flight` batches under way at once, so that a line's delay is shared.

Which weights each number is computed from is fixed, so that the result does not depend on timing. Let w_t be
a feature holder's weights after t steps, v_t the label holder's, and k = in_flight. Step t (from 1):
- the activation of batch t is computed at w_(t-k), at w_0 while t <= k: it is k - 1 steps stale;
- the label holder computes loss and gradients from it, and its own activation, at v_(t-1), then steps to v_t;
- the feature holder pulls that gradient back through its bottom at w_(t-1), on the same dropout masks.
With k = 1 this is `splitnn.exact`. `splitnn.pipelined_reference` is the same in one process, bit for bit.

At an epoch's end nobody waits: the validation rows are scored by the w and v of that moment when they come
by, and the verdict is there k - 1 steps into the next epoch; then comes `Save`.
"""

import math
import struct
from collections import deque
from collections.abc import Sequence
from functools import partial
from itertools import islice

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.func import functional_call

from protos.rounds import Progress, Receive, Resume, Rounds, Save, Send
from splitnn.crossing import Crossing, activations
from splitnn.errors import TrainingError
from splitnn.evaluation import be_scored, score
from splitnn.exact import FeatureHolderResult, LabelHolderResult
from splitnn.features import Features
from splitnn.learner import Learner, copied
from splitnn.local import DEFAULTS, Local
from splitnn.models import bottom_model, generators, top_model
from splitnn.party_dropout import WithAndWithout
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
    objective, window = Objective(plan.task, plan.loss, labels), Window.of(plan, rows)

    def models() -> tuple[nn.Module, nn.Module]:
        return (
            bottom_model(plan, features.numeric.shape[1], features.levels, seed, local, features.bag_levels),
            top_model(plan, 1 + len(feature_holders), seed, objective.outputs, local),
        )

    bottom, top = models()
    learner = Learner(plan, nn.ModuleList([bottom, top]), window.epoch_steps, local)
    judged = nn.ModuleList(models())  # with the weights at the end of the last epoch to judge
    train_loss = total_loss = 0.0
    if resume is not None:
        (total_loss,) = struct.unpack("<d", _load(learner, resume.state, ["total_loss"])["total_loss"])
    position = learner.position
    step = window.judged_after(position.epoch)
    order = training_batches(plan, rows, step)

    crossings = {name: Crossing(plan.codec, plan.cut, seed, name) for name in feature_holders}

    while not position.stopped and position.epoch < plan.epochs:
        while step < window.judged_after(position.epoch + 1):
            step += 1
            batch = next(order)
            own = bottom(*features.batch(rows.train[batch]))
            leaves, cut = yield from activations(crossings, "activation", own, step)
            loss = objective.loss(top(cut), batch)
            value = loss.item()
            if not math.isfinite(value):
                raise TrainingError(f"the loss is not finite at step {step}: lower learning_rate in run.toml")
            loss.backward()  # type: ignore[no-untyped-call]
            for (name, crossing), leaf in zip(crossings.items(), leaves[1:], strict=True):
                assert leaf.grad is not None
                yield Send(name, "gradient", crossing.send_gradient(leaf.grad, step, step))
            own.backward(leaves[0].grad)
            learner.step()
            total_loss += value * len(batch)
            if step % window.epoch_steps == 0:
                if is_judged(plan, rows, position.epoch + 1):
                    judged.load_state_dict(learner.module.state_dict())
                train_loss, total_loss = total_loss / len(rows.train), 0.0
            yield Progress("training", step, window.steps)
        position.history.append({"train_loss": train_loss})
        improved = stop = False
        if is_judged(plan, rows, position.epoch + 1):
            number = 1 + position.epoch * steps_an_epoch(len(rows.validation), EVALUATION_ROWS)
            logits = yield from score(
                crossings,
                "validation",
                judged[0],
                judged[1],
                features,
                rows.validation,
                number,
                acknowledged=False,
            )
            position.history[-1] |= objective.judged_by(labels.validation, logits)
            improved, stop = judge(plan, position.history)
            yield from tell_verdict(feature_holders, improved, stop)
        learner.end_epoch(improved, stop, judged.state_dict())
        if stop:
            for batch in islice(order, window.sent_after(step) - step):
                for name, crossing in crossings.items():  # what was under way: nobody trains on it
                    yield Receive(name, "activation", at_most=crossing.activation_size(len(batch)))
        begun = struct.pack("<d", total_loss)
        yield Save(position.epoch, partial(_state, learner, {"total_loss": begun}))

    learner.restore_best()
    logits = yield from score(crossings, "test", bottom, WithAndWithout(top), features, rows.test, 1)
    return LabelHolderResult.of(learner, objective, labels, logits, feature_holders, step)


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
    crossing = Crossing(plan.codec, plan.cut, seed, hub)
    judged: dict[str, Tensor] = {}
    sent: deque[tuple[Tensor, bytes]] = deque()  # of each batch under way: its entities, and the message
    step = 0
    if resume is not None:
        kept = _load(learner, resume.state, ["sent"])["sent"]
        step = window.judged_after(learner.position.epoch)
        for draws, drawn in zip(generators(ahead), generators(bottom), strict=True):
            draws.set_state(drawn.get_state())
    position = learner.position
    order = training_batches(plan, rows, step)
    if resume is not None:
        for batch in islice(order, 0 if position.stopped else window.sent_after(step) - step):
            size = crossing.activation_size(len(batch))
            message, kept = kept[:size], kept[size:]
            sent.append((rows.train[batch], message))
            stale_activation(ahead, bottom, features, rows.train[batch])  # for the masks that it draws
            yield Send(hub, "activation", message)

    def send_ahead() -> Rounds[None]:
        while step + len(sent) < window.sent_after(step):
            entities = rows.train[next(order)]
            activation = stale_activation(ahead, bottom, features, entities)
            number = step + len(sent) + 1
            _, message = crossing.send_activation(activation, number, number)
            sent.append((entities, message))
            yield Send(hub, "activation", message)

    while not position.stopped and position.epoch < plan.epochs:
        yield from send_ahead()
        while step < window.judged_after(position.epoch + 1):
            entities, message = sent[0]
            payload = yield Receive(hub, "gradient", at_most=crossing.gradient_size(len(entities)))
            gradient = crossing.receive_gradient(payload, f"gradient from {hub!r}", len(entities), step + 1)
            sent.popleft()
            step += 1
            fresh = crossing.crossed_before(bottom(*features.batch(entities)), message, step)
            fresh.backward(gradient)  # type: ignore[no-untyped-call]
            learner.step()
            if step % window.epoch_steps == 0 and is_judged(plan, rows, position.epoch + 1):
                judged = copied(bottom.state_dict())
                number = 1 + position.epoch * steps_an_epoch(len(rows.validation), EVALUATION_ROWS)
                yield from be_scored(
                    crossing, hub, "validation", bottom, features, rows.validation, number, acknowledged=False
                )
            yield from send_ahead()
            yield Progress("training", step, window.steps)
        improved = stop = False
        if is_judged(plan, rows, position.epoch + 1):
            improved, stop = yield from hear_verdict(hub, position.epoch + 1, position.best_epoch > 0)
        learner.end_epoch(improved, stop, judged)
        messages = b"".join(message for _, message in sent)
        yield Save(position.epoch, partial(_state, learner, {"sent": messages}))

    learner.restore_best()
    yield from be_scored(crossing, hub, "test", bottom, features, rows.test, 1)
    return FeatureHolderResult(bottom, step, position.epoch, position.best_epoch)


def _state(learner: Learner, more: dict[str, bytes]) -> bytes:
    """The learner's state and what else the next steps depend on, as safetensors."""
    parts = {"learner": learner.state(), **more}
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
