"""Split training ends with the reference's weights, bit for bit."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from splitnn.exact import LabelHolderResult
from splitnn.plan import Plan

LEVELS = st.lists(st.integers(1, 30), max_size=3).map(tuple)
SMALL = Plan(b"public", cut=4, bottom_hidden=(8,), top_hidden=(8,), batch=32, epochs=3)


def assert_parity(make: Any, federation: Any, plan: Plan) -> LabelHolderResult:
    results = federation.split_training(plan).results
    make.assert_same(results, federation.reference(plan))
    hub = results["p0"]
    assert isinstance(hub, LabelHolderResult)
    return hub


@pytest.mark.parametrize("parties", [1, 2, 3, 4])
@pytest.mark.parametrize(("optimizer", "learning_rate"), [("adam", 3e-3), ("sgd", 0.05)])
def test_parity_at_the_widths_people_use(
    make: Any, parties: int, optimizer: str, learning_rate: float
) -> None:
    columns = [(6, (5, 300), (90,)), (3, (40, 7, 2)), (9, (), (1000, 70)), (0, (3000,))][:parties]
    plan = Plan(b"public", optimizer=optimizer, learning_rate=learning_rate, dropout=0.2, batch=256, epochs=3)
    federation = make.federation(1501, columns)
    assert len(federation.rows.train) % plan.batch != 0, "the last batch is to be uneven"
    assert_parity(make, federation, plan)


def test_parity_when_training_stops_early(make: Any) -> None:
    plan = replace(SMALL, learning_rate=0.05, epochs=60, patience=2)
    hub = assert_parity(make, make.federation(200, [(3, ()), (2, (4,))]), plan)
    assert hub.epochs < 60
    assert hub.best_epoch == hub.epochs - 2


def test_parity_with_several_examples_of_one_entity(make: Any) -> None:
    federation = make.federation(120, [(3, ()), (2, (4,))])
    hub = assert_parity(make, make.repeated(federation, 2), SMALL)
    assert len(hub.scores) == 2 * len(federation.rows.test)


def test_parity_at_one_row_a_batch_and_no_hidden_layer(make: Any) -> None:
    plan = replace(SMALL, batch=1, epochs=1, bottom_hidden=(), top_hidden=())
    assert_parity(make, make.federation(40, [(2, (3,)), (1, ())]), plan)


@settings(deadline=None, max_examples=25)
@given(
    n=st.integers(12, 150),
    columns=st.lists(
        st.tuples(st.integers(0, 5), LEVELS, LEVELS).filter(
            lambda party: party[0] + len(party[1]) + len(party[2]) > 0
        ),
        min_size=1,
        max_size=4,
    ),
    cut=st.integers(1, 9),
    bottom_hidden=st.lists(st.integers(1, 17), max_size=2).map(tuple),
    top_hidden=st.lists(st.integers(1, 17), max_size=2).map(tuple),
    dropout=st.sampled_from([0.0, 0.5]),
    optimizer=st.sampled_from(["adam", "sgd"]),
    batch=st.integers(1, 64),
)
def test_parity_at_any_shape(make: Any, n: int, columns: list[Any], batch: int, **model: Any) -> None:
    plan = Plan(b"public", batch=max(batch, n // 8), epochs=2, learning_rate=0.01, **model)
    assert_parity(make, make.federation(n, columns), plan)
