"""The terms: sizes that the contract allows, one protocol, kind and number of buckets; or one line to all."""

import hashlib
from collections.abc import Callable, Generator, Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import psi
from parties.contract import Contract
from parties.errors import AlignmentError
from parties.handshake import Meeting
from parties.terms import Terms, settle
from protos import party_pb2
from protos.memory import Together, together
from protos.rounds import PeerFailed, Receive, RemoteProtocolError, Round, Rounds, Send, mapped
from protos.simulator import Faults, Simulation
from psi import buckets

MakeContract = Callable[..., Contract]

NAMES = ("advertiser", "logistics", "platform")
HUB = "platform"
PROTOCOLS = {name: psi.load(name) for name in ("ecdh", "rr22")}
MEETING = Meeting(bytes(32), "email", frozenset(PROTOCOLS), {}, b"", {})


def start(
    name: str, contract: Contract, ids: int, protocols: Mapping[str, psi.Psi] = PROTOCOLS
) -> Rounds[Terms]:
    return settle(name, contract, MEETING, protocols, ids)


def settled(contract: Contract, ids: Mapping[str, int]) -> Together[Terms]:
    return together({name: start(name, contract, ids[name]) for name in contract.names})


def refused(contract: Contract, ids: Mapping[str, int]) -> str:
    """The one line with which every party ends by itself, none of them failing another."""

    def outcome(name: str) -> Rounds[Terms | AlignmentError]:
        try:
            return (yield from start(name, contract, ids[name]))
        except AlignmentError as error:
            return error

    done = together({name: outcome(name) for name in contract.names})
    assert all(isinstance(result, AlignmentError) for result in done.results.values()), done.results
    assert {said.kind for said in done.transcript} == {"offer", "terms"}
    [line] = {str(result) for result in done.results.values()}
    return line


sizes = st.fixed_dictionaries({name: st.integers(0, 5_000_000) for name in NAMES})


@settings(max_examples=60, deadline=None)
@given(sizes, st.integers(100, 4_000_000), st.none() | st.integers(1, 50))
def test_what_the_contract_allows_is_settled_alike(
    contract_of: MakeContract, ids: dict[str, int], at_most: int, ratio: int | None
) -> None:
    contract = contract_of(psi={"at_most": at_most, "largest_ratio": ratio})
    over = [name for name in NAMES if ids[name] > at_most]
    uneven = [name for name in NAMES if ratio is not None and ids[name] > ratio * min(ids.values())]
    if over or uneven:
        line = refused(contract, ids)
        named = line.partition(":")[0].split(", ")
        assert sorted(named) == (over or uneven)
        assert ("psi.at_most = " in line) == bool(over)
        return
    terms = settled(contract, ids).results
    alike = {(one.protocol, one.kind, one.buckets) for one in terms.values()}
    assert alike == {("ecdh", "email", buckets.count(max(ids.values())))}
    assert dict(terms[HUB].sizes) == ids
    for name in ("advertiser", "logistics"):  # nothing of the other one's size
        assert dict(terms[name].sizes) == {name: ids[name], HUB: ids[HUB]}


@settings(max_examples=30, deadline=None)
@given(sizes, sizes)
def test_hidden_sizes_are_in_no_message(
    contract_of: MakeContract, one: dict[str, int], other: dict[str, int]
) -> None:
    """Two runs with sets of any sizes within the cap say the same, byte for byte."""
    contract = contract_of(psi={"at_most": 5_000_000, "hide_sizes": True})
    first, second = settled(contract, one), settled(contract, other)
    assert first.transcript == second.transcript
    assert set(first.results["logistics"].sizes.values()) == {5_000_000}
    assert first.results["logistics"].buckets == buckets.count(5_000_000)


def test_how_far_a_set_is_over_the_cap_is_not_told(contract_of: MakeContract) -> None:
    contract = contract_of(psi={"at_most": 1000})
    transcripts = []
    for many in (1001, 10**9):
        ids = {"advertiser": 5, "logistics": many, "platform": 7}
        assert refused(contract, ids) == (
            "logistics: more ids than psi.at_most = 1,000 allows; nothing was aligned: agree on a larger "
            "cap, or bring fewer"
        )
        said: list[tuple[str, str, bytes]] = []

        def note(name: str, word: Any, said: list[tuple[str, str, bytes]] = said) -> None:
            if isinstance(word, Send):
                said.append((name, word.kind, word.payload))  # type: ignore[arg-type]

        with pytest.raises(AlignmentError):
            together({name: start(name, contract, ids[name]) for name in NAMES}, on_round=note)
        transcripts.append(said)
    assert transcripts[0] == transcripts[1]


