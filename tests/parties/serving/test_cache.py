"""The cache gives what was put last, as long as it may, and keeps no more than it may."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from parties.serving.cache import EmbeddingCache

USERS = 12


@settings(deadline=None)
@given(
    st.integers(0, USERS + 3),
    st.lists(st.tuples(st.floats(0, 4), st.lists(st.integers(0, USERS - 1), unique=True)), max_size=30),
)
def test_what_is_there_is_what_was_put_last(rows: int, puts: list[tuple[float, list[int]]]) -> None:
    now, seconds = 0.0, 5.0
    cache = EmbeddingCache(USERS, 2, rows, seconds, lambda: now)
    last: dict[int, tuple[float, float]] = {}
    everyone = np.arange(USERS)
    for number, (pause, users) in enumerate(puts, 1):
        now += pause
        cache.put(np.array(users, np.int64), np.full((len(users), 2), number, np.float32))
        last |= dict.fromkeys(users, (now, number))
        found, there = cache.get(everyone)
        assert there.sum() <= rows
        assert set(np.flatnonzero(there)) <= {user for user, (at, _) in last.items() if at + seconds > now}
        assert all((found[user] == last[user][1]).all() for user in np.flatnonzero(there))
        assert not found[~there].any()
        if len(users) <= rows:
            assert there[users].all()


def test_repeats_in_a_request_are_one_user() -> None:
    cache = EmbeddingCache(3, 1, 2, 1.0, lambda: 0.0)
    cache.put(np.array([1]), np.ones((1, 1), np.float32))
    found, there = cache.get(np.array([1, 0, 1]))
    assert found.tolist() == [[1], [0], [1]]
    assert there.tolist() == [True, False, True]


def test_what_is_dropped_is_there_no_more() -> None:
    cache = EmbeddingCache(4, 1, 3, 1.0, lambda: 0.0)
    cache.put(np.array([0, 1, 3]), np.ones((3, 1), np.float32))
    cache.drop(np.array([1, 2]))
    assert cache.get(np.arange(4))[1].tolist() == [True, False, False, True]
    cache.put(np.array([1, 2]), np.ones((2, 1), np.float32))
    assert cache.get(np.arange(4))[1].sum() == 3
