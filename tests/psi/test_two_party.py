"""Two parties: what each may see, and that a peer that lies or garbles gets a typed error."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protos.memory import Together, together
from protos.rounds import RemoteProtocolError, RoundsError
from protos.simulator import Faults, Simulation
from psi import Setting, tags, two_party
from psi.ecdh import Ecdh
from psi.interface import Engine

NAMES = ("lead", "b")
SETS = {"lead": range(40), "b": range(10, 53)}  # 10 to 39 are common; 43 tags take 6 bytes of bits
Change = Callable[[bytes], bytes]
Digests = Callable[[Sequence[int]], np.ndarray]
TAG = tags.size(40, 43)


@pytest.fixture(scope="session")
def against(make_digests: Digests, lie: Callable[..., Any]) -> Callable[..., Together[np.ndarray]]:
    """Run both, where `liar` changes its messages of each kind."""

    def run(engine: Engine, liar: str, changes: dict[str, Change], most: int = 43) -> Together[np.ndarray]:
        parties = {
            me: two_party.two_party(engine, Setting(me, NAMES, b"run", most), make_digests(SETS[me]))
            for me in NAMES
        }
        (other,) = set(NAMES) - {liar}
        parties[liar] = lie(parties[liar], {(other, kind): change for kind, change in changes.items()})
        return together(parties)

    return run


def said(outcome: Together[np.ndarray], kind: str) -> bytes:
    (payload,) = [said.payload for said in outcome.transcript if said.kind == kind]
    return payload


def bits(payload: bytes) -> np.ndarray:
    return np.unpackbits(np.frombuffer(payload[: -two_party.PROOF], np.uint8), bitorder="little")


def test_the_answer_is_a_bit_for_each_shuffled_tag(against: Any, plain: Engine) -> None:
    """Of which row a bit speaks only the client knows, who drew the order afresh."""
    one, two = (against(plain, "lead", {}) for _ in range(2))
    for outcome in (one, two):
        answer = said(outcome, "common")
        assert len(answer) == 6 + two_party.PROOF
        assert bits(answer).sum() == 30
        assert len(said(outcome, "tags")) == 43 * TAG
    assert bits(said(one, "common")).tolist() != bits(said(two, "common")).tolist()
    assert one.results["b"].tolist() != two.results["b"].tolist()
    assert one.results["b"].tolist() != sorted(one.results["b"])


def test_the_leader_sees_the_clients_tags_in_no_order_of_its_rows(
    make_digests: Digests, plain: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over many runs the client's first row is as often early as late."""
    places = []
    sets = {me: make_digests(range(11)) for me in NAMES}
    for _ in range(300):
        parties = {
            me: two_party.two_party(plain, Setting(me, NAMES, b"run", 11), own) for me, own in sets.items()
        }
        places.append(together(parties).results["lead"].tolist().index(0))
    assert abs(np.mean(places) - 5) < 6 * np.sqrt(10) / np.sqrt(300)  # 6 standard deviations
    assert set(places) == set(range(11))


@pytest.mark.parametrize(
    ("liar", "kind", "change", "says"),
    [
        ("b", "count", lambda _: (44).to_bytes(8, "big"), "b brings 44 ids, .* allows 43"),
        ("lead", "count", lambda _: b"\xff" * 8, "lead brings .* the contract allows 43"),
        ("b", "count", lambda _: b"\1", "sent 1 bytes of 'count'"),
        ("b", "count", lambda _: (42).to_bytes(8, "big"), "'tags' from 'b' is over its"),
        ("b", "tags", lambda payload: payload[:-1], "bytes of 'tags'"),
        ("b", "tags", lambda payload: payload[:-TAG], "bytes of 'tags'"),
        ("b", "tags", lambda payload: payload + payload[:TAG], "over its"),
        ("lead", "common", lambda payload: payload[:-1], "37 bytes of 'common'"),
        ("lead", "common", lambda payload: payload[1:], "37 bytes of 'common'"),
        ("lead", "common", lambda payload: payload + b"\0", "over its 38 bytes"),
        ("lead", "common", lambda payload: payload[:5] + b"\xff" + payload[6:], "cannot be"),  # padding
        ("lead", "common", lambda payload: b"\xff" * 5 + b"\7" + payload[6:], "cannot be"),  # 43 > 40
        ("lead", "common", lambda payload: bytes(6) + payload[6:], "the alignment is void"),
        ("lead", "common", lambda payload: payload[:-1] + bytes([payload[-1] ^ 1]), "alignment is void"),
    ],
)
def test_bad_messages(against: Any, plain: Engine, liar: str, kind: str, change: Change, says: str) -> None:
    with pytest.raises(RemoteProtocolError, match=says) as caught:
        against(plain, liar, {kind: change})
    assert liar in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_tag_twice(against: Any, plain: Engine) -> None:
    """21 of 43 tags come twice, of which the leader has at least eight."""
    with pytest.raises(RemoteProtocolError, match="b sent the same tag twice"):
        against(plain, "b", {"tags": lambda payload: payload[: 22 * TAG] + payload[: 21 * TAG]})


