"""`party extend` between real processes: who is new at all parties is scored by all, without another run."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from tests.e2e.conftest import Federation
from tests.e2e.test_serve import EVERYONE, HUB, OTHER, add_serve, asking, offline, trained, until, who


@pytest.mark.slow
def test_new_people_are_scored_by_all(federation: Callable[..., Federation]) -> None:
    one = federation()
    trained(one)
    new = [*range(one.people, one.people + 12)]
    for name in one.names:
        table = pd.read_csv(one.home(name) / "people.csv")
        rows = table[20:32].assign(email=[one.email(number) for number in new], amount=np.arange(12) / 4)
        some = rows if name != OTHER else rows[:10]  # of two one partner has not heard
        pd.concat([table, some]).to_csv(one.home(name) / "people.csv", index=False)
    one.start(command=["extend", "--json"])
    ends = one.ends(within=240.0)
    assert all(end.code == 0 for end in ends.values()), ends
    found = {name: end.json for name, end in ends.items()}
    assert {summary["added"] for summary in found.values()} == {10}
    assert len({summary["addition"] for summary in found.values()}) == 1
    address = add_serve(one)
    one.start(command=["serve"])
    with asking(one, address) as ask:
        until(ask, new[0], EVERYONE)
        answer = ask(*new)
        assert who(answer) == [EVERYONE] * 10 + [(HUB,)] * 2
        known = offline(one)
        wanted = [known[one.email(number)] for number in new[:10]]
        assert np.abs(np.array([row.score[0] for row in answer.scored[:10]]) - wanted).max() < 1e-6
