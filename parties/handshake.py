"""The handshake: do all parties hold the same contract, and is each who run.toml says it is?

Every feature holder sends its hello to the hub; the hub answers with all hellos. Each party compares every
contract with its own, field by field, before it agrees: it signs the run id and the hash of all hellos.
A hello also says what the party is there for and what it has: all parties start the same command, have the
contract's PSI protocol installed, and share a kind of id, or each of them is told who does not.
The signatures go round in the same way. A replayed hello is of no use: what is signed is made of fresh
nonces, and only the holder of the pinned key can sign it. No data moves before this.

A party that holds an unfinished run says which in its hello, and what it has of it. If all name the same one,
that run goes on, under its own id but with fresh keys; otherwise a new run begins.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from google.protobuf.message import DecodeError

from parties import previous
from parties.certificate import key_fingerprint, verify
from parties.certs import Identity
from parties.contract import AUTO, PROTOCOL, Contract
from parties.difference import CANONICAL_AT_MOST, first_difference
from parties.errors import ContractError, IdentityError
from parties.previous import NOTHING, Previous
from parties.seal import Seal, seal_between
from protos.party_pb2 import Agreement, Hello, Hellos
from protos.rounds import Bind, Progress, Receive, RemoteProtocolError, Rounds, Send

WIRE_VERSIONS: Final = (3,)
"""Of protos/party.proto and everything that crosses it, which this release speaks. A run is in the highest
that all parties speak. Frames and the exchange of hellos are the same in all."""

VERSIONS_AT_MOST = 16
"""Versions in a hello."""

HELLO_AT_MOST = CANONICAL_AT_MOST + (32 << 10)
"""Bytes of one hello: a contract, a certificate, names of protocols and little else."""

MODEL: Final = 32
"""Bytes of the digest of a model version."""

WITH_A_MODEL: Final = ("predict", "extend")
"""Purposes for which all need the same one."""

PROTOCOLS_AT_MOST = 64
"""Names of protocols in a hello."""

SIGNATURE_AT_MOST = 128
"""Bytes of an ECDSA P-256 signature in DER (at most 72) and of the name beside it."""


class Brings(NamedTuple):
    """What a party is there for, and what it has.

    purpose: the command that was started, "run", "align", "predict" or "extend". protocols: names of PSI
    protocols installed here, at most PROTOCOLS_AT_MOST. kinds: of id, by the contract's names. versions: of
    the wire, rising. previous: to go on with. model: to predict or extend, the version's digest
    (`parties.versions`). columns: for a run, the pin of the own table's, where the contract has one.
    """

    purpose: str
    protocols: Sequence[str]
    kinds: Sequence[str]
    versions: Sequence[int] = WIRE_VERSIONS
    previous: Previous = NOTHING
    model: bytes = b""
    columns: str = ""


@dataclass(frozen=True)
class Meeting:
    """What the handshake gives: the run's id, the seals with the other feature holders, and the proof.

    kind: of id, the contract's first that all parties have. protocols: names that all parties have installed.
    version: of the wire.
    signatures: every party's signature over `agreed`; with the hellos they show who agreed to what.
    common: what all parties have of this run from an earlier attempt.
    """

    run: bytes
    kind: str
    protocols: frozenset[str]
    seals: Mapping[str, Seal]
    agreed: bytes
    signatures: Mapping[str, bytes]
    version: int = WIRE_VERSIONS[-1]
    common: Previous = NOTHING

    @property
    def attempt(self) -> bytes:
        """32 bytes that are fresh in each attempt, where `run` stays the same: for keys that may never be
        used twice."""
        return hashlib.sha256(b"vertical attempt v1\0" + self.agreed).digest()


def handshake(
    me: str,
    contract: Contract,
    identity: Identity,
    nonce: bytes,
    exchange: X25519PrivateKey,
    brings: Brings,
    wait: float | None = None,
) -> Rounds[Meeting]:
    """nonce: 32 fresh bytes. wait: seconds in which the hub may still be gathering the others; None is the
    driver's progress timeout. Raises ContractError, IdentityError, RemoteProtocolError.
    """
    hub = contract.label_holder
    yield Progress("handshake", 0, 2)
    own = Hello(
        party=me,
        versions=brings.versions,
        contract=contract.canonical,
        nonce=nonce,
        exchange_key=exchange.public_key().public_bytes_raw(),
        certificate=identity.certificate_der,
        purpose=brings.purpose,
        protocols=brings.protocols,
        kinds=brings.kinds,
        previous=brings.previous.run,
        aligned=brings.previous.aligned,
        steps=brings.previous.steps,
        model=brings.model,
        columns=brings.columns,
    )
    if me == hub:
        hellos = {hub: own}
        for name in contract.feature_holders:
            hellos[name] = _hello((yield Receive(name, "hello", HELLO_AT_MOST)), name)
        common = previous.common(hellos.values())
        run = common.run or run_id(contract, hellos)
        yield Bind(run)
        everyone = Hellos(hello=[hellos[name] for name in contract.names]).SerializeToString()
        for name in contract.feature_holders:
            yield Send(name, "hellos", everyone)
        kind, protocols = _check(hellos, contract, identity)  # after the others can see what differs, too
    else:
        yield Send(hub, "hello", own.SerializeToString())
        everyone = yield Receive(hub, "hellos", HELLO_AT_MOST * len(contract.names), wait)
        hellos = _hellos(everyone, contract, own)
        kind, protocols = _check(hellos, contract, identity)
        common = previous.common(hellos.values())
        run = common.run or run_id(contract, hellos)
        yield Bind(run)

    yield Progress("handshake", 1, 2)
    agreed = b"vertical agreement v1\0" + run + hashlib.sha256(everyone).digest()
    signatures = {me: identity.sign(agreed)}
    if me == hub:
        for name in contract.feature_holders:
            signature: bytes = yield Receive(name, "agree", SIGNATURE_AT_MOST)
            signatures[name] = signature
        for name in contract.feature_holders:
            yield Send(name, "agreed", Agreement(signature=signatures).SerializeToString(deterministic=True))
    else:
        yield Send(hub, "agree", signatures[me])
        signatures = _agreement((yield Receive(hub, "agreed", SIGNATURE_AT_MOST * len(contract.names))))
    for name in contract.names:
        if not verify(hellos[name].certificate, agreed, signatures.get(name, b"")):
            raise IdentityError(f"{name} did not sign the contract with the key that run.toml pins for it")

    seals = {
        name: seal_between(
            exchange,
            hellos[name].exchange_key,
            run,
            contract.parties[me].key,
            contract.parties[name].key,
        )
        for name in contract.feature_holders
        if me not in (hub, name)
    }
    yield Progress("handshake", 2, 2)
    version = _shared_version(hellos)
    return Meeting(run, kind, protocols, seals, agreed, signatures, version, common)


def run_id(contract: Contract, hellos: Mapping[str, Hello]) -> bytes:
    """SHA-256 over the contract's digest and one fresh nonce a party, in canonical order: 32 bytes."""
    nonces = b"".join(hellos[name].nonce for name in contract.names)
    return hashlib.sha256(b"vertical run v1\0" + contract.digest + nonces).digest()


