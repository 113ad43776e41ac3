"""The baseline of two parties: bad elements and tags are refused, and what is seen is shuffled."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protos.memory import Together, together
from protos.rounds import Receive, RemoteProtocolError, Send
from psi import Setting, dh, tags

NAMES = ("lead", "b")
SETS = {"lead": range(30), "b": range(10, 45)}
Digests = Callable[[Sequence[int]], np.ndarray]
TAG = tags.size(30, 35)
GENERATOR = bytes.fromhex("e2f2ae0a6abc4e71a884a961c500515f58e30b6aa582dd8db6a65945e08d2d76")


@pytest.fixture(scope="session")
def against(make_digests: Digests, lie: Callable[..., Any]) -> Callable[..., Together[np.ndarray]]:
    def run(liar: str = "b", kind: str = "", change: Any = None) -> Together[np.ndarray]:
        parties = {me: dh.dh(Setting(me, NAMES, b"run", 40), make_digests(SETS[me])) for me in NAMES}
        (other,) = set(NAMES) - {liar}
        parties[liar] = lie(parties[liar], {(other, kind): change})
        return together(parties)

    return run


def test_elements_are_seen_in_an_order_drawn_afresh(against: Any) -> None:
    one, two = against(), against()
    assert sorted(one.results["lead"]) == sorted(two.results["lead"]) == list(range(10, 30))
    assert one.results["lead"].tolist() != two.results["lead"].tolist()
    assert one.results["b"].tolist() != sorted(one.results["b"])
    assert (one.results["lead"] - 10).tolist() == one.results["b"].tolist()


@pytest.mark.parametrize("liar", NAMES)
@pytest.mark.parametrize(
    ("kind", "change", "says"),
    [
        ("count", lambda _: (41).to_bytes(8, "big"), "brings 41 ids, and the contract allows 40"),
        ("count", lambda payload: payload[1:], "7 bytes of 'count'"),
        ("masked", lambda payload: bytes(32) + payload[32:], "invalid group element"),
        ("masked", lambda payload: payload[:-32] + b"\xff" * 32, "invalid group element"),
        ("masked", lambda payload: payload[:-32] + b"\1" + bytes(31), "invalid group element"),
        ("masked", lambda payload: payload[:-1], "bytes of 'masked'"),
        ("masked", lambda payload: payload + GENERATOR, "over its"),
        ("masked", lambda payload: payload[:-64] + GENERATOR * 2, "the same element twice"),
        ("masked twice", lambda payload: payload[:-1], "bytes of 'masked twice'"),
        ("masked twice", lambda payload: payload + bytes(TAG), "over its"),
    ],
)
def test_bad_messages(against: Any, liar: str, kind: str, change: Any, says: str) -> None:
    with pytest.raises(RemoteProtocolError, match=says) as caught:
        against(liar, kind, change)
    assert liar in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("liar", NAMES)
def test_a_tag_twice(against: Any, liar: str) -> None:
    """Half of the tags come twice; among so many are common ones."""

    def repeat(payload: bytes) -> bytes:
        half = (len(payload) // TAG // 2 + 1) * TAG
        return (payload[:half] * 2)[: len(payload)]

    with pytest.raises(RemoteProtocolError, match=f"{liar} sent the same tag twice"):
        against(liar, "masked twice", repeat)


@pytest.mark.parametrize("short", [0, 1, 40, 1 << 20])
def test_no_two_tags_of_the_longer_list_are_equal_by_chance(short: int) -> None:
    """Else an honest peer is taken for one that sends an element twice."""
    longer = 1 << 20
    sent = dh.traffic(short, longer) - dh.traffic(0, 0)
    tag = sent // (short + longer) - 32
    assert 8 * tag >= tags.STATISTICAL + np.log2(longer * (longer - 1) / 2)


@settings(deadline=None, max_examples=40)
@given(st.sampled_from(NAMES), st.sampled_from(["count", "masked", "masked twice"]), st.binary(max_size=300))
def test_garbage_is_refused(against: Any, liar: str, kind: str, garbage: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        against(liar, kind, lambda _: garbage)


@pytest.mark.parametrize("kind", ["masked twice", "result", "result twice"])
def test_a_key_serves_one_alignment(against: Any, kind: str) -> None:
    """An old message played again fits nothing."""
    (old,) = [s.payload for s in against().transcript if (s.sender, s.kind) == ("b", kind)]
    with pytest.raises(RemoteProtocolError, match="another result"):
        against("b", kind, lambda _: old)


def test_old_elements_name_nothing_common(against: Any) -> None:
    (old,) = [s.payload for s in against().transcript if (s.sender, s.kind) == ("b", "masked")]
    results = against("b", "masked", lambda _: old).results
    assert [len(results[me]) for me in NAMES] == [0, 0]


@pytest.mark.parametrize("liar", NAMES)
def test_swapped_tags_do_not_make_other_ids_common(against: Any, liar: str) -> None:
    def swap(payload: bytes) -> bytes:
        return payload[TAG:] + payload[:TAG]

    with pytest.raises(RemoteProtocolError, match="another result"):
        against(liar, "masked twice", swap)


def test_a_proof_sent_back_to_its_author_does_not_pass(make_digests: Digests) -> None:
    setting = Setting("b", NAMES, b"run", 40)
    comparing = dh._compare(setting, "lead", b"\1" + bytes(31), make_digests(range(9)))
    element = next(comparing)
    assert isinstance(element, Send)
    assert isinstance(comparing.send(None), Receive)
    proof = comparing.send(element.payload)
    assert isinstance(proof, Send)
    assert isinstance(comparing.send(None), Receive)
    with pytest.raises(RemoteProtocolError, match="another result"):
        comparing.send(proof.payload)
