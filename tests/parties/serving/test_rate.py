"""A token bucket lets through no more than it says, and gives back what time allows."""

from hypothesis import given, settings
from hypothesis import strategies as st

from parties.serving.rate import TokenBucket


@settings(deadline=None)
@given(
    st.floats(0.1, 1e4),
    st.integers(1, 1000),
    st.lists(st.tuples(st.floats(0, 10), st.integers(1, 1500)), max_size=40),
)
def test_in_no_stretch_of_time_more_than_burst_and_rate(
    rate: float, burst: int, takes: list[tuple[float, int]]
) -> None:
    now = 0.0
    bucket = TokenBucket(rate, burst, lambda: now)
    taken: list[tuple[float, int]] = []
    for pause, count in takes:
        now += pause
        if bucket.take(count):
            taken.append((now, count))
    for first, (began, _) in enumerate(taken):
        for last in range(first, len(taken)):
            through = sum(count for _, count in taken[first : last + 1])
            assert through <= (burst + rate * (taken[last][0] - began)) * (1 + 1e-9)


@settings(deadline=None)
@given(st.floats(0.1, 1e4), st.integers(1, 1000))
def test_who_waits_gets_all_again(rate: float, burst: int) -> None:
    now = 0.0
    bucket = TokenBucket(rate, burst, lambda: now)
    assert bucket.take(burst)
    assert not bucket.take(1)
    now += 1.001 * burst / rate
    assert bucket.take(burst)
