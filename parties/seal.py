"""The sealed relay: what one feature holder says to another, the hub carries but cannot read.

X25519 between the two parties' handshake keys, HKDF-SHA-256 (RFC 5869) to one AES-256-GCM key a
direction, nonces counted from zero: a message that the hub dropped, repeated, reordered or changed does
not open. The keys are bound to the run and to both certificates, the tag to the kind of the message.
"""

from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from Crypto.Cipher import AES
from cryptography.exceptions import InvalidKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from protos.rounds import ANY, Receive, RemoteProtocolError, Round, Rounds, Send, mapped

T = TypeVar("T")

OVERHEAD = 16
"""Bytes that sealing adds to a message: the GCM tag."""


@dataclass(slots=True)
class Seal:
    """The two directions between us and one peer; each message uses the next nonce.

    exported: 32 bytes that only these two have, in this attempt alone, for keys of other use (as RFC 8446,
    section 7.5, has of TLS).
    """

    _sending: bytes = field(repr=False)
    _receiving: bytes = field(repr=False)
    exported: bytes = field(repr=False)
    _sent: int = 0
    _received: int = 0

    def close(self, kind: str, payload: bytes) -> bytes:
        """Encrypt the next message to the peer: payload + 16 bytes."""
        cipher = AES.new(self._sending, AES.MODE_GCM, nonce=self._sent.to_bytes(12, "big"))
        self._sent += 1
        cipher.update(kind.encode())
        sealed, tag = cipher.encrypt_and_digest(payload)
        return sealed + tag

    def open(self, kind: str, sealed: bytes) -> bytes:
        """Decrypt the next message from the peer. Raises ValueError if it is not that."""
        if len(sealed) < OVERHEAD:
            raise ValueError("too short to be sealed")
        cipher = AES.new(self._receiving, AES.MODE_GCM, nonce=self._received.to_bytes(12, "big"))
        cipher.update(kind.encode())
        payload = cipher.decrypt_and_verify(sealed[:-OVERHEAD], sealed[-OVERHEAD:])
        self._received += 1
        return payload


def seal_between(own: X25519PrivateKey, peer: bytes, run: bytes, own_key: str, peer_key: str) -> Seal:
    """The seal with one peer.

    peer: its X25519 public key, 32 bytes, as its signed hello gave it. own_key, peer_key: the pinned
    fingerprints of both certificates' keys. Raises RemoteProtocolError for a key of small order.
    """
    try:
        shared = own.exchange(X25519PublicKey.from_public_bytes(peer))
    except (ValueError, InvalidKey) as error:
        raise RemoteProtocolError("a peer's exchange key is not a valid X25519 key") from error

    def key(use: bytes, sender: str, receiver: str) -> bytes:
        info = use + b"\0" + sender.encode() + b"\0" + receiver.encode()
        return HKDF(SHA256(), 32, salt=run, info=info).derive(shared)

    relay, exported = b"vertical relay v1", key(b"vertical export v1", *sorted((own_key, peer_key)))
    return Seal(key(relay, own_key, peer_key), key(relay, peer_key, own_key), exported)


def sealed(rounds: Rounds[T], seals: Mapping[str, Seal]) -> Rounds[T]:
    """The same protocol, with every message to or from the parties in `seals` encrypted end to end."""

    def each(word: Round) -> Generator[Round, Any, Any]:
        match word:
            case Send(to, kind, payload) if to in seals:
                whole = payload if isinstance(payload, bytes) else b"".join(payload)
                return (yield Send(to, kind, seals[to].close(kind, whole)))
            case Receive(sender, kind, at_most, within) if sender in seals:
                closed = yield Receive(sender, kind, at_most + OVERHEAD, within)
                return _open(seals, sender, kind, closed)
            case Receive(sender, kind, at_most, within) if sender == ANY:
                sender, payload = yield Receive(ANY, kind, at_most + OVERHEAD, within)
                if sender in seals:
                    payload = _open(seals, sender, kind, payload)
                if len(payload) > at_most:
                    raise RemoteProtocolError(f"{kind!r} from {sender!r} is over its {at_most} bytes")
                return sender, payload
            case _:
                return (yield word)

    return mapped(rounds, each)


def _open(seals: Mapping[str, Seal], sender: str, kind: str, closed: bytes) -> bytes:
    try:
        return seals[sender].open(kind, closed)
    except ValueError as error:
        raise RemoteProtocolError(
            f"{kind!r} from {sender!r} does not open: it was changed, dropped, repeated or reordered"
        ) from error
