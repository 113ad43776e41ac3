"""A peer that lies or garbles gets a typed error from an honest party, never a wrong result."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protos.memory import together
from protos.rounds import Receive, RemoteProtocolError, Send
from psi import ecdh, star, tags
from psi.ecdh import Ecdh
from psi.interface import Engine, Setting

NAMES = ("lead", "b", "c")
SETS = {"lead": range(40), "b": range(10, 50), "c": range(20, 60)}  # 20 to 39 are common
Change = Callable[[bytes], bytes]
Digests = Callable[[Sequence[int]], np.ndarray]
Lie = Callable[..., Any]


@pytest.fixture(scope="session")
def against(make_digests: Digests, lie: Lie) -> Callable[..., Any]:
    """Run the three parties, where `liar` changes messages of `kind` to `to`."""

    def run(engine: Engine, liar: str, changes: dict[tuple[str, str], Change], most: int = 40) -> Any:
        parties = {
            me: star.star(engine, Setting(me, NAMES, b"run", most), make_digests(SETS[me])) for me in NAMES
        }
        parties[liar] = lie(parties[liar], changes)
        return together(parties)

    return run


def test_the_liar_that_changes_nothing_is_honest(against: Any, plain: Engine) -> None:
    outcome = against(plain, "lead", {("b", "tags"): lambda payload: payload})
    assert len(outcome.results["lead"]) == 20


@pytest.mark.parametrize(("liar", "to", "kind"), [("lead", "b", "blinded"), ("c", "lead", "evaluated")])
@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda payload: bytes(32) + payload[32:], "invalid group element"),  # the identity
        (lambda payload: payload[:-32] + b"\xff" * 32, "invalid group element"),  # not canonical
        (lambda payload: payload[:-32] + b"\1" + bytes(31), "invalid group element"),  # negative
        (lambda payload: payload[:-1], "sent 1279 bytes of"),
        (lambda payload: payload[:-32], "sent 1248 bytes of"),
        (lambda payload: b"", "sent 0 bytes of"),
        (lambda payload: payload + payload[:32], "over its 1280 bytes"),
    ],
)
def test_bad_points(against: Any, liar: str, to: str, kind: str, change: Change, says: str) -> None:
    with pytest.raises(RemoteProtocolError, match=says) as caught:
        against(Ecdh(), liar, {(to, kind): change})
    assert liar in str(caught.value)


@pytest.mark.parametrize(
    ("liar", "to", "kind", "change", "says"),
    [
        ("c", "lead", "count", lambda _: (41).to_bytes(8, "big"), "c brings 41 ids, .* allows 40"),
        ("c", "lead", "count", lambda _: b"\xff" * 8, "the contract allows 40"),
        ("lead", "c", "count", lambda _: b"\xff" * 8, "lead brings"),
        ("c", "lead", "count", lambda _: b"\1", "sent 1 bytes of 'count'"),
        ("c", "lead", "count", lambda _: (39).to_bytes(8, "big"), "'hint'"),
        ("b", "c", "pair key", lambda payload: payload[1:], "sent 31 bytes of 'pair key'"),
        ("b", "lead", "hint", lambda payload: payload[:-8], "bytes of 'hint'"),
        ("b", "lead", "hint", lambda payload: payload + bytes(8), "'hint' from 'b' is over its"),
        ("lead", "b", "tags", lambda payload: payload[:-1], "bytes of tags"),
        ("lead", "b", "tags", lambda payload: bytes(len(payload)), "does not hold"),
        ("lead", "b", "tags", lambda payload: payload[:7] * (len(payload) // 7), "the same tag twice"),
        ("lead", "b", "tags", lambda payload: payload * 3, "over its"),
        ("b", "c", "result digest", lambda payload: payload[1:], "31 bytes of 'result digest'"),
    ],
)  # fmt: skip
def test_bad_messages(
    against: Any, plain: Engine, liar: str, to: str, kind: str, change: Change, says: str
) -> None:
    with pytest.raises(RemoteProtocolError, match=says) as caught:
        against(plain, liar, {(to, kind): change})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("liar", ["lead", "b"])
def test_another_number_than_was_announced(make_digests: Digests, plain: Engine, liar: str) -> None:
    announced = {"lead": 3, "b": 2, "c": 1, liar: 4}

    def align(me: str, ids: range) -> Any:
        told = {name: announced[name] for name in (announced if me == "lead" else ("lead", me))}
        return star.star(plain, Setting(me, ("lead", "b", "c"), bytes(32), 40, sizes=told), make_digests(ids))

    with pytest.raises(
        RemoteProtocolError, match=f"{liar} brings {3 if liar == 'lead' else 2} ids, and announced 4"
    ):
        together({"lead": align("lead", range(3)), "b": align("b", range(2)), "c": align("c", range(1))})


@pytest.mark.parametrize(
    "change",
    [
        lambda tags: tags[7:],  # one id fewer
        lambda tags: b"",
        lambda tags: tags[7:] + tags[:7],  # another order
    ],
)
def test_a_leader_that_tells_clients_different_stories_is_caught(
    against: Any, plain: Engine, change: Change
) -> None:
    assert tags.size(40, 40) == 7
    with pytest.raises(RemoteProtocolError, match=r"lead told . and . different results"):
        against(plain, "lead", {("b", "tags"): change})


def test_a_digest_reflected_to_its_author_does_not_pass(make_digests: Digests) -> None:
    comparing = star._compare(Setting("b", NAMES, b"run", 40), {"c": b"k" * 32}, make_digests(range(5)))
    own = next(comparing)
    assert isinstance(own, Send)
    assert isinstance(comparing.send(None), Receive)
    with pytest.raises(RemoteProtocolError, match="different results"):
        comparing.send(own.payload)


def test_an_old_pair_key_played_again_gives_a_fresh_key() -> None:
    keys = []
    for _ in range(2):
        agreeing = star._agree_keys(Setting("b", NAMES, b"run", 40))
        assert isinstance(next(agreeing), Send)
        assert isinstance(agreeing.send(None), Receive)
        with pytest.raises(StopIteration) as stop:
            agreeing.send(b"\7" * 32)
        keys.append(stop.value.value["c"])
    assert keys[0] != keys[1]


@settings(deadline=None, max_examples=150)
@given(
    st.sampled_from(
        [
            ("lead", "b", "count"), ("lead", "b", "tags"), ("b", "lead", "count"), ("b", "lead", "key"),
            ("b", "lead", "hint"), ("b", "c", "pair key"), ("b", "c", "result digest"),
        ]
    ),
    st.binary(max_size=2000),
)  # fmt: skip
def test_garbage_ends_in_a_typed_error_or_the_subset_that_all_agree_on(
    against: Any, plain: Engine, where: tuple[str, str, str], garbage: bytes
) -> None:
    """A garbled key or hint is a client with other ids: ids may be missing, none may be wrong."""
    liar, to, kind = where
    try:
        outcome = against(plain, liar, {(to, kind): lambda _: garbage})
    except RemoteProtocolError:
        return
    assert kind in ("key", "hint", "count", "tags")
    named = [[SETS[me][row] for row in outcome.results[me]] for me in NAMES]
    assert named[0] == named[1] == named[2]
    assert set(named[0]) <= set(range(20, 40))


def test_many_small_chunks_do_not_change_the_result(against: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ecdh, "CHUNK", 3)
    monkeypatch.setattr(ecdh, "WINDOW", 2)
    assert len(against(Ecdh(), "b", {}).results["c"]) == 20
