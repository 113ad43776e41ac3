"""The handshake: the same run at all parties, or an error that says who differs in what, at every party."""

import json
from collections.abc import Callable, Generator
from dataclasses import replace
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from parties.certificate import verify
from parties.certs import Identity
from parties.contract import Contract
from parties.errors import ContractError, IdentityError
from parties.handshake import WIRE_VERSIONS, Brings, Meeting, handshake
from protos.memory import Together, together
from protos.party_pb2 import Hello, Hellos
from protos.rounds import Receive, RemoteProtocolError, Round, Rounds, Send, mapped
from protos.simulator import Faults, Simulation

MakeContract = Callable[..., Contract]
Identities = dict[str, Identity]


BRINGS = Brings("run", ["ecdh", "rr22"], ["email"])


def start(
    name: str, contract: Contract, identity: Identity, nonce: bytes | None = None, brings: Brings = BRINGS
) -> Rounds[Meeting]:
    exchange = X25519PrivateKey.generate()
    return handshake(name, contract, identity, nonce or name.encode().ljust(32), exchange, brings)


def meet(identities: Identities, contracts: dict[str, Contract]) -> Together[Meeting]:
    return together({name: start(name, contracts[name], identities[name]) for name in identities})


def outcomes(
    identities: Identities, contracts: dict[str, Contract], brings: dict[str, Brings] | None = None
) -> dict[str, Meeting | Exception]:
    """What each party ends with, also when others fail. brings: of those unlike BRINGS."""
    parties = {
        name: lambda _, name=name: start(
            name, contracts[name], identities[name], brings=(brings or {}).get(name, BRINGS)
        )
        for name in identities
    }
    return Simulation(parties, "platform", 0, Faults()).run()


def told(
    identities: Identities,
    contract: Contract,
    brings: dict[str, Brings],
    error: type[Exception] = ContractError,
) -> str:
    """The one line with which all parties end."""
    lines = set()
    for name, outcome in outcomes(identities, dict.fromkeys(identities, contract), brings).items():
        assert type(outcome) is error, (name, outcome)
        lines.add(str(outcome))
    [line] = lines
    assert line.isprintable()
    return line


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
    rounds = handshake("logistics", contract_of(), own, bytes(32), key, BRINGS, wait=7200.0)
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


@pytest.mark.parametrize(
    ("section", "key", "here"),
    [("codec", "activations", "fp32"), ("codec", "gradients", "fp32"), ("training", "schedule", "exact")],
)
def test_a_choice_that_only_a_later_release_knows(
    identities: Identities, contract_of: MakeContract, section: str, key: str, here: str
) -> None:
    """Nobody else can read the peer's contract as one, and all are told where it differs."""
    contract = contract_of()
    later = getattr(contract, section).model_copy(update={key: "later"})
    contracts = dict.fromkeys(identities, contract)
    contracts["logistics"] = contract.model_copy(update={section: later})
    outcome = outcomes(identities, contracts)
    assert {type(end) for end in outcome.values()} == {ContractError}
    told = f'the contracts differ: {section}.{key}: "{here}" here, "later" at logistics. '
    assert str(outcome["platform"]).startswith(told)
    assert str(outcome["advertiser"]).startswith(told)


def test_different_commands_are_told_to_all(identities: Identities, contract_of: MakeContract) -> None:
    assert told(identities, contract_of(), {"logistics": BRINGS._replace(purpose="align")}) == (
        "the parties started different commands: `party run` at advertiser, `party align` at logistics, "
        "`party run` at platform; start the same everywhere"
    )


def test_a_protocol_unknown_at_one_party_is_told_to_all(
    identities: Identities, contract_of: MakeContract
) -> None:
    """With what is installed there, also at the party that lacks it, whichever it is."""
    contract = contract_of(psi={"protocol": "my_lab.fast:Fast"})
    known = BRINGS._replace(protocols=["ecdh", "my_lab.fast:Fast"])
    for lacking in identities:
        brings = {name: BRINGS if name == lacking else known for name in identities}
        assert told(identities, contract, brings) == (
            f"psi.protocol: my_lab.fast:Fast is not installed at {lacking} ({lacking} has ecdh, rr22); "
            "install it there, or agree on another"
        )
    assert "at advertiser, logistics, platform" in told(identities, contract, {})
    assert isinstance(
        outcomes(identities, dict.fromkeys(identities, contract), dict.fromkeys(identities, known))[
            "logistics"
        ],
        Meeting,
    )


