"""What run.toml says of examples, model, training and so on: bounds, and that they are the plan's."""

from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import pytest

from parties.contract_training import LOSSES, Codec, Evaluation, Examples, Model, Training
from parties.document import Section, check


class Trained(Section):
    """run.toml without all that is not about training."""

    examples: Examples = Examples()
    model: Model = Model()
    training: Training = Training()
    codec: Codec = Codec()
    evaluation: Evaluation = Evaluation()


def made(**changes: Any) -> Trained:
    trained = check(Trained, changes, Path("run.toml"), faults := [])
    assert trained is not None, faults
    return trained


def faults(**changes: Any) -> list[str]:
    found: list[str] = []
    assert check(Trained, changes, Path("run.toml"), found) is None
    return [line.removeprefix("run.toml: ") for line in found]


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        (
            {"model": {"task": "ranking"}},
            "model.task: must be 'binary', 'multiclass', 'multilabel' or 'regression', not 'ranking'",
        ),
        (
            {"model": {"loss": "huber"}},
            "model.loss: must be 'cross-entropy' for this model.task, not 'huber'",
        ),
        (
            {"model": {"task": "regression", "loss": "cross-entropy"}},
            "model.loss: must be 'squared' or 'huber' or 'poisson' for this model.task, not 'cross-entropy'",
        ),
        (
            {"model": {"loss": "hinge"}},
            "model.loss: must be 'cross-entropy', 'squared', 'huber' or 'poisson', not 'hinge'",
        ),
        ({"model": {"cut": 0}}, "model.cut: must be greater than or equal to 1, not 0"),
        ({"model": {"top_hidden": [8, 0]}}, "model.top_hidden[1]: must be greater than or equal to 1, not 0"),
        ({"model": {"top_hidden": 8}}, "model.top_hidden: must be a list, not 8"),
        ({"model": {"dropout": 1}}, "model.dropout: must be less than 1, not 1"),
        ({"model": {"party_dropout": 1}}, "model.party_dropout: must be less than 1, not 1"),
        ({"model": {"dropout": float("nan")}}, "model.dropout: must be a finite number, not nan"),
        (
            {"training": {"schedule": "fast"}},
            "training.schedule: must be 'exact', 'pipelined', 'fedbcd' or 'celu', not 'fast'",
        ),
        ({"training": {"local_steps": 0}}, "training.local_steps: must be greater than or equal to 1, not 0"),
        ({"training": {"cache": 65}}, "training.cache: must be less than or equal to 64, not 65"),
        (
            {"training": {"in_flight": 2}},
            "training: in_flight has an effect with schedule = 'pipelined' or 'celu' only; remove it",
        ),
        (
            {"training": {"schedule": "pipelined", "reuse": 2}},
            "training: reuse has an effect with schedule = 'celu' only; remove it",
        ),
        (
            {"training": {"decay": 0.5}},
            "training: decay has an effect with learning_rate_schedule = 'step' only; remove it",
        ),
        ({"training": {"reuse": -1}}, "training.reuse: must be greater than or equal to 0, not -1"),
        ({"training": {"similarity": 1.5}}, "training.similarity: must be less than or equal to 1, not 1.5"),
        ({"model": {"residual": True}}, "model.residual: needs two neighbouring hidden layers of one width"),
        (
            {"model": {"top": "transformer"}},
            "model.top: must be 'mlp', 'deepfm', or a class such as my_lab.models:MyTop, not 'transformer'",
        ),
        ({"training": {"clip_norm": 0}}, "training.clip_norm: must be greater than 0, not 0"),
        ({"training": {"decay": 2}}, "training.decay: must be less than or equal to 1, not 2"),
        ({"training": {"optimizer": "lion"}}, "training.optimizer: must be 'adam' or 'sgd', not 'lion'"),
        ({"training": {"learning_rate": 0}}, "training.learning_rate: must be greater than 0, not 0"),
        ({"training": {"learning_rate": "1"}}, "training.learning_rate: must be a number, not '1'"),
        ({"training": {"batch": 0}}, "training.batch: must be greater than or equal to 1, not 0"),
        (
            {"training": {"batch": 10**9}},
            f"training.batch: must be less than or equal to {1 << 20}, not {10**9}",
        ),
        ({"training": {"epochs": 1.0}}, "training.epochs: must be a whole number, not 1.0"),
        ({"evaluation": {"test": 0}}, "evaluation.test: must be greater than 0, not 0"),
        (
            {"evaluation": {"validation": 0.5, "test": 0.5}},
            "evaluation.test: evaluation.validation and evaluation.test must add up to less than 1",
        ),
        ({"evaluation": {"every": 0}}, "evaluation.every: must be 'auto', or 1 to 100000, not 0"),
        ({"evaluation": {"every": "often"}}, "evaluation.every: must be 'auto', or 1 to 100000, not 'often'"),
        (
            {"evaluation": {"validation": 0.9}},
            "evaluation.test: evaluation.validation and evaluation.test must add up to less than 1",
        ),
        ({"examples": {"per_entity": "many"}}, "examples.per_entity: must be 'one' or 'several', not 'many'"),
        (
            {"examples": {"at_most": 1 << 28}},
            f"examples.at_most: must be less than or equal to {1 << 27}, not {1 << 28}",
        ),
    ],
    ids=str,
)
def test_bounds(changes: dict[str, Any], line: str) -> None:
    assert faults(**changes) == [line]


