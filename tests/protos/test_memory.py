"""The lockstep driver: order, kinds, sizes and the ways it can end."""

import pytest

from protos.memory import Said, together
from protos.rounds import (
    ANY,
    LocalProtocolError,
    PeerFailed,
    Progress,
    Receive,
    RemoteProtocolError,
    Rounds,
    Send,
)


def ask(to: str, payload: bytes) -> Rounds[bytes]:
    yield Send(to, "question", payload)
    answer: bytes = yield Receive(to, "answer", at_most=100)
    return answer


def reply(to: str, at_most: int = 100) -> Rounds[bytes]:
    question: bytes = yield Receive(to, "question", at_most)
    yield Send(to, "answer", (question, b"!"))
    return question


def test_results_and_transcript() -> None:
    outcome = together({"a": ask("b", b"hello"), "b": reply("a")})
    assert outcome.results == {"a": b"hello!", "b": b"hello"}
    assert outcome.transcript == [Said("a", "b", "question", b"hello"), Said("b", "a", "answer", b"hello!")]
    unheard = together({"a": ask("b", b"hello"), "b": reply("a")}, transcript=False)
    assert (unheard.results, unheard.transcript) == (outcome.results, [])


def test_any_names_the_sender() -> None:
    def gather() -> Rounds[set[tuple[str, bytes]]]:
        got = set()
        for _ in range(2):
            got.add((yield Receive(ANY, "word", 10)))
        return got

    def say(word: bytes) -> Rounds[set[tuple[str, bytes]]]:
        yield Send("hub", "word", word)
        return set()

    outcome = together({"hub": gather(), "a": say(b"x"), "b": say(b"y")})
    assert outcome.results["hub"] == {("a", b"x"), ("b", b"y")}


def test_progress_answers_traffic() -> None:
    def count() -> Rounds[tuple[int, int]]:
        yield Send("b", "question", b"123")
        yield Receive("b", "answer", 100)
        traffic: tuple[int, int] = yield Progress("asking", 1, 1)
        return traffic

    outcome = together({"a": count(), "b": reply("a")})
    assert outcome.results["a"] == (3, 4)


def test_too_long_is_refused() -> None:
    with pytest.raises(RemoteProtocolError, match="over its 3 bytes"):
        together({"a": ask("b", b"hello"), "b": reply("a", at_most=3)})


def test_wrong_kind_is_refused() -> None:
    with pytest.raises(RemoteProtocolError, match="expected 'answer' from 'b', got 'question'"):
        together({"a": ask("b", b""), "b": ask("a", b"")})


def test_all_waiting_is_said() -> None:
    with pytest.raises(LocalProtocolError, match="all parties wait: a for 'question', b for 'question'"):
        together({"a": reply("b"), "b": reply("a")})


def test_a_party_that_left_is_named() -> None:
    def leave() -> Rounds[bytes]:
        return b""
        yield

    with pytest.raises(PeerFailed, match="b failed"):
        together({"b": leave(), "a": reply("b")})


def test_unread_messages_are_refused() -> None:
    def leave() -> Rounds[bytes]:
        yield Send("a", "answer", b"")
        return b""

    def silent() -> Rounds[bytes]:
        return b""
        yield

    with pytest.raises(RemoteProtocolError, match="after the end"):
        together({"a": silent(), "b": leave()})