def test_auto_is_among_what_all_have_installed(identities: Identities, contract_of: MakeContract) -> None:
    contract = contract_of(psi={"protocol": "auto"})
    brings = {"logistics": BRINGS._replace(protocols=["dh", "rr22"])}
    for outcome in outcomes(identities, dict.fromkeys(identities, contract), brings).values():
        assert isinstance(outcome, Meeting)
        assert outcome.protocols == {"rr22"}
    brings["platform"] = BRINGS._replace(protocols=["ecdh"])
    assert told(identities, contract, brings) == (
        "psi.protocol: none is installed at all parties: advertiser has ecdh, rr22; logistics has dh, rr22; "
        "platform has ecdh; install the same release"
    )


KINDS = [{"type": "email"}, {"type": "phone"}, {"name": "person", "types": ["string", "integer"]}]


@settings(max_examples=25, deadline=None)
@given(st.lists(st.sets(st.sampled_from(["email", "phone", "person"]), min_size=1), min_size=3, max_size=3))
def test_the_first_kind_of_id_that_all_have(
    identities: Identities, contract_of: MakeContract, held: list[set[str]]
) -> None:
    contract = contract_of(ids=KINDS)
    order = [kind.name for kind in contract.ids]
    brings = {
        name: BRINGS._replace(kinds=[kind for kind in order if kind in own])
        for name, own in zip(identities, held, strict=True)
    }
    shared = [kind for kind in order if all(kind in own for own in held)]
    if shared:
        for outcome in outcomes(identities, dict.fromkeys(identities, contract), brings).values():
            assert isinstance(outcome, Meeting)
            assert outcome.kind == shared[0]
    else:
        line = told(identities, contract, brings)
        assert line.startswith("ids: no kind of id that all parties have: advertiser has ")
        assert line.endswith("; name one more column in data.id")


@pytest.mark.parametrize(
    "brings",
    [
        BRINGS._replace(purpose="\x1b[2J"),
        BRINGS._replace(purpose=""),
        BRINGS._replace(purpose="x" * 17),
        BRINGS._replace(protocols=["ecdh"] * 65),
        BRINGS._replace(protocols=["ecdh", "a b"]),
        BRINGS._replace(protocols=["x" * 10_000]),
        BRINGS._replace(kinds=["email", "email"]),
        BRINGS._replace(kinds=["fax"]),
        BRINGS._replace(kinds=["fax", "email"]),
        BRINGS._replace(model=b"m" * 32),
        BRINGS._replace(purpose="predict"),
        BRINGS._replace(purpose="predict", model=b"m" * 31),
    ],
    ids=str,
)
def test_words_that_a_peer_cannot_mean(
    identities: Identities, contract_of: MakeContract, brings: Brings
) -> None:
    ends = outcomes(identities, dict.fromkeys(identities, contract_of()), {"logistics": brings})
    assert type(ends["platform"]) is type(ends["advertiser"]) is RemoteProtocolError
    assert str(ends["advertiser"]) == (
        "logistics sent a hello with an impossible purpose, protocol, kind of id or model"
    )


def test_an_older_release_is_named_as_such(identities: Identities, contract_of: MakeContract) -> None:
    """Its hello has none of the newer fields, and another form of the same contract."""

    def older(hellos: Hellos) -> None:
        for field in ("purpose", "protocols", "kinds"):
            hellos.hello[1].ClearField(field)
        hellos.hello[1].versions[:], hellos.hello[1].contract = [1], b"{}"

    contract = contract_of()
    parties = {name: start(name, contract, identities[name]) for name in identities}
    parties["platform"] = change_hellos(parties["platform"], older)
    with pytest.raises(
        ContractError, match=f"all parties speak: advertiser has {WIRE_VERSIONS[-1]}; logistics has 1; plat"
    ):
        together(parties)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.sets(st.integers(1, 6), min_size=1), min_size=3, max_size=3))
