"""Training over lines that lose frames and with parties that are killed: the same bits, or a typed error."""

from functools import partial
from typing import Any

import pytest
import torch

from protos.rounds import RoundsError
from protos.simulator import Faults, Simulation
from splitnn.exact import feature_holder, label_holder
from splitnn.plan import Plan

PLAN = Plan(b"public", cut=4, bottom_hidden=(8,), top_hidden=(8,), batch=32, epochs=3, dropout=0.3)


@pytest.fixture(scope="module")
def expected(make: Any) -> tuple[Any, Any]:
    federation = make.federation(100, [(3, (4,)), (2, (5, 6)), (4, ())])
    return federation, make.weights(federation.split_training(PLAN).results)


def simulate(federation: Any, seed: int, faults: Faults) -> dict[str, Any]:
    rows, seeds, (hub, *others) = federation.rows, federation.seeds, federation.features

    def hold_labels(resume: Any) -> Any:
        return label_holder(
            PLAN, rows, federation.features[hub], federation.labels, others, seeds[hub], resume
        )

    def hold_features(name: str, resume: Any) -> Any:
        return feature_holder(PLAN, rows, federation.features[name], hub, seeds[name], resume)

    parties = {hub: hold_labels, **{name: partial(hold_features, name) for name in others}}
    return Simulation(parties, hub, seed, faults).run()


@pytest.mark.parametrize("seed", range(12))
def test_the_same_bits_under_faults(make: Any, expected: tuple[Any, Any], seed: int) -> None:
    federation, weights = expected
    faults = Faults(drop=0.03, duplicate=0.1, delay=0.2, cuts=2, kills=seed % 3)
    results = simulate(federation, seed, faults)
    assert not [outcome for outcome in results.values() if isinstance(outcome, Exception)]
    ours = make.weights(results)
    assert all(torch.equal(ours[name], weights[name]) for name in weights)


def test_a_death_for_good_is_a_typed_error_at_those_who_still_need_the_dead(
    make: Any, expected: tuple[Any, Any]
) -> None:
    federation, weights = expected
    failed = 0
    for seed in range(12):
        results = simulate(federation, seed, Faults(kills=1, restarts=False))
        failures = {name: out for name, out in results.items() if isinstance(out, Exception)}
        assert all(isinstance(failure, RoundsError) for failure in failures.values())
        failed += bool(failures)
        for name in results.keys() - failures.keys():
            for key, value in results[name].bottom.state_dict().items():
                assert torch.equal(value, weights[f"{name} {key}"])
    assert failed >= 6
