"""Parties with different alignments stop before anything is made of them; equal ones learn nothing."""

import hashlib
from collections.abc import Callable, Generator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from parties.contract import Contract
from parties.same_alignment import compare
from protos.memory import together
from protos.rounds import Receive, RemoteProtocolError, Round, Rounds, Send, mapped

NAMES = ("advertiser", "logistics", "platform")
SAME = np.arange(64, dtype=np.uint8).reshape(4, 16)


def met(contract: Contract, runs: dict[str, bytes], own: dict[str, Any]) -> Any:
    return together(
        {
            name: compare(name, contract, runs.get(name, bytes(32)), own.get(name, SAME))
            for name in contract.names
        }
    )


@settings(deadline=None, max_examples=20)
@given(rows=st.integers(0, 5))
def test_equal_alignments_pass(contract_of: Callable[..., Contract], rows: int) -> None:
    """And no two of the messages are equal: not those of two authors, nor of two runs."""
    said = []
    for run in (bytes(32), b"r" * 32):
        own = dict.fromkeys(NAMES, SAME[:rows])
        said += met(contract_of(), dict.fromkeys(NAMES, run), own).transcript
    assert len(said) == 2 * 6
    assert len({one.payload for one in said}) == 2 * 3


@pytest.mark.parametrize("who", NAMES)
@pytest.mark.parametrize("other", [SAME[:3], SAME[::-1], SAME[[0, 1, 2, 2]], SAME[:0]])
def test_a_party_with_another_alignment_is_named(
    contract_of: Callable[..., Contract], who: str, other: Any
) -> None:
    with pytest.raises(RemoteProtocolError, match=rf"\b{who}\b.*: the alignment is void") as caught:
        met(contract_of(), {}, {who: other})
    assert "\n" not in str(caught.value)


def test_clients_that_were_told_different_stories_find_out_without_the_hub(
    contract_of: Callable[..., Contract],
) -> None:
    """The hub says to each what it wants to hear."""
    contract = contract_of()
    stories = {"logistics": SAME, "advertiser": SAME[:3]}

    def hub() -> Rounds[None]:
        for name, story in stories.items():
            told = b"vertical alignment v1\0" + bytes(32) + story.tobytes() + b"platform"
            yield Send(name, "aligned", hashlib.sha256(told).digest())
        for name in stories:
            yield Receive(name, "aligned", 32)

    parties: dict[str, Rounds[None]] = {
        name: compare(name, contract, bytes(32), story) for name, story in stories.items()
    }
    with pytest.raises(RemoteProtocolError, match=r"advertiser and logistics|logistics and advertiser"):
        together({"platform": hub(), **parties})


@pytest.mark.parametrize("change", [lambda sent: sent[::-1], lambda sent: b"", lambda sent: sent[:31]])
def test_anything_else_is_refused(contract_of: Callable[..., Contract], change: Any) -> None:
    contract = contract_of()

    def each(word: Round) -> Generator[Round, Any, Any]:
        if isinstance(word, Send):
            word = replace(word, payload=change(word.payload))
        return (yield word)

    parties: dict[str, Rounds[None]] = {
        name: compare(name, contract, bytes(32), SAME) for name in contract.names
    }
    parties["platform"] = mapped(parties["platform"], each)
    with pytest.raises(RemoteProtocolError, match=r"platform and .* do not have the same"):
        together(parties)


def test_a_hash_sent_back_to_its_author_does_not_pass(contract_of: Callable[..., Contract]) -> None:
    comparing = compare("advertiser", contract_of(), bytes(32), SAME)
    sent = [next(comparing), comparing.send(None)]
    assert isinstance(comparing.send(None), Receive)
    with pytest.raises(RemoteProtocolError, match="do not have the same"):
        comparing.send(sent[0].payload)  # type: ignore[union-attr]
