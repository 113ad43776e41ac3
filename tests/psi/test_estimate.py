"""The choice is a function of what all parties know."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from psi import UnknownProtocol, choose


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
