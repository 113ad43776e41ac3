"""What the label holder received of the test rows is in its result where it asks for it, and only there."""

from typing import Any

import pytest
import torch

from protos.memory import together
from splitnn.evaluation import EXAMINED
from splitnn.local import Local
from splitnn.plan import Plan


@pytest.mark.parametrize("schedule", ["exact", "pipelined"])
@pytest.mark.parametrize("importance", ["none", "parties"])
def test_they_are_those_of_the_kept_weights(make: Any, schedule: str, importance: str) -> None:
    federation = make.federation(200, [(3, (4,)), (2, (5, 6)), (1, ())])
    plan = Plan(b"public", cut=4, batch=32, epochs=2, schedule=schedule, importance=importance)
    asked = together(federation.protocols(plan, choices={"p0": Local(keep_activations=True)})).results
    make.assert_same(asked, federation.reference(plan))
    assert [*asked["p0"].activations] == ["p1", "p2"]
    for name in ("p1", "p2"):
        with torch.no_grad():
            sent = asked[name].bottom.eval()(*federation.features[name].batch(federation.rows.test))
        assert torch.equal(asked["p0"].activations[name], sent)
        assert not asked["p0"].activations[name].requires_grad
    assert federation.split_training(plan).results["p0"].activations == {}
    assert len(federation.rows.test) < EXAMINED
