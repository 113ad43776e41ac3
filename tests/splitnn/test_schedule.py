"""The schedule that parties agree on without a message."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from splitnn.randomness import permutation, uniform
from splitnn.schedule import batches, chunks, repeated, split_rows, steps_an_epoch

seeds = st.binary(max_size=40)


def test_the_streams_never_change() -> None:
    """Two parties with different releases of everything must still agree."""
    assert permutation(b"seed", "split", 10).tolist() == [7, 1, 4, 2, 8, 5, 9, 6, 3, 0]
    assert uniform(b"seed", "weight", (2, 2), 0.5).tolist() == [
        [0.05179154872894287, 0.49817758798599243],
        [-0.005765974521636963, 0.08810967206954956],
    ]
    parts = split_rows(12, 0.2, 0.2, b"public")
    assert [part.tolist() for part in parts] == [[8, 6, 4, 11, 2, 7, 5, 0], [10, 9], [1, 3]]
    assert [batch.tolist() for batch in batches(5, 2, b"public", 3)] == [[1, 0], [2, 4], [3]]


@settings(deadline=None, max_examples=40)
@given(
    n=st.integers(10, 500),
    validation=st.floats(0.1, 0.4),
    test=st.floats(0.1, 0.4),
    seed=seeds,
)
def test_the_parts_are_disjoint_and_cover_all(n: int, validation: float, test: float, seed: bytes) -> None:
    parts = split_rows(n, validation, test, seed)
    assert torch.cat(list(parts)).sort().values.tolist() == list(range(n))
    assert abs(len(parts.validation) - n * validation) <= 0.5
    assert abs(len(parts.test) - n * test) <= 0.5


@pytest.mark.parametrize(("n", "validation", "test"), [(3, 0.1, 0.1), (0, 0.2, 0.2), (100, 0.5, 0.5)])
def test_an_empty_part_is_refused(n: int, validation: float, test: float) -> None:
    with pytest.raises(ValueError, match="too few"):
        split_rows(n, validation, test, b"")


@settings(deadline=None, max_examples=40)
@given(counts=st.lists(st.integers(1, 5), min_size=10, max_size=60), seed=seeds)
def test_all_examples_of_an_entity_are_in_its_part(counts: list[int], seed: bytes) -> None:
    parts = split_rows(len(counts), 0.2, 0.2, seed)
    examples, entities = repeated(parts, torch.tensor(counts))
    of = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    assert torch.cat(list(examples)).sort().values.tolist() == list(range(sum(counts)))
    for part, own, whose in zip(parts, examples, entities, strict=True):
        assert torch.equal(of[own], whose)
        assert torch.equal(whose.unique_consecutive(), part)


def test_one_example_an_entity_is_the_split_itself() -> None:
    parts = split_rows(50, 0.2, 0.2, b"")
    for found in repeated(parts, torch.ones(50, dtype=torch.int64)):
        assert all(map(torch.equal, found, parts))


@settings(deadline=None, max_examples=40)
@given(examples=st.integers(1, 200), batch=st.integers(1, 64), epoch=st.integers(0, 9), seed=seeds)
def test_an_epoch_takes_each_example_once(examples: int, batch: int, epoch: int, seed: bytes) -> None:
    taken = list(batches(examples, batch, seed, epoch))
    assert len(taken) == steps_an_epoch(examples, batch)
    assert all(len(one) == batch for one in taken[:-1])
    assert torch.cat(taken).sort().values.tolist() == list(range(examples))


def test_purposes_epochs_and_seeds_have_streams_of_their_own() -> None:
    orders = [permutation(seed, purpose, 50) for seed in (b"a", b"b") for purpose in ("x", "y", "xy")]
    orders += [torch.cat(list(batches(50, 7, b"a", epoch))) for epoch in range(3)]
    assert len({tuple(order.tolist()) for order in orders}) == len(orders)


def test_chunks_keep_the_order() -> None:
    assert [chunk.tolist() for chunk in chunks(torch.arange(7), 3)] == [[0, 1, 2], [3, 4, 5], [6]]