def _hello(payload: bytes, sender: str) -> Hello:
    try:
        hello = Hello.FromString(payload)
    except DecodeError as error:
        raise RemoteProtocolError(f"{sender} sent a hello that is not one") from error
    if hello.party != sender or len(hello.nonce) != 32 or len(hello.exchange_key) != 32:
        raise RemoteProtocolError(f"{sender} sent a hello with a wrong name, nonce or key length")
    versions = [*hello.versions]
    if not 1 <= len(versions) <= VERSIONS_AT_MOST or versions != sorted({*versions} - {0}):
        raise RemoteProtocolError(f"{sender} sent a hello with impossible versions of the wire")
    if previous.told(hello) is None:
        raise RemoteProtocolError(f"{sender} sent a hello with an impossible earlier run")
    return hello


def _hellos(payload: bytes, contract: Contract, own: Hello) -> dict[str, Hello]:
    hub = contract.label_holder
    try:
        hellos = Hellos.FromString(payload).hello
    except DecodeError as error:
        raise RemoteProtocolError(f"{hub} sent hellos that are none") from error
    if [hello.party for hello in hellos] != contract.names:
        raise ContractError(
            f"parties: {', '.join(contract.names)} here, but {hub} met other parties; compare run.toml"
        )
    if hellos[contract.names.index(own.party)] != own:
        raise RemoteProtocolError(f"{hub} changed our hello")
    return {hello.party: _hello(hello.SerializeToString(), hello.party) for hello in hellos}