@settings(max_examples=40, deadline=None)
@given(sizes)
def test_auto_is_the_same_everywhere_and_follows_from_the_largest_set(
    contract_of: MakeContract, ids: dict[str, int]
) -> None:
    contract = contract_of(psi={"protocol": "auto", "at_most": 5_000_000})
    chosen = {terms.protocol for terms in settled(contract, ids).results.values()}
    assert chosen == {psi.choose([1 << max(ids.values()).bit_length()] * 3, PROTOCOLS)}


def test_auto_takes_another_protocol_for_few_ids_than_for_many(contract_of: MakeContract) -> None:
    contract = contract_of(psi={"protocol": "auto", "at_most": 5_000_000})
    chosen = [settled(contract, dict.fromkeys(NAMES, ids)).results[HUB].protocol for ids in (100, 1_000_000)]
    assert chosen == ["ecdh", "rr22"]


def test_auto_looks_at_the_largest_set_wherever_it_is(contract_of: MakeContract) -> None:
    contract = contract_of(psi={"protocol": "auto", "at_most": 5_000_000})
    ids = {HUB: 100, "advertiser": 1_000_000, "logistics": 100}
    assert {terms.protocol for terms in settled(contract, ids).results.values()} == {"rr22"}


@pytest.mark.parametrize("scale", [0, 9, 24, (1 << 32) - 1])
def test_a_scale_that_cannot_be(contract_of: MakeContract, scale: int) -> None:
    contract = contract_of(psi={"protocol": "auto", "at_most": 5_000_000})
    ended = ends(contract, HUB, "terms", assign(scale=scale))
    assert str(ended["logistics"]) == f"{HUB} says that the largest set has 2^{scale} ids, which cannot be"


def changed(
    rounds: Rounds[Terms], kind: str, change: Callable[[bytes], bytes], to: str | None = None
) -> Rounds[Terms]:
    """A party whose messages of this kind are changed on the way."""

    def each(word: Round) -> Generator[Round, Any, Any]:
        if isinstance(word, Send) and word.kind == kind and to in (None, word.to):
            assert isinstance(word.payload, bytes)
            word = Send(word.to, word.kind, change(word.payload))
        return (yield word)

    return mapped(rounds, each)


def with_terms(change: Callable[[Any], object]) -> Callable[[bytes], bytes]:
    def apply(payload: bytes) -> bytes:
        terms = party_pb2.Terms.FromString(payload)
        change(terms)
        return terms.SerializeToString()

    return apply


def assign(**fields: Any) -> Callable[[bytes], bytes]:
    return with_terms(lambda terms: [setattr(terms, name, value) for name, value in fields.items()])


HOSTILE: dict[str, Callable[[bytes], bytes]] = {
    "no terms": lambda payload: b"\xff" * 9,
    "nothing": lambda payload: b"",
    "our number changed": with_terms(lambda terms: terms.ids.update(logistics=9)),
    "our number left out": with_terms(lambda terms: terms.ids.pop("logistics")),
    "another's number": with_terms(lambda terms: terms.ids.update(advertiser=10)),
    "the hub over the cap": with_terms(lambda terms: terms.ids.update(platform=2_000_001)),
    "the hub beyond the ratio": with_terms(lambda terms: terms.ids.update(platform=1_000_001)),
    "the hub too small for ours": with_terms(lambda terms: terms.ids.update(platform=99)),
    "no buckets": assign(buckets=0),
    "more buckets than any set needs": assign(buckets=4),
    "2^32 - 1 buckets": assign(buckets=(1 << 32) - 1),
    "unknown kind": assign(kind="phone"),
    "another protocol": assign(protocol="rr22"),
    "a protocol that nobody has": assign(protocol="x" * 5000),
    "too long": assign(protocol="x" * 10_000),
    "we are over": with_terms(lambda terms: terms.over.append("logistics")),
    "a stranger is over": with_terms(lambda terms: terms.over.append("\x1b[2J")),
    "a party twice": with_terms(lambda terms: terms.over.extend(["advertiser"] * 2)),
    "a stranger is uneven": with_terms(lambda terms: terms.uneven.append("bank")),
}


def ends(contract: Contract, name: str, kind: str, change: Callable[[bytes], bytes]) -> dict[str, Any]:
    """What each party ends with where one party's messages are changed."""
    parties: dict[str, Callable[[Any], Rounds[Terms]]] = {
        one: lambda _, one=one: start(one, contract, 1000) for one in contract.names
    }
    parties[name] = lambda _: changed(
        start(name, contract, 1000), kind, change, HUB if name != HUB else "logistics"
    )
    return Simulation(parties, HUB, 0, Faults()).run()


