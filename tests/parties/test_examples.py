"""Several examples an entity: which rows they are, and what is told of them."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from parties.contract import Contract
from parties.errors import AlignmentError
from parties.examples import Examples, agree_on_examples, own_examples
from protos.memory import Together, together
from protos.rounds import Receive, RemoteProtocolError, Rounds, Send
from psi import Ids, normalise
from splitnn.schedule import Split

Agreed = Callable[..., Contract]
SPLIT = Split(torch.tensor([2, 0]), torch.tensor([3]), torch.tensor([1]))
"""Of four common users: 30, 10, 40 and 20 of the label holder's file, in this order."""
CELLS = [10, 20, 10, 30, 50, None, 10, 40, 20, 50]


def ids_of(cells: list[int | None]) -> Ids:
    return normalise([[cells]], ["id"], ["integer"], b"key")


def alignment_of(cells: list[int | None], users: list[int]) -> Any:
    return np.array([cells.index(user) for user in users])


def meet(contract: Contract, seed: bytes = b"private") -> Together[Examples]:
    own = alignment_of(CELLS, [30, 10, 40, 20])
    parties: dict[str, Rounds[Examples]] = {
        "platform": agree_on_examples("platform", contract, ids_of(CELLS), own, SPLIT, seed)
    }
    for name in contract.feature_holders:
        theirs = ids_of([1, 30, 2, 10, 40, 20, 10])
        parties[name] = agree_on_examples(name, contract, theirs, np.array([1, 3, 4, 5]), SPLIT, b"own")
    return together(parties)


def test_all_parties_point_at_the_same_users(contract_of: Agreed) -> None:
    met = meet(contract_of(examples={"per_entity": "several"}))
    hub = met.results["platform"]
    for name in ("advertiser", "logistics"):
        one = met.results[name]
        assert one.rows.tolist() == [1, 3, 4, 5]
        assert one.training_rows.tolist() == [4, 1]
        assert one.entities is not None
        assert all(map(torch.equal, one.split, one.entities))
        for own, theirs in zip(hub.split, one.split, strict=True):
            users = [CELLS[row] for row in hub.rows[own.numpy()]]
            assert users == [{1: 30, 3: 10, 4: 40, 5: 20}[row] for row in one.rows[theirs.numpy()]]
        assert len(one) == len(hub) == 7
    assert [len(part) for part in hub.split] == [2, 2, 3]
    assert sorted(hub.rows.tolist()) == [0, 1, 2, 3, 6, 7, 8]


def test_told_is_how_many_examples_each_user_has_and_nothing_else(contract_of: Agreed) -> None:
    contract = contract_of(examples={"per_entity": "several"})
    said = meet(contract).transcript
    assert [(one.sender, one.receiver, one.kind) for one in said] == [
        ("platform", name, "examples") for name in contract.feature_holders
    ]
    assert {one.payload for one in said} == {np.array([1, 3, 1, 2], "<u4").tobytes()}
    assert meet(contract, b"another").transcript == said


def test_one_example_an_entity_is_said_by_nothing(contract_of: Agreed) -> None:
    met = meet(contract_of())
    assert met.transcript == []
    for one in met.results.values():
        assert one.split is SPLIT
        assert one.entities is None
        assert len(one) == len(one.rows) == 4


@settings(deadline=None, max_examples=60)
@given(st.lists(st.one_of(st.none(), st.integers(0, 9)), min_size=1, max_size=60), st.data())
def test_every_row_of_a_common_user_is_one_example(cells: list[int | None], data: st.DataObject) -> None:
    users = data.draw(st.permutations(sorted({cell for cell in cells if cell is not None})))
    users = users[: data.draw(st.integers(0, len(users)))]
    rows, counts = own_examples(ids_of(cells), np.array(alignment_of(cells, users), np.int64), b"s")
    assert [cells[row] for row in rows] == [
        user for user, n in zip(users, counts, strict=True) for _ in range(n)
    ]
    assert sorted(rows) == [row for row, cell in enumerate(cells) if cell in users and cell is not None]


def test_the_order_of_a_users_examples_is_private_and_not_that_of_the_file() -> None:
    cells = [1] * 50
    orders = {tuple(own_examples(ids_of(cells), np.array([0]), seed)[0]) for seed in (b"a", b"b", b"c")}
    assert len(orders) == 3
    assert tuple(range(50)) not in orders


def test_more_examples_than_agreed_end_the_run_at_every_party_with_one_line(contract_of: Agreed) -> None:
    assert len(meet(contract_of(examples={"per_entity": "several", "at_most": 7})).results["platform"]) == 7
    contract = contract_of(examples={"per_entity": "several", "at_most": 6})
    own, told = alignment_of(CELLS, [30, 10, 40, 20]), list[object]()
    rounds = agree_on_examples("platform", contract, ids_of(CELLS), own, SPLIT, b"")
    with pytest.raises(AlignmentError) as at_hub:
        told.extend(word.payload for word in rounds if isinstance(word, Send))
    assert told == [b"", b""], "how many there are is nobody's business"
    with pytest.raises(AlignmentError, match=r"than examples.at_most = 6 allows") as elsewhere:
        answer(contract, b"")
    assert str(at_hub.value) == str(elsewhere.value)


def answer(contract: Contract, payload: bytes) -> Receive:
    """A feature holder of four common users is told this; returns for what it waited."""
    rounds = agree_on_examples("logistics", contract, ids_of([1]), np.arange(4), SPLIT, b"")
    next(rounds)
    asked = rounds.send(None)
    assert isinstance(asked, Receive)
    with pytest.raises(StopIteration):
        rounds.send(payload)
    return asked


@pytest.mark.parametrize(
    "counts",
    [[1, 3, 1], [1, 3, 1, 2, 1], [1, 0, 1, 2], [1, 3, 1, 96], [2**32 - 1] * 4],
    ids=["too few", "too many", "a user without any", "over the cap", "far over the cap"],
)
def test_counts_that_cannot_be(contract_of: Agreed, counts: list[int]) -> None:
    contract = contract_of(examples={"per_entity": "several", "at_most": 100})
    with pytest.raises(RemoteProtocolError, match="platform says how many examples") as fault:
        answer(contract, np.array(counts, "<u4").tobytes())
    assert "\n" not in str(fault.value)


def test_no_more_is_received_than_can_be(contract_of: Agreed) -> None:
    good = np.array([1, 3, 1, 2], "<u4").tobytes()
    assert answer(contract_of(examples={"per_entity": "several"}), good).at_most == 16
    contract = contract_of(examples={"per_entity": "several", "at_most": 3})
    rounds = agree_on_examples("logistics", contract, ids_of([1]), np.arange(4), SPLIT, b"")
    next(rounds)
    asked = rounds.send(None)
    assert isinstance(asked, Receive)
    assert asked.at_most == 12