def test_the_highest_version_that_all_speak(
    identities: Identities, contract_of: MakeContract, spoken: list[set[int]]
) -> None:
    contract = contract_of()
    versions = {name: sorted(own) for name, own in zip(identities, spoken, strict=True)}
    brings = {name: BRINGS._replace(versions=own) for name, own in versions.items()}
    ends = outcomes(identities, dict.fromkeys(identities, contract), brings)
    if shared := set.intersection(*spoken):
        for end in ends.values():
            assert isinstance(end, Meeting)
            assert end.version == max(shared)
    else:
        each = "; ".join(f"{name} has {', '.join(map(str, own))}" for name, own in sorted(versions.items()))
        line = f"no version of the wire that all parties speak: {each}; install the same release"
        assert {(type(end), str(end)) for end in ends.values()} == {(ContractError, line)}


@pytest.mark.parametrize("versions", [[], [0], [0, 3], [3, 2], [3, 3], [*range(1, 18)]], ids=str)
def test_versions_that_a_peer_cannot_mean(
    identities: Identities, contract_of: MakeContract, versions: list[int]
) -> None:
    brings = {"logistics": BRINGS._replace(versions=versions)}
    ends = outcomes(identities, dict.fromkeys(identities, contract_of()), brings)
    assert isinstance(ends["platform"], RemoteProtocolError)
    assert str(ends["platform"]) == "logistics sent a hello with impossible versions of the wire"


def test_a_certificate_that_is_not_pinned(identities: Identities, contract_of: MakeContract) -> None:
    """logistics comes with the advertiser's certificate under its own name."""
    contract = contract_of()
    swapped = identities | {"logistics": identities["advertiser"]}
    outcome = outcomes(swapped, dict.fromkeys(identities, contract))
    assert isinstance(outcome["platform"], IdentityError)
    assert isinstance(outcome["advertiser"], IdentityError)


@pytest.mark.parametrize("by", ["key", "serial"])
def test_a_revoked_certificate_is_named(identities: Identities, contract_of: MakeContract, by: str) -> None:
    """By every party that denies it, a feature holder as well, which does not see the other's TLS."""
    bad = x509.load_der_x509_certificate(identities["logistics"].certificate_der)
    entry = identities["logistics"].fingerprint if by == "key" else f"serial:{bad.serial_number:x}"
    wary = replace(identities["advertiser"], denied=frozenset([entry]))
    outcome = outcomes(identities | {"advertiser": wary}, dict.fromkeys(identities, contract_of()))
    assert isinstance(outcome["advertiser"], IdentityError)
    assert str(outcome["advertiser"]) == (
        f"logistics has a certificate that tls.denied names here ({entry}); ask logistics"
    )
    assert all(isinstance(end, Exception) for end in outcome.values())


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

    def each(word: Round) -> Generator[Round, Any, Any]:
        if isinstance(word, Send) and word.kind == "hellos":
            assert isinstance(word.payload, bytes)
            hellos = Hellos.FromString(word.payload)
            change(hellos)
            word = Send(word.to, word.kind, hellos.SerializeToString())
        return (yield word)

    return mapped(rounds, each)


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


def test_a_table_of_other_columns_than_are_pinned_is_told_to_all_by_its_party_alone(
    identities: Identities, contract_of: MakeContract
) -> None:
    contract, pin = contract_of(), f"hmac-sha256:{'a' * 64}"
    parties = dict(contract.parties)
    parties["logistics"] = parties["logistics"].model_copy(update={"columns": pin})
    contract = contract.model_copy(update={"parties": parties})
    both = outcomes(
        identities, dict.fromkeys(identities, contract), {"logistics": BRINGS._replace(columns=pin)}
    )
    assert all(isinstance(end, Meeting) for end in both.values())
    for wrong in (f"hmac-sha256:{'b' * 64}", "", "amount, kind"):
        brings = {"logistics": BRINGS._replace(columns=wrong)}
        for end in outcomes(identities, dict.fromkeys(identities, contract), brings).values():
            assert isinstance(end, ContractError)
            assert str(end) == (
                "parties.logistics.columns: the table of logistics has other columns than run.toml pins; "
                "`party check` there says which"
            )