def _check(hellos: Mapping[str, Hello], contract: Contract, identity: Identity) -> tuple[str, frozenset[str]]:
    """Does everybody else speak our wire, hold our contract, show the pinned key, and have what it takes?

    Returns the kind of id and the PSI protocols that all have.
    """
    _shared_version(hellos)  # first: what else differs may follow from it
    for name, hello in hellos.items():
        if name == identity.party:
            continue
        difference = first_difference(contract.canonical, hello.contract, name)
        if difference is not None:
            raise ContractError(f"the contracts differ: {difference}. All parties need the same run.toml")
        try:
            fingerprint, denied = key_fingerprint(hello.certificate), identity.denies(hello.certificate)
        except ValueError as error:
            raise RemoteProtocolError(f"{name} sent a certificate that is not one") from error
        if fingerprint != contract.parties[name].key:
            raise IdentityError(
                f"{name} has the key {fingerprint}, but run.toml pins {contract.parties[name].key}"
            )
        if denied is not None:
            raise IdentityError(f"{name} has a certificate that tls.denied names here ({denied}); ask {name}")
        _check_words(hello, contract)
    purposes = {name: hello.purpose for name, hello in hellos.items()}
    if len(set(purposes.values())) > 1:
        started = ", ".join(f"`party {purpose}` at {name}" for name, purpose in sorted(purposes.items()))
        raise ContractError(f"the parties started different commands: {started}; start the same everywhere")
    if len({hello.model for hello in hellos.values()}) > 1:
        held = ", ".join(f"{hello.model.hex()[:12]} at {name}" for name, hello in sorted(hellos.items()))
        raise ContractError(
            f"the parties would score with different models: digest {held}; give the same run everywhere, "
            "with --run"
        )
    for name, hello in hellos.items():
        if hello.purpose == "run" and hello.columns != (contract.parties[name].columns or ""):
            raise ContractError(
                f"parties.{name}.columns: the table of {name} has other columns than run.toml pins; "
                "`party check` there says which"
            )
    return _shared_kind(hellos, contract), _shared_protocols(hellos, contract)


def _check_words(hello: Hello, contract: Contract) -> None:
    """What a peer says of itself is shown to people, so it is only what we could say ourselves."""
    kinds = [kind.name for kind in contract.ids if kind.name in hello.kinds]
    protocols = len(hello.protocols) <= PROTOCOLS_AT_MOST and all(map(PROTOCOL.fullmatch, hello.protocols))
    purpose = re.fullmatch("[a-z]{1,16}", hello.purpose)
    model = len(hello.model) == (MODEL if hello.purpose in WITH_A_MODEL else 0)
    if not purpose or not model or not protocols or [*hello.kinds] != kinds:
        raise RemoteProtocolError(
            f"{hello.party} sent a hello with an impossible purpose, protocol, kind of id or model"
        )


def _shared_version(hellos: Mapping[str, Hello]) -> int:
    """The highest that all speak. It follows from what is signed: a hub cannot bring about an older one."""
    shared = set.intersection(*({*hello.versions} for hello in hellos.values()))
    if not shared:
        raise ContractError(
            f"no version of the wire that all parties speak: {_who_has(hellos, 'versions')}; "
            "install the same release"
        )
    return max(shared)


def _shared_kind(hellos: Mapping[str, Hello], contract: Contract) -> str:
    for kind in contract.ids:
        if all(kind.name in hello.kinds for hello in hellos.values()):
            return kind.name
    raise ContractError(
        f"ids: no kind of id that all parties have: {_who_has(hellos, 'kinds')}; name "
        "one more column in data.id"
    )


def _shared_protocols(hellos: Mapping[str, Hello], contract: Contract) -> frozenset[str]:
    shared = frozenset.intersection(*(frozenset(hello.protocols) for hello in hellos.values()))
    wanted = contract.psi.protocol
    if wanted == AUTO and not shared:
        raise ContractError(
            f"psi.protocol: none is installed at all parties: {_who_has(hellos, 'protocols')}; "
            "install the same release"
        )
    if wanted != AUTO and wanted not in shared:
        lacking = {name: hello for name, hello in hellos.items() if wanted not in hello.protocols}
        raise ContractError(
            f"psi.protocol: {wanted} is not installed at {', '.join(sorted(lacking))} "
            f"({_who_has(lacking, 'protocols')}); install it there, or agree on another"
        )
    return shared


def _who_has(hellos: Mapping[str, Hello], what: str) -> str:
    """`logistics has dh, ecdh; platform has rr22`, not too much of it."""
    held = {name: [*map(str, getattr(hello, what))] for name, hello in sorted(hellos.items())}
    return "; ".join(
        f"{name} has {', '.join(own[:8]) or 'none'}{', ...' * (len(own) > 8)}" for name, own in held.items()
    )


def _agreement(payload: bytes) -> dict[str, bytes]:
    try:
        return dict(Agreement.FromString(payload).signature)
    except DecodeError as error:
        raise RemoteProtocolError("the hub sent an agreement that is none") from error
