"""What a plan may ask for to defend labels, and what is refused with a way out."""

import math
from typing import Any

import pytest

from splitnn.label_defence import NOISES, LabelDefence
from splitnn.plan import Plan
from splitnn.tasks import TASKS


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"noise": "laplace"}, "choose one of none, max_norm, iso, marvell"),
        ({"noise": "iso", "strength": -1.0}, "at least 0"),
        ({"noise": "iso", "strength": math.nan}, "at least 0"),
        ({"noise": "iso", "strength": math.inf}, "at least 0"),
        ({"strength": 1.0}, "choose max_norm, iso or marvell"),
        ({"noise": "max_norm", "strength": 1.5}, "at most 1"),
        ({"epsilon": 0.0}, "above 0"),
        ({"epsilon": -1.0}, "above 0"),
        ({"epsilon": math.nan}, "above 0"),
        ({"epsilon": 31.0}, "at most 30, or infinite"),
        ({"max_leak": 0.5}, "above .5"),
        ({"max_leak": 1.1}, "at most 1"),
        ({"window": 0}, "at least 1"),
        ({"noise": "iso", "max_strength": 1.0}, "set both"),
        ({"noise": "iso", "strength": 2.0, "max_strength": 1.0, "max_leak": 0.6}, "above strength"),
        ({"max_strength": 1.0, "max_leak": 0.6}, "choose max_norm, iso or marvell"),
        ({"noise": "max_norm", "max_strength": 2.0, "max_leak": 0.6}, "at most 1"),
    ],
)
def test_what_defends_nothing_is_refused(given: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        LabelDefence(**given)


@pytest.mark.parametrize("task", [*TASKS])
@pytest.mark.parametrize(
    ("defence", "tasks", "told"),
    [
        (LabelDefence("marvell", 1.0), {"binary"}, "choose max_norm or iso"),
        (LabelDefence(epsilon=1.0), {"binary", "multiclass"}, "choose the noise max_norm or iso"),
        (LabelDefence(max_leak=0.6), {"binary"}, "leave it out"),
        (LabelDefence("max_norm", 1.0), {*TASKS}, ""),
        (LabelDefence("iso", 1.0), {*TASKS}, ""),
    ],
)
def test_each_fits_its_tasks(task: str, defence: LabelDefence, tasks: set[str], told: str) -> None:
    loss = next(iter(TASKS[task]))
    if task in tasks:
        Plan(b"", task=task, loss=loss, label_defence=defence)
    else:
        with pytest.raises(ValueError, match=told):
            Plan(b"", task=task, loss=loss, label_defence=defence)


def test_the_default_defends_nothing() -> None:
    assert not LabelDefence().noisy
    assert LabelDefence().epsilon == math.inf
    assert LabelDefence().max_leak is None
    assert not any(LabelDefence(noise, 0.0).noisy for noise in NOISES)
