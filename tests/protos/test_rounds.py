"""A wrapper around rounds changes nothing that it does not mean to change."""

from typing import Any

import pytest

from protos.rounds import PeerFailed, Progress, Receive, Round, Rounds, Save, Send, mapped

GONE = PeerFailed("hub", "training", "its connection broke")


def protocol(seen: list[object]) -> Rounds[str]:
    """Notes what it is answered, and how it ends."""
    try:
        seen.append((yield Progress("training", 1, 2)))
        seen.append((yield Receive("hub", "gradient", 9)))
    except BaseException as error:
        seen.append(error)
        raise
    return "done"


def untouched(word: Round) -> Rounds[Any]:
    return (yield word)


@pytest.mark.parametrize("depth", [0, 1, 3])
def test_words_answers_and_the_result_pass(depth: int) -> None:
    seen: list[object] = []
    rounds = protocol(seen)
    for _ in range(depth):
        rounds = mapped(rounds, untouched)
    assert rounds.send(None) == Progress("training", 1, 2)
    assert rounds.send("traffic") == Receive("hub", "gradient", 9)
    with pytest.raises(StopIteration) as stop:
        rounds.send(b"payload")
    assert stop.value.value == "done"
    assert seen == ["traffic", b"payload"]


@pytest.mark.parametrize("depth", [0, 1, 3])
@pytest.mark.parametrize("error", [GONE, KeyboardInterrupt()], ids=repr)
def test_what_the_driver_throws_reaches_the_protocol(depth: int, error: BaseException) -> None:
    seen: list[object] = []
    rounds = protocol(seen)
    for _ in range(depth):
        rounds = mapped(rounds, untouched)
    rounds.send(None)
    with pytest.raises(type(error)) as raised:
        rounds.throw(error)
    assert raised.value is error
    assert seen == [error]


def test_what_the_wrapper_throws_reaches_it_too() -> None:
    def refuse(word: Round) -> Rounds[Any]:
        if isinstance(word, Receive):
            raise GONE
        return (yield word)

    seen: list[object] = []
    rounds = mapped(protocol(seen), refuse)
    rounds.send(None)
    with pytest.raises(PeerFailed):
        rounds.send(None)
    assert seen == [None, GONE]


def test_a_dropped_wrapper_closes_the_protocol() -> None:
    seen: list[object] = []
    rounds = mapped(protocol(seen), untouched)
    rounds.send(None)
    rounds.close()
    assert [type(one) for one in seen] == [GeneratorExit]


def test_a_word_may_become_none_or_several() -> None:
    def each(word: Round) -> Rounds[Any]:
        if isinstance(word, Progress):
            return "kept"
        yield Send("hub", "hello", b"")
        yield Save(1, lambda: b"")
        return b"made up"

    seen: list[object] = []
    rounds = mapped(protocol(seen), each)
    assert rounds.send(None) == Send("hub", "hello", b"")
    assert isinstance(rounds.send(None), Save)
    with pytest.raises(StopIteration):
        rounds.send(None)
    assert seen == ["kept", b"made up"]