def test_defaults_are_those_of_the_plan() -> None:
    """parties.contract_training spells them out, so that reading a file need not import torch."""
    from splitnn.crossing import ACTIVATION_CODECS, GRADIENT_CODECS
    from splitnn.optimizers import OPTIMIZERS
    from splitnn.plan import IMPORTANCE, Plan
    from splitnn.tasks import TASKS

    ours = Model().model_dump() | Training().model_dump(exclude={"warm_start"})
    plan = Plan(seed=b"")
    assert Evaluation().every == "auto"
    ours |= {"every": None, "importance": Evaluation().importance}
    later = ("seed", "codec", "fixed_point", "label_defence", "embedding")  # no keys of these sections
    ours |= {name: getattr(plan, name) for name in later}
    assert ours == {field.name: getattr(plan, field.name) for field in fields(Plan)}
    assert Codec().model_dump() == asdict(plan.codec)
    for name in ACTIVATION_CODECS:
        keep = 3 if name == "randtopk" else None
        assert made(codec={"activations": name, "keep": keep}).codec.activations == name
    assert {made(codec={"gradients": name}).codec.gradients for name in GRADIENT_CODECS} == {*GRADIENT_CODECS}
    assert {task: tuple(losses) for task, losses in TASKS.items()} == LOSSES
    for task, losses in LOSSES.items():
        assert made(model={"task": task}).model.loss == losses[0]
        assert [made(model={"task": task, "loss": loss}).model.loss for loss in losses] == [*losses]
    assert {made(training={"optimizer": name}).training.optimizer for name in OPTIMIZERS} == {*OPTIMIZERS}
    levels = {made(evaluation={"importance": name}).evaluation.importance for name in IMPORTANCE}
    assert levels == {*IMPORTANCE}


def test_codecs_that_do_not_fit() -> None:
    assert "'fp32', 'bf16', 'int8' or 'randtopk', not 'zfp'" in faults(codec={"activations": "zfp"})[0]
    assert "'fp32', 'bf16' or 'int8', not 'randtopk'" in faults(codec={"gradients": "randtopk"})[0]
    assert faults(codec={"activations": "randtopk"}) == [
        "codec.keep: is required where codec.activations is randtopk"
    ]
    assert faults(codec={"keep": 3}) == ["codec.keep: has no use where codec.activations is fp32; remove it"]
