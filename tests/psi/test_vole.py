"""Vector OLE: C = A * delta + B, for every size; what is malformed is refused."""

import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protos.rounds import RemoteProtocolError
from psi import gf128, ggm, vole

LABEL = b"test"


class Conversation:
    def __init__(self, count: int) -> None:
        self.receiver, self.sender = (
            vole.Receiver(count, LABEL, os.urandom),
            vole.Sender(count, LABEL, os.urandom),
        )
        self.b, self.delta = self.sender.share(), self.sender.delta
        self.reply = self.receiver.reply(self.sender.opening, "sender")
        self.trees = self.sender.trees(self.reply, "receiver")
        self.a, self.c = self.receiver.factors(), self.receiver.share(self.trees)

    def correlated(self) -> np.ndarray:
        expected = self.b.copy()
        gf128.add_products(expected, np.ascontiguousarray(self.a), gf128.table(self.delta))
        return (self.c == expected).all(axis=1)


@settings(deadline=None, max_examples=12)
@given(st.one_of(st.integers(1, 300), st.integers(4000, 4200), st.integers(1, 30_000)))
def test_the_correlation(count: int) -> None:
    made = Conversation(count)
    assert len(made.sender.opening) == vole.OPENING
    assert len(made.reply) == vole.reply_size(count)
    assert len(made.trees) == vole.trees_size(count)
    assert made.correlated().tolist() == [True] * count
    for share in (made.a, made.b, made.c):
        assert share.shape == np.unique(share, axis=0).shape == (count, 2)


@pytest.mark.parametrize("step", [-1, 0, 1])
def test_the_sizes_of_trees_around_a_power_of_two(step: int) -> None:
    count = vole.TREES * 128 // 2 + step * vole.TREES  # 126, 128 and 130 leaves a tree
    assert vole.leaves(count) == 128 + 2 * step
    assert Conversation(count).correlated().all()


@pytest.mark.slow
def test_the_correlation_at_2_to_the_20() -> None:
    count = 1_344_976
    assert Conversation(count).correlated().all()


def test_the_published_parameters() -> None:
    """libOTe: 176 noise positions; at least twice as many leaves as outputs, in trees of even size."""
    assert 8 * -(-128 // -(8 * np.log2(1 - 2 * 0.2))) == vole.TREES
    for count in (1, 4096, 4097, 10**5, 1_344_976):
        size = vole.leaves(count)
        assert size % 2 == 0
        assert 2 * max(count, 4096) <= vole.TREES * size < 2 * max(count, 4096) + 2 * vole.TREES
        assert 1 << ggm.depth(size) >= size > 1 << ggm.depth(size) - 1


@pytest.mark.parametrize("name", ["a", "b", "c"])
def test_each_share_looks_uniform(name: str) -> None:
    """Each of the 128 bits is one in half of 20,000 elements; 6 standard deviations are 0.0213."""
    share = getattr(Conversation(20_000), name)
    bits = np.unpackbits(np.ascontiguousarray(share).view(np.uint8), axis=1).mean(axis=0)
    assert np.abs(bits - 0.5).max() < 0.0213


def test_noise_positions_and_values_are_drawn_anew_and_cover_the_trees() -> None:
    drawn = [vole.Receiver(20_000, LABEL, os.urandom) for _ in range(20)]
    points = np.concatenate([one._points for one in drawn])
    size = vole.leaves(20_000)
    assert points.min() >= 0
    assert points.max() < size
    assert np.histogram(points, 8, (0, size))[0].min() > 320  # of 440
    assert len(np.unique(np.concatenate([one._values for one in drawn]), axis=0)) == 20 * vole.TREES


@pytest.mark.parametrize("at", [0, 32, vole.OPENING - 32])
def test_an_opening_with_a_bad_point_is_refused(at: int) -> None:
    opening = vole.Sender(10, LABEL, os.urandom).opening
    with pytest.raises(RemoteProtocolError, match="sender sent an invalid group element"):
        vole.Receiver(10, LABEL, os.urandom).reply(opening[:at] + bytes(32) + opening[at + 32 :], "sender")


def test_a_reply_with_a_bad_point_is_refused() -> None:
    made = Conversation(10)
    with pytest.raises(RemoteProtocolError, match="receiver sent an invalid group element"):
        made.sender.trees(b"\xff" * 32 + made.reply[32:], "receiver")


@settings(deadline=None, max_examples=15)
@given(st.data())
def test_a_changed_message_breaks_the_correlation_and_nothing_else(data: st.DataObject) -> None:
    made = Conversation(50)
    place = data.draw(st.integers(0, len(made.trees) - 1))
    spoilt = made.trees[:place] + bytes([made.trees[place] ^ 1]) + made.trees[place + 1 :]
    assert made.receiver.share(spoilt).shape == (50, 2)
    points = 256 * 32
    place = data.draw(st.integers(points, len(made.reply) - 1))
    spoilt = made.reply[:place] + bytes([made.reply[place] ^ 1]) + made.reply[place + 1 :]
    assert len(made.sender.trees(spoilt, "receiver")) == vole.trees_size(50)