@pytest.mark.parametrize("change", HOSTILE.values(), ids=HOSTILE)
def test_hostile_terms(contract_of: MakeContract, change: Callable[[bytes], bytes]) -> None:
    contract = contract_of(psi={"at_most": 2_000_000, "largest_ratio": 10})
    ended = ends(contract, HUB, "terms", change)
    assert type(ended["logistics"]) is RemoteProtocolError, ended["logistics"]
    assert str(ended["logistics"]).isprintable()
    assert len(str(ended["logistics"])) < 300
    assert not any(isinstance(end, Terms) for end in ended.values())  # nobody goes on


def test_a_ratio_that_nobody_agreed_on(contract_of: MakeContract) -> None:
    uneven = with_terms(lambda terms: terms.uneven.append("advertiser"))
    ended = ends(contract_of(), HUB, "terms", uneven)
    assert str(ended["logistics"]) == "platform refuses a ratio that the contract allows"


def test_a_hub_that_goes_on_in_spite_of_the_cap(contract_of: MakeContract) -> None:
    """Nothing of a set over the cap is sent because a hub says so."""
    contract = contract_of(psi={"at_most": 1000})
    hub = party_pb2.Terms(protocol="ecdh", kind="email", buckets=1, ids={HUB: 5, "logistics": 1001})

    def lax() -> Rounds[None]:
        yield Receive("logistics", "offer", 16)
        yield Send("logistics", "terms", hub.SerializeToString())

    parties: dict[str, Rounds[Any]] = {HUB: lax(), "logistics": start("logistics", contract, 10**6)}
    with pytest.raises(RemoteProtocolError, match="misjudges who brings too many ids"):
        together(parties)


def test_two_parties_check_the_number_of_buckets_exactly(contract_of: MakeContract) -> None:
    """Each knows both sizes."""
    parties = {
        name: member for name, member in contract_of().model_dump()["parties"].items() if name != NAMES[0]
    }
    ended = ends(contract_of(parties=parties, psi={"at_most": 5_000_000}), HUB, "terms", assign(buckets=2))
    assert str(ended["logistics"]) == "platform wants 2 buckets, not 1 to 1"


@pytest.mark.parametrize(
    "change",
    [
        lambda payload: b"\xff" * 9,
        lambda payload: b"\x08" * 17,
        lambda payload: party_pb2.Offer(ids=2_000_002).SerializeToString(),
        lambda payload: party_pb2.Offer(ids=(1 << 64) - 1).SerializeToString(),
    ],
    ids=["no offer", "too long", "over the cap, and how far", "2^64 - 1"],
)
def test_hostile_offers(contract_of: MakeContract, change: Callable[[bytes], bytes]) -> None:
    ended = ends(contract_of(psi={"at_most": 2_000_000}), "logistics", "offer", change)
    assert type(ended[HUB]) is RemoteProtocolError
    assert not any(isinstance(end, Terms) for end in ended.values())


def test_a_size_that_is_told_where_all_are_hidden(contract_of: MakeContract) -> None:
    contract = contract_of(psi={"at_most": 2_000_000, "hide_sizes": True})
    told = party_pb2.Offer(ids=1000).SerializeToString()
    ended = ends(contract, "logistics", "offer", lambda payload: told)
    assert str(ended[HUB]) == "logistics offers 1000 ids, which psi.at_most = 2000000 rules out"
    told_by_hub = with_terms(lambda terms: terms.ids.update(platform=1000))
    ended = ends(contract, HUB, "terms", told_by_hub)
    assert str(ended["logistics"]) == "platform brings 1000 ids and goes on, which the contract rules out"


@pytest.mark.parametrize("wrong", [b"", bytes(32), hashlib.sha256(b"other").digest(), bytes(33)])
def test_wrong_confirmations(contract_of: MakeContract, wrong: bytes) -> None:
    ended = ends(contract_of(), "logistics", "confirm", lambda payload: wrong)
    assert type(ended[HUB]) is RemoteProtocolError
    assert not any(isinstance(end, Terms) for end in ended.values())


def test_nobody_begins_before_all_have_confirmed(contract_of: MakeContract) -> None:
    transcript = settled(contract_of(), dict.fromkeys(NAMES, 10)).transcript
    kinds = [said.kind for said in transcript]
    assert kinds.index("go") > max(place for place, kind in enumerate(kinds) if kind == "confirm")
    assert kinds.count("go") == kinds.count("confirm") == 2


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=200), st.sampled_from(["terms", "offer", "confirm", "go"]))
def test_garbage_is_a_typed_error_or_the_same_terms(
    contract_of: MakeContract, garbage: bytes, kind: str
) -> None:
    name = "logistics" if kind in ("offer", "confirm") else HUB
    ended = ends(contract_of(), name, kind, lambda payload: garbage)
    victim = ended["logistics" if name == HUB else HUB]
    assert isinstance(victim, Terms | RemoteProtocolError | AlignmentError | PeerFailed)
    if isinstance(victim, Terms):
        assert victim.kind == "email"
        assert victim.buckets == 1
