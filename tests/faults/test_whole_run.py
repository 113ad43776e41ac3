"""The whole run (handshake, PSI, training) under the seeded simulator: the same weights to the bit, or a
typed error; never a hang. A failing seed is reproduced by `outcome(SEED, Faults.drawn(SEED))`.
"""

import random
from collections.abc import Callable, Iterator

import pytest
import torch

from parties.phases import Outcome, Prepared, plan_of, whole_run
from parties.results import weights
from protos.rounds import Rounds, RoundsError
from protos.simulator import Faults, Simulation

PEOPLE = [f"person{i}@mail.example" for i in range(120)]
SEEDS = 600
BLOCKS = 20


@pytest.fixture(scope="module")
def outcome(
    prepared: dict[str, Prepared],
) -> Iterator[Callable[[int, Faults], dict[str, Outcome | Exception]]]:
    def start(name: str) -> Rounds[Outcome]:
        return whole_run(prepared[name], clock=lambda: 0.0, random=random.Random(name).randbytes)

    def simulate(seed: int, faults: Faults) -> dict[str, Outcome | Exception]:
        factories = {name: lambda _, name=name: start(name) for name in prepared}
        return Simulation(factories, "platform", seed, faults).run()

    torch.set_num_threads(1)
    return simulate


@pytest.fixture(scope="module")
def calm(outcome: Callable[[int, Faults], dict[str, Outcome | Exception]]) -> dict[str, Outcome | Exception]:
    """The same run with nothing going wrong."""
    return outcome(0, Faults(delay=0.0))


def learned(result: Outcome) -> dict[str, torch.Tensor]:
    modules = {"bottom": result.trained.bottom}
    if hasattr(result.trained, "top"):
        modules["top"] = result.trained.top
    return weights(modules)


def same(one: Outcome | Exception, other: Outcome | Exception) -> bool:
    if isinstance(one, Exception) or isinstance(other, Exception):
        return False
    a, b = learned(one), learned(other)
    return (
        a.keys() == b.keys()
        and all(torch.equal(a[key], b[key]) for key in a)
        and bool((one.aligned.rows == other.aligned.rows).all())
    )


def test_the_calm_run_aligns_exactly(
    prepared: dict[str, Prepared], calm: dict[str, Outcome | Exception]
) -> None:
    people = {}
    for name, result in calm.items():
        assert isinstance(result, Outcome), result
        people[name] = prepared[name].data.table.ids["email"].iloc[result.aligned.rows].tolist()
    common = [person for number, person in enumerate(PEOPLE) if number % 7 > 2]
    assert people["platform"] == people["logistics"] == people["advertiser"]
    assert sorted(people["platform"]) == sorted(common)


@pytest.mark.parametrize("block", range(BLOCKS))
def test_same_weights_or_a_typed_error(
    block: int,
    calm: dict[str, Outcome | Exception],
    outcome: Callable[[int, Faults], dict[str, Outcome | Exception]],
) -> None:
    for seed in range(block, SEEDS, BLOCKS):
        faults = Faults.drawn(seed)
        results = outcome(seed, faults)
        for name, result in results.items():
            if isinstance(result, Exception):
                assert isinstance(result, RoundsError), f"seed {seed}: {name}: {result!r}"
                assert faults.kills, f"seed {seed}: {name}: {result!r}"
                assert not faults.restarts, f"seed {seed}: {name}: {result!r}"
            else:
                assert same(result, calm[name]), f"seed {seed}: {name} ends with another result"


def test_the_plan_is_the_contract(prepared: dict[str, Prepared]) -> None:
    plan = plan_of(prepared["platform"].config.contract)
    assert (plan.cut, plan.bottom_hidden, plan.batch, plan.epochs) == (2, (3,), 16, 2)
