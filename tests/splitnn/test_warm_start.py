"""Training that starts from earlier weights: the reference's bits, from where the earlier training ended."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from protos.memory import together
from splitnn.errors import TrainingError
from splitnn.local import Local
from splitnn.plan import Plan
from splitnn.secure_sum import SECURE_SUM

COLUMNS = [(3, (4,), (9,)), (2, (5, 6)), (4, ())]
BASE = Plan(b"public", cut=4, bottom_hidden=(8,), top_hidden=(8,), batch=32, epochs=2, dropout=0.3)


@pytest.mark.parametrize(
    "choice",
    [
        {},
        {"schedule": "pipelined", "in_flight": 3},
        {"schedule": "celu", "in_flight": 2},
        {"fusion": SECURE_SUM, "importance": "none"},
        {"party_dropout": 0.3},
    ],
    ids=str,
)
def test_split_training_from_earlier_weights_equals_the_reference(make: Any, choice: dict[str, Any]) -> None:
    federation, plan = make.federation(150, COLUMNS), replace(BASE, **choice)
    results = []
    for warm in ({}, federation.warm(plan, {}), federation.warm(plan, {}, b"other")):
        results.append(make.weights(together(federation.protocols(plan, choices=warm)).results))
        if plan.fusion != SECURE_SUM:  # whose reference sums otherwise, and is tested by itself
            make.assert_same(
                together(federation.protocols(plan, choices=warm)).results, federation.reference(plan, warm)
            )
    cold, one, other = results
    for name in (name for name in one if one[name].numel()):
        assert not torch.equal(cold[name], one[name])
        assert not torch.equal(other[name], one[name])


def test_the_first_activation_is_the_earlier_models(make: Any) -> None:
    """With a learning rate of nearly nothing the weights stay those that training began with."""
    federation, plan = make.federation(150, COLUMNS), replace(BASE, learning_rate=1e-30, weight_decay=0.0)
    warm = federation.warm(plan, {})
    results = together(federation.protocols(plan, choices=warm)).results
    for name, local in warm.items():
        held = results[name].bottom.state_dict()
        assert all(torch.equal(one, local.warm[f"bottom.{key}"]) for key, one in held.items())
    top = results["p0"].top.state_dict()
    assert all(torch.equal(one, warm["p0"].warm[f"top.{key}"]) for key, one in top.items())


@pytest.mark.parametrize(
    ("half", "other"), [("bottom", {"bottom_hidden": (9,)}), ("top", {"top_hidden": (9,)})]
)
def test_weights_of_other_layers_are_refused(make: Any, half: str, other: dict[str, Any]) -> None:
    federation = make.federation(150, COLUMNS)
    warm = federation.warm(replace(BASE, **other), {})
    with pytest.raises(
        TrainingError, match=f"the {half} model has other layers than the weights to start from"
    ):
        together(federation.protocols(BASE, choices=warm))


def test_choices_are_told_apart_without_the_weights() -> None:
    assert Local(warm={"bottom.a": torch.zeros(3)}) == Local(warm={"bottom.a": torch.ones(2)}) == Local()
    assert hash(Local()) == hash(Local(warm={"bottom.a": torch.zeros(1)}))
