"""Vector OLE: C = A * delta + B, for every size; what is malformed is refused."""

import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protos.rounds import RemoteProtocolError
from psi import gf128, ggm, vole

LABEL = b"test"


def converse(count: int) -> tuple[vole.Receiver, vole.Sender, bytes, bytes]:
    receiver, sender = vole.Receiver(count, LABEL, os.urandom), vole.Sender(count, LABEL, os.urandom)
    reply = receiver.reply(sender.opening, "sender")
    return receiver, sender, reply, sender.trees(reply, "receiver")


def holds(a: np.ndarray, b: np.ndarray, c: np.ndarray, delta: np.ndarray) -> np.ndarray:
    expected = b.copy()
    gf128.add_products(expected, np.ascontiguousarray(a), gf128.table(delta))
    return (c == expected).all(axis=1)


@settings(deadline=None, max_examples=12)
@given(st.one_of(st.integers(1, 300), st.integers(4000, 4200), st.integers(1, 30_000)))
def test_the_correlation(count: int) -> None:
    receiver, sender, reply, trees = converse(count)
    assert len(sender.opening) == vole.OPENING
    assert len(reply) == vole.reply_size(count)
    assert len(trees) == vole.trees_size(count)
    a, c, b = receiver.factors(), receiver.share(trees), sender.share()
    assert a.shape == b.shape == c.shape == (count, 2)
    assert holds(a, b, c, sender.delta).all()
    assert len(np.unique(a, axis=0)) == len(np.unique(b, axis=0)) == len(np.unique(c, axis=0)) == count


@pytest.mark.parametrize("step", [-1, 0, 1])
def test_the_sizes_of_trees_around_a_power_of_two(step: int) -> None:
    count = vole.TREES * 128 // 2 + step * vole.TREES  # 126, 128 and 130 leaves a tree
    assert vole.leaves(count) == 128 + 2 * step
    receiver, sender, _, trees = converse(count)
    assert holds(receiver.factors(), sender.share(), receiver.share(trees), sender.delta).all()


@pytest.mark.slow
def test_the_correlation_at_2_to_the_20() -> None:
    count = 1_344_976
    receiver, sender, _, trees = converse(count)
    assert holds(receiver.factors(), sender.share(), receiver.share(trees), sender.delta).all()


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
    """Each of the 128 bits is one in half of 20,000 elements; 5 standard deviations are 0.018."""
    receiver, sender, _, trees = converse(20_000)
    share = {"a": receiver.factors(), "b": sender.share(), "c": receiver.share(trees)}[name]
    bits = np.unpackbits(np.ascontiguousarray(share).view(np.uint8), axis=1).mean(axis=0)
    assert np.abs(bits - 0.5).max() < 0.018


def test_noise_positions_and_values_are_drawn_anew_and_cover_the_trees() -> None:
    drawn = [vole.Receiver(20_000, LABEL, os.urandom) for _ in range(20)]
    points = np.concatenate([one._points for one in drawn])
    size = vole.leaves(20_000)
    assert points.min() >= 0
    assert points.max() < size
    assert np.histogram(points, 8, (0, size))[0].min() > 350  # of 440
    assert len(np.unique(np.concatenate([one._values for one in drawn]), axis=0)) == 20 * vole.TREES


@pytest.mark.parametrize("at", [0, 32, vole.OPENING - 32])
def test_an_opening_with_a_bad_point_is_refused(at: int) -> None:
    opening = vole.Sender(10, LABEL, os.urandom).opening
    with pytest.raises(RemoteProtocolError, match="sender sent an invalid group element"):
        vole.Receiver(10, LABEL, os.urandom).reply(opening[:at] + bytes(32) + opening[at + 32 :], "sender")


def test_a_reply_with_a_bad_point_is_refused() -> None:
    _, sender, reply, _ = converse(10)
    with pytest.raises(RemoteProtocolError, match="receiver sent an invalid group element"):
        sender.trees(b"\xff" * 32 + reply[32:], "receiver")


@settings(deadline=None, max_examples=15)
@given(st.data())
def test_a_changed_message_breaks_the_correlation_and_nothing_else(data: st.DataObject) -> None:
    receiver, sender, reply, trees = converse(50)
    place = data.draw(st.integers(0, len(trees) - 1))
    spoilt = trees[:place] + bytes([trees[place] ^ 1]) + trees[place + 1 :]
    assert receiver.share(spoilt).shape == (50, 2)
    points = 256 * 32
    place = data.draw(st.integers(points, len(reply) - 1))
    spoilt = reply[:place] + bytes([reply[place] ^ 1]) + reply[place + 1 :]
    assert len(sender.trees(spoilt, "receiver")) == vole.trees_size(50)
