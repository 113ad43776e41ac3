"""Learning rates over a training's steps."""

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from splitnn.plan import Plan
from splitnn.rates import RATES, rate

PLAN = Plan(b"", epochs=4)


def rates(plan: Plan, epoch_steps: int = 5) -> list[float]:
    return [rate(plan, step, epoch_steps) for step in range(plan.epochs * epoch_steps)]


def test_constant_is_one() -> None:
    assert rates(PLAN) == [1.0] * 20


def test_step_falls_at_the_end_of_its_epochs() -> None:
    plan = replace(PLAN, learning_rate_schedule="step", decay=0.5, decay_epochs=2)
    assert rates(plan) == [1.0] * 10 + [0.5] * 10


def test_cosine_begins_at_one_is_half_way_at_half_and_ends_above_zero() -> None:
    found = rates(replace(PLAN, learning_rate_schedule="cosine"))
    assert found[0] == 1
    assert found[10] == pytest.approx(0.5)
    assert all(later < earlier for earlier, later in pairwise(found))
    assert 0 < found[-1] < 0.01
    assert rate(replace(PLAN, learning_rate_schedule="cosine"), 99, 5) == found[-1], "a step too many"


@pytest.mark.parametrize("name", RATES)
def test_warm_up_rises_in_equal_steps_to_the_whole(name: str) -> None:
    found = rates(replace(PLAN, learning_rate_schedule=name, warmup=4, decay_epochs=9))
    assert found[:4] == [0.25, 0.5, 0.75, 1.0]
    assert found[4] == 1


@given(
    name=st.sampled_from([*RATES]),
    warmup=st.integers(0, 1_000_000),
    decay=st.sampled_from([1e-9, 0.1, 1.0]),
    decay_epochs=st.integers(1, 100_000),
    epochs=st.integers(1, 100_000),
    epoch_steps=st.integers(1, 100_000),
    data=st.data(),
)
def test_a_rate_is_never_zero_and_never_above_one(
    epoch_steps: int, data: st.DataObject, **agreed: int
) -> None:
    plan = Plan(b"", learning_rate_schedule=agreed.pop("name"), **agreed)  # type: ignore[arg-type]
    step = data.draw(st.integers(0, plan.epochs * epoch_steps))
    assert 0 <= rate(plan, step, epoch_steps) <= 1
