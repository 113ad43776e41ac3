"""The first field in which two contracts differ, whatever a peer says its own is."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from parties.contract import Contract
from parties.difference import CANONICAL_AT_MOST, first_difference
from protos.rounds import RemoteProtocolError

MakeContract = Callable[..., Contract]


def test_a_codec_unknown_at_a_peer_is_a_difference(contract_of: MakeContract) -> None:
    """A peer of another release, with a codec that is none here, or with no codecs at all."""
    ours = contract_of().canonical
    theirs = json.loads(ours)
    theirs["codec"]["activations"] = "zfp"
    told = first_difference(ours, json.dumps(theirs).encode(), "logistics")
    assert told == 'codec.activations: "fp32" here, "zfp" at logistics'
    del theirs["codec"]
    told = first_difference(ours, json.dumps(theirs).encode(), "logistics")
    assert told == "codec: a table here, nothing at logistics"


def test_a_party_more(contract_of: MakeContract) -> None:
    ours = contract_of().canonical
    theirs = json.loads(ours)
    theirs["parties"]["bank"] = theirs["parties"]["platform"]
    told = first_difference(ours, json.dumps(theirs).encode(), "logistics")
    assert told == "parties.bank: nothing here, a table at logistics"


def test_no_difference(contract_of: MakeContract) -> None:
    assert first_difference(contract_of().canonical, contract_of().canonical, "logistics") is None


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"training": {"batch": 512}}, "training.batch: 256 here, 512 at logistics"),
        ({"name": "other", "seed": 1}, 'name: "test" here, "other" at logistics'),
        ({"model": {"top_hidden": [64, 8]}}, "model.top_hidden: [64] here, [64, 8] at logistics"),
    ],
)
def test_first_difference(contract_of: MakeContract, changes: dict[str, Any], says: str) -> None:
    assert first_difference(contract_of().canonical, contract_of(**changes).canonical, "logistics") == says


@pytest.mark.parametrize(
    "there",
    [
        b"",
        b"{",
        b"\xff",
        b"[" * 60_000,
        b"9" * 10_000,
        b'{"a": "' + "ä".encode() + b'"}',
        b" " * (CANONICAL_AT_MOST + 1),
    ],
    ids=["empty", "cut", "no text", "nested", "digits", "no ASCII", "long"],
)
def test_a_contract_that_is_none(contract_of: MakeContract, there: bytes) -> None:
    with pytest.raises(RemoteProtocolError, match=r"^logistics sent a contract "):
        first_difference(contract_of().canonical, there, "logistics")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
)


@settings(deadline=None, max_examples=200)
@given(JSON, st.sampled_from(["seed", "training", "model", "parties", "\x1b[2J", "x" * 500]))
def test_whatever_a_peer_sends_gives_one_short_printable_line(
    contract_of: MakeContract, value: Any, key: str
) -> None:
    ours = contract_of().canonical
    there = json.dumps(json.loads(ours) | {key: value}).encode()
    difference = first_difference(ours, there, "logistics")
    assert difference is not None or json.loads(ours).get(key) == value
    assert difference is None or (difference.isascii() and difference.isprintable() and len(difference) < 400)


@pytest.mark.parametrize(
    ("own", "other"), [(1, True), (1, 1.0), ([1], [True]), (0, None), ("1", 1), (0.0, -0.0)]
)
def test_equal_in_python_and_different_in_json(own: object, other: object) -> None:
    here, there = (json.dumps({"a": value}).encode() for value in (own, other))
    assert first_difference(here, there, "p") is not None
    assert first_difference(there, here, "p") is not None
