"""The sealed relay: what two parties say passes unread, and only unchanged, once and in order."""

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from parties.seal import OVERHEAD, Seal, seal_between, sealed
from protos.memory import together
from protos.rounds import ANY, Receive, RemoteProtocolError, Rounds, Send

RUN = b"r" * 32


def pair(run_a: bytes = RUN, run_b: bytes = RUN) -> tuple[Seal, Seal]:
    a, b = X25519PrivateKey.generate(), X25519PrivateKey.generate()
    return (
        seal_between(a, b.public_key().public_bytes_raw(), run_a, "key a", "key b"),
        seal_between(b, a.public_key().public_bytes_raw(), run_b, "key b", "key a"),
    )


@given(st.lists(st.tuples(st.sampled_from(["x", "y"]), st.binary(max_size=200)), max_size=6))
def test_messages_pass_and_do_not_show(messages: list[tuple[str, bytes]]) -> None:
    ours, theirs = pair()
    for kind, payload in messages:
        closed = ours.close(kind, payload)
        assert len(closed) == len(payload) + OVERHEAD
        assert len(payload) < 8 or payload not in closed
        assert theirs.open(kind, closed) == payload


def test_both_directions_differ() -> None:
    ours, theirs = pair()
    assert ours.close("m", b"same") != theirs.close("m", b"same")


def test_both_have_the_same_for_other_use_and_nobody_else_has() -> None:
    (ours, theirs), again = pair(), pair()[0]
    assert ours.exported == theirs.exported
    assert ours.exported != again.exported
    ours, theirs = pair(run_b=b"s" * 32)
    assert ours.exported != theirs.exported
    assert "exported" not in repr(ours)
    assert ours.exported not in (ours._sending, ours._receiving)


@given(st.integers(0, 7 + OVERHEAD), st.integers(1, 255))
def test_a_changed_byte_does_not_open(position: int, flip: int) -> None:
    ours, theirs = pair()
    closed = bytearray(ours.close("m", b"12345678"))
    closed[position] ^= flip
    with pytest.raises(ValueError, match="MAC"):
        theirs.open("m", bytes(closed))


def test_what_does_not_open() -> None:
    ours, theirs = pair()
    first, second = ours.close("m", b"1"), ours.close("m", b"2")
    for kind, closed in (("m", second), ("other", first), ("m", first[:OVERHEAD]), ("m", b"")):
        with pytest.raises(ValueError, match=r"MAC|short"):
            theirs.open(kind, closed)
    assert theirs.open("m", first) == b"1"
    with pytest.raises(ValueError, match="MAC"):
        theirs.open("m", first)


def test_another_run_or_another_key_does_not_open() -> None:
    ours, theirs = pair(run_b=b"s" * 32)
    with pytest.raises(ValueError, match="MAC"):
        theirs.open("m", ours.close("m", b"1"))


@pytest.mark.parametrize("key", [bytes(32), (1).to_bytes(32, "little"), b"short"])
def test_bad_exchange_keys(key: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        seal_between(X25519PrivateKey.generate(), key, RUN, "a", "b")


def swap(peer: str, word: bytes, sender: str | None = None) -> Rounds[bytes]:
    yield Send(peer, "word", (word, b"!"))
    if sender:
        who, other = yield Receive(sender, "word", 6)
        assert who == peer
    else:
        other = yield Receive(peer, "word", 6)
    return bytes(other)


@pytest.mark.parametrize("sender", [None, ANY])
def test_a_protocol_sealed_is_the_same_protocol(sender: str | None) -> None:
    ours, theirs = pair()
    outcome = together(
        {
            "a": sealed(swap("b", b"hello", sender), {"b": ours}),
            "b": sealed(swap("a", b"world"), {"a": theirs}),
        }
    )
    assert outcome.results == {"a": b"world!", "b": b"hello!"}
    assert all(b"hello" not in said.payload and b"world" not in said.payload for said in outcome.transcript)


def test_the_relay_cannot_change_a_message() -> None:
    ours, _ = pair()

    def relay() -> Rounds[bytes]:
        word: bytes = yield Receive("a", "word", 6 + OVERHEAD)
        yield Send("a", "word", word)
        return word

    with pytest.raises(RemoteProtocolError, match="does not open"):
        together({"a": sealed(swap("b", b"hello"), {"b": ours}), "b": relay()})


def test_sizes_still_hold() -> None:
    ours, theirs = pair()
    with pytest.raises(RemoteProtocolError, match="over its"):
        together(
            {
                "a": sealed(swap("b", b"hello world"), {"b": ours}),
                "b": sealed(swap("a", b"x"), {"a": theirs}),
            }
        )
