"""How a line of serving begins: both ends hold the same contract, the same model and the same list of common
users, and the keys that run.toml pins.

TLS shows the label holder whose certificate a caller has; it does not show a caller the label holder's, so
each end also signs both greetings, under the names of both. Nonces are fresh: no proof is of use twice.
"""

import hashlib
import secrets
from dataclasses import dataclass

from parties.certificate import key_fingerprint, verify
from parties.certs import Identity
from parties.contract import Contract
from parties.errors import ContractError, IdentityError
from protos.rounds import RemoteProtocolError
from protos.serving_pb2 import Greeting, Proof

VERSION = 2


class AnotherVersion(ContractError):
    """The other end serves another version, or other users: it may have been switched before us."""


DIGEST = 32
"""Bytes of each field of a greeting."""


@dataclass(frozen=True)
class Host:
    """What one end is: whose, under which contract, with which version of the model and which list of users
    (their digests)."""

    identity: Identity
    contract: Contract
    model: bytes
    people: bytes

    def greeting(self) -> Greeting:
        return Greeting(
            version=VERSION,
            contract=self.contract.digest,
            model=self.model,
            nonce=secrets.token_bytes(32),
            people=self.people,
        )

    def check(self, greeting: Greeting, name: str) -> None:
        """Does the greeting of this peer fit ours? Raises RemoteProtocolError, ContractError."""
        if greeting.version != VERSION:
            raise ContractError(f"{name} speaks version {greeting.version} of serving, not {VERSION}")
        if any(len(one) != DIGEST for one in _fields(greeting)):
            raise RemoteProtocolError(f"{name} sent a greeting that is none")
        if greeting.contract != self.contract.digest:
            raise ContractError(
                f"{name} serves under another contract, {greeting.contract.hex()[:12]}, not "
                f"{self.contract.digest.hex()[:12]}; all parties need the same run.toml"
            )
        if greeting.model != self.model:
            raise AnotherVersion(
                f"{name} serves another version of the model, with digest {greeting.model.hex()[:12]}, not "
                f"{self.model.hex()[:12]}; promote the same everywhere (`party models promote`)"
            )
        if greeting.people != self.people:
            raise AnotherVersion(
                f"{name} has another list of common users, with digest {greeting.people.hex()[:12]}, not "
                f"{self.people.hex()[:12]}; run `party extend` at all parties"
            )

    def proof(self, said: bytes) -> Proof:
        """said: as of `told`."""
        signature = self.identity.sign(said)
        return Proof(certificate=self.identity.certificate_der, signature=signature)

    def check_proof(self, proof: Proof, name: str, said: bytes) -> None:
        """Raises IdentityError, RemoteProtocolError."""
        try:
            key, denied = key_fingerprint(proof.certificate), self.identity.denies(proof.certificate)
        except ValueError as error:
            raise RemoteProtocolError(f"{name} sent a certificate that is not one") from error
        if key != self.contract.parties[name].key:
            pinned = self.contract.parties[name].key
            raise IdentityError(f"{name} has the key {key}, but run.toml pins {pinned}")
        if denied is not None:
            raise IdentityError(f"{name} has a certificate that tls.denied names here ({denied}); ask {name}")
        if not verify(proof.certificate, said, proof.signature):
            raise IdentityError(f"{name} did not sign the greetings with the key that run.toml pins for it")


def told(by: str, label_holder: str, ours: Greeting, feature_holder: str, theirs: Greeting) -> bytes:
    """What `by` signs. ours: the label holder's greeting, theirs: the feature holder's."""
    words = [by.encode(), label_holder.encode(), feature_holder.encode()]
    fields = [*words, *(part for one in (ours, theirs) for part in _fields(one))]
    digest = hashlib.sha256(b"".join(len(one).to_bytes(4, "little") + one for one in fields))
    return b"vertical serving v2\0" + digest.digest()


def _fields(greeting: Greeting) -> tuple[bytes, ...]:
    return greeting.contract, greeting.model, greeting.nonce, greeting.people


def session_of(said: bytes) -> bytes:
    """32 bytes that name a line, the same at both ends: of what the label holder signed."""
    return hashlib.sha256(b"vertical serving session v1\0" + said).digest()
