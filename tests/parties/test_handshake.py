"""The handshake: the same run at all parties, or an error that says who differs in what, at every party."""

import json
from collections.abc import Callable

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from parties.certs import Identity, verify
from parties.contract import Contract
from parties.errors import ContractError, IdentityError
from parties.handshake import Meeting, handshake
from protos.memory import Together, together
from protos.party_pb2 import Hello, Hellos
from protos.rounds import Receive, RemoteProtocolError, Rounds, Send
from protos.simulator import Faults, Simulation

MakeContract = Callable[..., Contract]
Identities = dict[str, Identity]


def start(name: str, contract: Contract, identity: Identity, nonce: bytes | None = None) -> Rounds[Meeting]:
    return handshake(name, contract, identity, nonce or name.encode().ljust(32), X25519PrivateKey.generate())


def meet(identities: Identities, contracts: dict[str, Contract]) -> Together[Meeting]:
    return together({name: start(name, contracts[name], identities[name]) for name in identities})


def outcomes(identities: Identities, contracts: dict[str, Contract]) -> dict[str, Meeting | Exception]:
    """What each party ends with, also when others fail."""
    parties = {
        name: lambda _, name=name: start(name, contracts[name], identities[name]) for name in identities
    }
    return Simulation(parties, "platform", 0, Faults()).run()


def test_all_parties_meet_in_one_run(identities: Identities, contract_of: MakeContract) -> None:
    contract = contract_of()
    results = meet(identities, dict.fromkeys(identities, contract)).results
    assert len({meeting.run for meeting in results.values()}) == 1
    for meeting in results.values():
        assert set(meeting.signatures) == set(identities)
        for name, identity in identities.items():
            assert verify(identity.certificate_der, meeting.agreed, meeting.signatures[name])
    a, b = results["advertiser"].seals["logistics"], results["logistics"].seals["advertiser"]
    assert b.open("k", a.close("k", b"aside")) == b"aside"
    assert set(results["platform"].seals) == set()


def test_a_fresh_nonce_is_another_run(identities: Identities, contract_of: MakeContract) -> None:
    contract = contract_of()
    runs = set()
    for nonce in (b"1" * 32, b"2" * 32):
        parties = {
            name: start(name, contract, identity, nonce if name == "logistics" else None)
            for name, identity in identities.items()
        }
        runs.add(together(parties).results["platform"].run)
    assert len(runs) == 2


def test_a_hub_that_gathers_for_long_is_waited_for(identities: Identities, contract_of: MakeContract) -> None:
    own, key = identities["logistics"], X25519PrivateKey.generate()
    rounds = handshake("logistics", contract_of(), own, bytes(32), key, wait=7200.0)
    for word in rounds:
        if isinstance(word, Receive):
            break
    assert (word.kind, word.within) == ("hellos", 7200.0)


def test_contracts_that_differ_are_named_at_both_ends(
    identities: Identities, contract_of: MakeContract
) -> None:
    contracts = dict.fromkeys(identities, contract_of())
    contracts["logistics"] = contract_of(training={"batch": 99})
    outcome = outcomes(identities, contracts)
    for name in ("platform", "advertiser"):
        assert isinstance(outcome[name], ContractError), name
        assert "training.batch" in str(outcome[name])
        assert "99 at logistics" in str(outcome[name])
    assert isinstance(outcome["logistics"], ContractError)
    assert "training.batch: 99 here" in str(outcome["logistics"])


def test_a_certificate_that_is_not_pinned(identities: Identities, contract_of: MakeContract) -> None:
    """logistics comes with the advertiser's certificate under its own name."""
    contract = contract_of()
    swapped = identities | {"logistics": identities["advertiser"]}
    outcome = outcomes(swapped, dict.fromkeys(identities, contract))
    assert isinstance(outcome["platform"], IdentityError)
    assert isinstance(outcome["advertiser"], IdentityError)


def test_a_signature_by_another_key(identities: Identities, contract_of: MakeContract) -> None:
    """logistics shows its own certificate but does not hold its key."""
    contract = contract_of()
    real, other = identities["logistics"], identities["advertiser"]

    class Impostor(Identity):
        def sign(self, data: bytes) -> bytes:
            return other.sign(data)

    fields = {name: getattr(real, name) for name in Identity.__dataclass_fields__}
    outcome = outcomes(identities | {"logistics": Impostor(**fields)}, dict.fromkeys(identities, contract))
    assert isinstance(outcome["platform"], IdentityError)
    assert isinstance(outcome["advertiser"], Exception)


def change_hellos(rounds: Rounds[Meeting], change: Callable[[Hellos], object]) -> Rounds[Meeting]:
    """The hub's handshake, with its `hellos` changed on the way."""
    answer = None
    while True:
        try:
            word = rounds.send(answer)
        except StopIteration as stop:
            return stop.value
        if isinstance(word, Send) and word.kind == "hellos":
            assert isinstance(word.payload, bytes)
            hellos = Hellos.FromString(word.payload)
            change(hellos)
            word = Send(word.to, word.kind, hellos.SerializeToString())
        answer = yield word


def other_key(hellos: Hellos) -> None:
    hellos.hello[0].exchange_key = X25519PrivateKey.generate().public_key().public_bytes_raw()


def other_certificate(hellos: Hellos) -> None:
    hellos.hello[2].certificate = b"none"


def other_contract(hellos: Hellos) -> None:
    content = json.loads(hellos.hello[2].contract)
    content["seed"] = 8
    hellos.hello[2].contract = json.dumps(content).encode()


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (other_key, RemoteProtocolError),  # the advertiser's own hello changed: it sees it at once
        (other_contract, ContractError),
        (other_certificate, RemoteProtocolError),
        (lambda hellos: hellos.hello.pop(), ContractError),
        (lambda hellos: hellos.hello.append(Hello(party="stranger")), ContractError),
        (lambda hellos: hellos.hello.reverse(), ContractError),
    ],
)
def test_a_hub_that_changes_hellos(
    identities: Identities,
    contract_of: MakeContract,
    change: Callable[[Hellos], object],
    error: type[Exception],
) -> None:
    contract = contract_of()
    parties = {
        name: lambda _, name=name: start(name, contract, identities[name])
        for name in ("advertiser", "logistics")
    }
    parties["platform"] = lambda _: change_hellos(start("platform", contract, identities["platform"]), change)
    outcome = Simulation(parties, "platform", 0, Faults()).run()
    assert isinstance(outcome["advertiser"], error)
    assert isinstance(outcome["logistics"], Exception)


def test_a_changed_exchange_key_is_caught_by_the_signature(
    identities: Identities, contract_of: MakeContract
) -> None:
    """logistics sees the advertiser's key changed only in that the signatures are over other hellos."""
    contract = contract_of()
    parties = {name: start(name, contract, identities[name]) for name in identities}
    told = iter([lambda hellos: None, other_key])
    parties["platform"] = change_hellos(parties["platform"], lambda hellos: next(told)(hellos))
    with pytest.raises(IdentityError, match="did not sign"):
        together(parties)


@settings(max_examples=30, deadline=None)
@given(st.binary(max_size=300))
def test_garbage_from_a_peer_is_a_typed_error(
    identities: Identities, contract_of: MakeContract, garbage: bytes
) -> None:
    contract = contract_of()

    def garbler() -> Rounds[None]:
        yield Send("platform", "hello", garbage)

    parties: dict[str, Rounds[object]] = {
        name: start(name, contract, identities[name]) for name in ("platform", "advertiser")
    }
    with pytest.raises((RemoteProtocolError, ContractError, IdentityError)):
        together({"logistics": garbler(), **parties})
