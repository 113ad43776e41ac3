"""Several examples an entity: the label holder's features are of examples, everyone else's of entities."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from protos.memory import together
from splitnn.crossing import Codecs
from splitnn.features import Features
from splitnn.plan import Plan
from splitnn.ranking import Lists
from splitnn.reference import ReferenceResult
from splitnn.schedule import batches, repeated, split_rows
from splitnn.schedules import SCHEDULES

PLAN = Plan(b"public", cut=4, bottom_hidden=(8,), top_hidden=(8,), batch=32, epochs=3, learning_rate=0.01)
COLUMNS = [(3, (4,)), (2, (5, 6)), (4, ())]


def both(make: Any, plan: Plan, counts: torch.Tensor, parties: int) -> tuple[dict[str, Any], ReferenceResult]:
    """Split training by entities, and the reference on the table that joins each example with its entity."""
    schedule, examples = SCHEDULES[plan.schedule], int(counts.sum())
    federation = make.federation(examples, COLUMNS[:parties])
    rows, entities = repeated(split_rows(len(counts), 0.2, 0.2, plan.seed), counts)
    labels = replace(
        federation.labels,
        **{part: (torch.arange(len(places)) % 3 == 0).float() for part, places in rows._asdict().items()},
        lists=Lists(entities.validation, entities.test, 2),
        draws=None,
    )
    of = torch.arange(len(counts)).repeat_interleave(counts)
    split, joined = {}, {}
    hub, *others = federation.features
    for name, features in federation.features.items():
        own = joined[name] = features
        if name != hub:
            own = make.features(len(counts), features.numeric.shape[1], features.levels, len(name))
            joined[name] = Features(own.numeric[of], own.categorical[of], own.levels)
            split[name] = schedule.feature_holder(plan, entities, own, hub, federation.seeds[name])
    split[hub] = schedule.label_holder(
        plan, rows, federation.features[hub], labels, others, federation.seeds[hub]
    )
    return together(split).results, schedule.reference(plan, rows, joined, labels, federation.seeds, {})


def assert_equal(make: Any, split: dict[str, Any], joined: ReferenceResult) -> None:
    ours, theirs = make.weights(split), make.reference_weights(joined)
    assert ours.keys() == theirs.keys()
    assert [name for name in ours if not torch.equal(ours[name], theirs[name])] == []
    assert split["p0"].history == joined.history
    assert torch.equal(split["p0"].scores, joined.scores)


@pytest.mark.parametrize("schedule", [*SCHEDULES])
@pytest.mark.parametrize("codec", [Codecs(), Codecs("randtopk", "int8", 2, 0.2)], ids=["fp32", "lossy"])
def test_parity(make: Any, schedule: str, codec: Codecs) -> None:
    plan = replace(PLAN, schedule=schedule, in_flight=3, codec=codec)
    counts = torch.arange(60) % 5 + 1
    _, entities = repeated(split_rows(60, 0.2, 0.2, plan.seed), counts)
    batch = next(batches(len(entities.train), plan.batch, plan.seed, 0))
    assert len(entities.train[batch].unique()) < len(batch), "an entity is to be in one batch twice"
    split, joined = both(make, plan, counts, 3)
    assert_equal(make, split, joined)
    assert len(split["p0"].scores) == len(entities.test)
    objective = split["p0"].objective
    metrics = objective.metrics(split["p0"].labels, split["p0"].scores, objective.lists.test)
    assert {"auc", "gauc", "ndcg@2"} <= metrics.keys()


@settings(deadline=None, max_examples=20)
@given(
    counts=st.lists(st.integers(1, 9), min_size=16, max_size=40),
    parties=st.integers(1, 3),
    batch=st.integers(4, 64),
    schedule=st.sampled_from([*SCHEDULES]),
)
def test_parity_at_any_counts(make: Any, counts: list[int], parties: int, batch: int, schedule: str) -> None:
    plan = replace(PLAN, batch=batch, epochs=2, schedule=schedule, in_flight=2)
    assert_equal(make, *both(make, plan, torch.tensor(counts), parties))
