"""The choice is a function of what all parties know; an estimate is what a trial and the formula say."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protos.memory import together
from protos.rounds import Receive, Rounds, Send
from psi import Setting, UnknownProtocol, buckets, choose
from psi.estimate import Calibration, calibrate, estimate


@dataclass(frozen=True)
class Costs:
    """A protocol as far as `choose` looks at one: bytes fixed and an id of any party."""

    fixed: int
    an_id: int
    secure: bool = True
    parties: range = range(2, 17)

    def traffic(self, counts: Sequence[int], common: int) -> int:
        assert common == min(counts)
        return self.fixed + self.an_id * sum(counts)


def test_the_fewest_bytes_at_these_sizes() -> None:
    protocols: dict[str, Any] = {"small": Costs(0, 100), "large": Costs(1 << 20, 30)}
    assert choose([1000, 1000, 1000], protocols) == "small"
    assert choose([1000, 10**6, 1000], protocols) == "large"


def test_only_what_is_secure_and_takes_so_many_parties() -> None:
    protocols: dict[str, Any] = {
        "hash": Costs(0, 1, secure=False),
        "pair": Costs(0, 2, parties=range(2, 3)),
        "star": Costs(0, 3),
    }
    assert choose([5, 5], protocols) == "pair"
    assert choose([5, 5, 5], protocols) == "star"
    del protocols["star"]
    with pytest.raises(UnknownProtocol, match=r"all 3 parties have installed \(hash, pair\) is secure and"):
        choose([5, 5, 5], protocols)
    with pytest.raises(UnknownProtocol, match=r"\(none\)"):
        choose([5, 5], {})


@given(st.permutations(["b", "a", "c"]), st.lists(st.integers(0, 1 << 30), min_size=2, max_size=16))
def test_every_party_chooses_alike(order: list[str], counts: list[int]) -> None:
    """However its own list of installed protocols is ordered; equal costs included."""
    protocols: dict[str, Any] = {name: Costs(7, 7) for name in order}
    assert choose(counts, protocols) == "a"


class Clock:
    """A time that passes only when a protocol says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def relay(clock: Clock) -> Any:
    """Three parties: b works 2 us an id and tells lead, who works 1 us; c works 0.5 us, and waits for lead.

    lead: 20 ms of its own at the start, while b works.
    """

    class Relay:
        parties: ClassVar[range] = range(3, 4)

        def align(self, setting: Setting, digests: Sequence[Any]) -> Rounds[None]:
            ids = len(digests)
            if setting.me == setting.parties[1]:
                clock.now += 2e-6 * ids
                yield Send(setting.leader, "up", [bytes(8)] * ids)
            elif setting.me == setting.leader:
                clock.now += 0.02
                yield Receive(setting.parties[1], "up", 8 * ids)
                clock.now += 1e-6 * ids
                yield Send(setting.parties[2], "down", bytes(2 * ids))
            else:
                clock.now += 0.5e-6 * ids
                yield Receive(setting.leader, "down", 2 * ids)

        def traffic(self, counts: Sequence[int], common: int) -> int:
            return 10 * counts[0]

    return Relay()


def test_calibration_follows_the_longest_chain_of_work() -> None:
    clock = Clock()
    found = calibrate(relay(clock), 3, together, clock)
    assert found.sizes == (1 << 16, 1 << 18)
    assert found.per_id == pytest.approx(3e-6)  # b's work, then the leader's; neither its start nor c's
    assert found.fixed == pytest.approx(0, abs=1e-9)
    assert found.hops == 2
    assert found.share == pytest.approx(0.8)  # what comes up, at b and at the leader


def test_an_estimate_adds_up() -> None:
    calibrated = Calibration(fixed=0.5, per_id=2e-6, hops=6, share=0.8, sizes=(1, 2))
    one = estimate(relay(Clock()), 500_000, 3, bandwidth=1e6, rtt=0.04, calibration=calibrated)
    assert one.buckets == 1
    assert one.computing == pytest.approx(0.5 + 1.0)
    assert one.bytes == 5_000_000
    assert one.transfer == pytest.approx(4.0)
    assert one.waiting == pytest.approx(0.12)
    assert one.seconds == pytest.approx(5.62)


def test_large_sets_are_estimated_in_buckets() -> None:
    calibrated = Calibration(fixed=0.5, per_id=2e-6, hops=6, share=0.8, sizes=(1, 2))
    ids = 5_000_000
    one = estimate(relay(Clock()), ids, 3, bandwidth=1e6, rtt=0.04, calibration=calibrated)
    assert one.buckets == buckets.count(ids) > 4
    padded = buckets.padded(ids, one.buckets)
    assert one.bytes == 10 * padded * one.buckets > 10 * ids
    assert one.computing == pytest.approx(one.buckets * (0.5 + 2e-6 * padded))
    assert one.waiting == pytest.approx(one.buckets * 0.12)


@pytest.mark.parametrize("parties", [2, 3])
def test_a_real_protocol_is_calibrated(timer: Callable[[], float], parties: int) -> None:
    """Of the real clock only this: that it was read, and that what is counted is right."""
    from psi import load

    found = calibrate(load("insecure-hash"), parties, together, timer)
    assert 0 < found.per_id < 1e-3
    assert found.hops == 3  # counts, hashes, the result
    assert found.sizes == (1 << 16, 1 << 18)
    assert found.share == pytest.approx(2 / 3, abs=0.01)  # the clients' hashes, of which half come back


@pytest.fixture
def timer() -> Callable[[], float]:
    import time

    return time.perf_counter
