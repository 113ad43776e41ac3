"""One attempt after another, but not for ever."""

import pytest

from parties.attempts import IN_VAIN, attempts
from protos.rounds import PeerFailed, PeerRestarted

RESTARTED = PeerRestarted("advertiser", "training", "its process was started anew")


def test_as_long_as_something_more_is_kept_each_time() -> None:
    made: list[int] = []
    said: list[str] = []

    def attempt() -> str:
        made.append(len(made))
        if len(made) < 5 * IN_VAIN:
            raise RESTARTED
        return "whole"

    assert attempts(attempt, "epoch 0", lambda: f"epoch {len(made) // 2}", said.append) == "whole"
    assert said == ["advertiser was started anew during training; meeting again"] * (5 * IN_VAIN - 1)


def test_who_is_killed_each_time_at_the_same_place_is_given_up() -> None:
    made: list[int] = []

    def attempt() -> None:
        made.append(0)
        raise RESTARTED

    with pytest.raises(PeerRestarted):
        attempts(attempt, "epoch 3", lambda: "epoch 3", lambda line: None)
    assert len(made) == IN_VAIN


def test_who_is_brought_to_begin_anew_for_ever_gives_up() -> None:
    """A peer that now has a part of the run, and now has lost it, makes all keep more and less by turns."""
    made: list[int] = []

    def attempt() -> None:
        made.append(0)
        raise RESTARTED

    with pytest.raises(PeerRestarted):
        attempts(attempt, "", lambda: ["", "the alignment", "epoch 3"][len(made) % 3], lambda line: None)
    assert len(made) == IN_VAIN + 2


def test_whatever_else_fails_is_not_tried_again() -> None:
    made: list[int] = []

    def attempt() -> None:
        made.append(0)
        raise PeerFailed("advertiser", "training", "it stopped with an error")

    with pytest.raises(PeerFailed):
        attempts(attempt, "", lambda: "", lambda line: None)
    assert len(made) == 1