@pytest.mark.parametrize("bit", range(43))
def test_every_bit_is_vouched_for(against: Any, plain: Engine, bit: int) -> None:
    """A leader cannot name an id that it does not hold, nor be garbled into naming others."""

    def flip(payload: bytes) -> bytes:
        flipped = bytearray(payload)
        flipped[bit // 8] ^= 1 << bit % 8
        return bytes(flipped)

    with pytest.raises(RemoteProtocolError, match="alignment is void"):
        against(plain, "lead", {"common": flip})


def test_tags_in_another_order_than_the_client_drew(against: Any, plain: Engine) -> None:
    with pytest.raises(RemoteProtocolError, match="alignment is void"):
        against(plain, "b", {"tags": lambda payload: payload[TAG:] + payload[:TAG]})


@pytest.mark.parametrize(("liar", "kind"), [("lead", "blinded"), ("b", "evaluated")])
@pytest.mark.parametrize(
    "change",
    [
        lambda payload: bytes(32) + payload[32:],  # the identity
        lambda payload: payload[:-32] + b"\xff" * 32,  # not canonical
        lambda payload: payload[:-32] + b"\1" + bytes(31),  # negative
    ],
)
def test_bad_points(against: Any, liar: str, kind: str, change: Change) -> None:
    with pytest.raises(RemoteProtocolError, match=f"{liar} sent an invalid group element"):
        against(Ecdh(), liar, {kind: change})


@settings(deadline=None, max_examples=100)
@given(
    st.sampled_from([("lead", "count"), ("lead", "common"), ("b", "count"), ("b", "key"), ("b", "tags")]),
    st.binary(max_size=500),
)
def test_garbage_ends_in_a_typed_error_or_a_subset_that_both_agree_on(
    against: Any, plain: Engine, where: tuple[str, str], garbage: bytes
) -> None:
    """A garbled key or tag is a client with other ids: ids may be missing, none may be wrong."""
    liar, kind = where
    try:
        outcome = against(plain, liar, {kind: lambda _: garbage})
    except RemoteProtocolError:
        return
    assert kind in ("key", "count")
    named = [[SETS[me][row] for row in outcome.results[me]] for me in NAMES]
    assert named[0] == named[1]
    assert set(named[0]) <= set(range(10, 40))


def test_an_old_transcript_played_again_is_refused(against: Any) -> None:
    """Everything the client said in an earlier run, or everything the leader said: keys are fresh."""
    for liar, kinds in (("b", ("evaluated", "tags")), ("lead", ("blinded", "common"))):
        old = {kind: said(against(Ecdh(), "lead", {}), kind) for kind in kinds}
        changes = {kind: lambda _, payload=payload: payload for kind, payload in old.items()}
        if liar == "lead":
            with pytest.raises(RemoteProtocolError, match="void"):
                against(Ecdh(), liar, changes)
        else:
            outcome = against(Ecdh(), liar, changes)
            assert len(outcome.results["lead"]) == len(outcome.results["b"]) == 0


def test_under_faults_the_right_result_or_a_typed_error(make_digests: Digests, plain: Engine) -> None:
    """A killed party comes back and the attempt starts afresh, every key included."""
    sets = {me: make_digests(ids) for me, ids in SETS.items()}
    wanted, aligned = {bytes(row) for row in make_digests(range(10, 40))}, 0
    for seed in range(40):
        factories = {
            me: lambda resume, me=me: two_party.two_party(plain, Setting(me, NAMES, b"run", 43), sets[me])
            for me in sets
        }
        stories = []
        for me, outcome in Simulation(factories, "lead", seed, Faults.drawn(seed)).run().items():
            if isinstance(outcome, Exception):
                assert isinstance(outcome, RoundsError), outcome
            else:
                stories.append([bytes(row) for row in sets[me][outcome]])
        assert all(story == stories[0] and set(story) == wanted for story in stories)
        aligned += len(stories) == 2
    assert aligned > 15
