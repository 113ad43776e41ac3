"""The kit passes what conforms, and fails what does not, in the right property and with a seed."""

import importlib.util
import re
import sys
from pathlib import Path
from typing import Any

import pytest

import psi
from psi.conformance import PROPERTIES, Result, check

HERE = Path(__file__).parent


def _toys() -> Any:
    spec = importlib.util.spec_from_file_location("toys", HERE / "toys.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["toys"] = module
    spec.loader.exec_module(module)
    return module


toys = _toys()

BROKEN = [
    ("TwoParties", "declared class", "parties is 2, not a range such as"),
    ("ManyParties", "declared class", r"parties is range\(6, 8\), none of 2 to 5"),
    ("NamedAsOurs", "declared class", "name is 'ecdh', as that of a protocol that comes with the program"),
    ("SecureInWords", "declared class", "secure is 'yes', not True or False"),
    ("ManyLines", "declared class", "leakage is 'a count.*more', not one line of text"),
    ("LosesARow", "plain intersection", "lost 1 of"),
    ("OrderOfItsOwn", "one order", "b has another order than lead"),
    ("TellsAHash", "no ids in messages", "'hello' contains sha256 of a digest"),
    ("SameKeys", "fresh messages", "of lead is the same in two runs"),
    ("Salted", "no guessing", r"lead of 2 .* finds 64 of 64 that the others hold, and 0 that nobody holds"),
    ("Pairwise", "no pairwise", "lead finds 64 of 64 ids that only b shares with it, and 0"),
    ("Unshuffled", "order of rows", "b of 2 sees the order of lead's rows in 'once'"),
    ("OrderOfTheLeader", "order of rows", "the result of 2 parties follows the order of lead's rows"),
    ("ValueErrors", "damaged messages", "'base' of lead to b, one byte short: b raises ValueError"),
    ("Overlooks", "damaged messages", "'once' of lead to b, one byte long: nobody notices"),
    ("Believes", "damaged messages", "its halves swapped: b takes an id for common that is not"),
    ("Chatty", "damaged messages", "an error that is not one line"),
    ("SendsMore", "declared traffic", "bytes sent by sets of"),
    ("RunsAhead", "declared unread", "bytes before lead of 2 asked"),
    ("AsksForAnything", "declared unread", "asks for up to 1099511627776 bytes at once"),
    ("NoFormula", "declared traffic", "traffic raised KeyError"),
    ("NoFormula", "declared unread", "unread returns None, no number of bytes"),
]


def test_a_protocol_that_conforms() -> None:
    seen: list[Result] = []
    begun: list[str] = []
    report = check(toys.Toy(), watch=seen.append, begin=begun.append)
    assert begun == list(PROPERTIES)
    assert report.conforms, [result for result in report.results if result.outcome == "failed"]
    assert [result.property for result in report.results] == list(PROPERTIES)
    assert tuple(seen) == report.results
    assert all(result.measured for result in seen)
    left_out = [result.property for result in seen if result.outcome == "does not apply"]
    assert left_out == ["no pairwise", "unmasked values"]


@pytest.mark.parametrize(("toy", "property", "says"), BROKEN, ids=["-".join(case[:2]) for case in BROKEN])
def test_what_is_broken_fails_there(toy: str, property: str, says: str) -> None:
    report = check(getattr(toys, toy)(), seed=3, properties=[property])
    assert report.failed == [property]
    assert not report.conforms
    (result,) = report.results
    assert result.seed is not None
    assert result.reason is not None
    assert "\n" not in result.reason
    assert re.search(says, result.reason), result.reason


WRONG = [
    ("RaisesAtOnce", r"align raised ValueError: no such key; (lead|b), sets of "),
    ("FailsBeforeItIsOne", "align raised ValueError: no such key"),
    ("NoGenerator", "align returned an array without yielding: it must be a generator"),
    ("YieldsWhatIsNoRound", "align yields 3, which is no round; (lead|b), sets of "),
    ("Saves", "align yields Save, which an alignment may not; "),
    ("SendsText", "align sends 'hello' as a str, not as bytes or chunks of bytes"),
    ("SendsToNobody", "(lead|b) sends 'hello' to 'nobody', which is no other party"),
    ("NoLimit", "align yields Receive.*whose fields are of the wrong type"),
]


@pytest.mark.parametrize(("toy", "says"), WRONG, ids=[case[0] for case in WRONG])
def test_what_does_not_run_fails_in_words_whatever_is_tried(toy: str, says: str) -> None:
    asked = [name for name in PROPERTIES if name not in ("declared class", "no pairwise", "unmasked values")]
    for name in asked:
        (result,) = check(getattr(toys, toy)(), properties=[name]).results
        assert result.outcome == "failed", name
        assert re.match(says, str(result.reason)), (name, result.reason)


@pytest.mark.parametrize(
    ("toy", "first"), [("TwoParties", "declared class"), ("LosesARow", "plain intersection")]
)
def test_nothing_is_said_of_what_is_no_protocol_at_all(toy: str, first: str) -> None:
    begun: list[str] = []
    report = check(getattr(toys, toy)(), begin=begun.append)
    assert begun[-1] == first
    assert report.failed == [first]
    tried = len(begun)
    assert {(one.outcome, one.measured) for one in report.results[tried:]} == {
        ("not tried", f"{first} failed")
    }
    assert len(report.results) == len(PROPERTIES)


def test_every_property_can_fail() -> None:
    """The last one, which looks inside the star, is broken in test_unmasked.py."""
    assert {property for _, property, _ in BROKEN} | {"unmasked values"} == set(PROPERTIES)


def test_hashing_is_no_intersection_in_private() -> None:
    """`insecure-hash` gives the right result, and gives everything away."""
    report = check(psi.load("insecure-hash"))
    assert {"fresh messages", "no guessing", "no pairwise", "damaged messages"} == set(report.failed)


@pytest.mark.parametrize(
    "name",
    ["dh", pytest.param("ecdh", marks=pytest.mark.slow), pytest.param("rr22", marks=pytest.mark.slow)],
)
def test_what_we_bring_conforms(name: str) -> None:
    report = check(psi.load(name))
    assert report.conforms, [result for result in report.results if result.outcome == "failed"]


@pytest.mark.parametrize("name", ["plain intersection", "damaged messages", "no pairwise"])
def test_the_same_seed_measures_the_same(name: str) -> None:
    one, two = (check(psi.load("insecure-hash"), seed=9, properties=[name]) for _ in range(2))
    assert one == two
