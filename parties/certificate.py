"""What a certificate says and who issued it (RFC 5280): read, followed to a root, held against a deny list.

Of one's own files a fault is an IdentityError that names the file and the remedy; of a peer's bytes it is a
ValueError, whatever is wrong with them.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from parties.errors import IdentityError

if TYPE_CHECKING:  # cryptography takes a while to import: only who handles a certificate pays for it
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey, EllipticCurvePublicKey
    from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes

PIN: Final = re.compile(r"sha256:[0-9a-f]{64}")
SERIAL: Final = re.compile(r"serial:([0-9a-fA-F]{1,40})")


def read_certificates(pem: bytes, file: Path) -> list[x509.Certificate]:
    """All that the file holds, at least one."""
    from cryptography import x509

    try:
        return x509.load_pem_x509_certificates(pem)
    except (ValueError, x509.InvalidVersion):
        raise IdentityError(f"{file}: is no certificate in PEM form; give the right file") from None


def read_key(pem: bytes, file: Path) -> EllipticCurvePrivateKey:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        key = load_pem_private_key(pem, password=None)
    except TypeError:
        raise IdentityError(
            f"{file}: is encrypted; give a key without passphrase, readable by you alone"
        ) from None
    except (ValueError, UnsupportedAlgorithm):
        raise IdentityError(f"{file}: is no private key in PEM form; give the right file") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise IdentityError(f"{file}: is no ECDSA P-256 key; have a certificate issued for one")
    return key


# ---- one's own certificate ----------------------------------------------------------------------------


def check_pair(key: EllipticCurvePrivateKey, key_file: Path, own: x509.Certificate, file: Path) -> None:
    if key.public_key() != own.public_key():
        raise IdentityError(f"{key_file}: is not the key of {file}; give the pair that belongs together")


def check_name(own: x509.Certificate, file: Path, party: str) -> None:
    if party not in dns_names(own):
        named = ", ".join(dns_names(own)) or "nobody"
        raise IdentityError(f"{file}: names {named}, not {party!r}; use the certificate of {party!r}")


def follow(
    chain: list[x509.Certificate], file: Path, roots: list[x509.Certificate], ca: Path
) -> list[tuple[x509.Certificate, Path]]:
    """By the signatures from chain[0] to one of the roots: each certificate on the way, and its file."""
    from cryptography.exceptions import InvalidSignature

    def issued(child: x509.Certificate, parent: x509.Certificate) -> bool:
        try:
            child.verify_directly_issued_by(parent)
        except (ValueError, TypeError, InvalidSignature):
            return False
        return True

    # a renewed CA before the old one beside it
    lasting = sorted(roots, key=lambda one: one.not_valid_after_utc, reverse=True)
    way = [chain[0]]
    for _ in chain:
        root = next((one for one in lasting if issued(way[-1], one)), None)
        if root is not None:
            return [*((one, file) for one in way), (root, ca)]
        parent = next((one for one in chain[1:] if one not in way and issued(way[-1], one)), None)
        if parent is None:
            break
        way.append(parent)
    raise IdentityError(f"{file}: was not issued by {ca}; use the CA that all parties agreed on")


def check_dates(certificate: x509.Certificate, file: Path, now: datetime) -> None:
    if now > certificate.not_valid_after_utc:
        raise IdentityError(
            f"{file}: expired on {certificate.not_valid_after_utc:%Y-%m-%d %H:%M} UTC; have a new one issued"
        )
    if now < certificate.not_valid_before_utc:
        raise IdentityError(
            f"{file}: not valid before {certificate.not_valid_before_utc:%Y-%m-%d %H:%M} UTC; check the clock"
        )


def dns_names(certificate: x509.Certificate) -> list[str]:
    from cryptography import x509

    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except (x509.ExtensionNotFound, ValueError):
        return []
    return names.value.get_values_for_type(x509.DNSName)


def der(certificate: x509.Certificate) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding

    return certificate.public_bytes(Encoding.DER)


# ---- anybody's certificate, in DER or PEM ---------------------------------------------------------------


def verify(certificate: bytes, data: bytes, signature: bytes) -> bool:
    """Did the holder of this certificate sign `data`? False for anything malformed."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec

    try:
        _p256_public_key(certificate).verify(signature, data, ec.ECDSA(hashes.SHA256()))
    except (InvalidSignature, ValueError):
        return False
    return True


def key_fingerprint(certificate: bytes) -> str:
    """`sha256:<hex>` of the SubjectPublicKeyInfo (RFC 7469, 2.4): it survives a renewal with the same key.

    Raises ValueError if these bytes are no certificate.
    """
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    spki = _public_key(certificate).public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return "sha256:" + hashlib.sha256(spki).hexdigest()


def denied_as(certificate: bytes, denied: Collection[str]) -> str | None:
    """The entry of a deny list (as `deniable` writes it) that names this certificate, or its key.

    Raises ValueError if these bytes are no certificate.
    """
    names = (key_fingerprint(certificate), deniable(f"serial:{_read(certificate).serial_number:x}"))
    return next((one for one in names if one in denied), None)


def deniable(entry: str) -> str:
    """An entry of a deny list in its one form: a key as run.toml pins it, or a serial number in hex."""
    if PIN.fullmatch(entry):
        return entry
    if (serial := SERIAL.fullmatch(entry)) is None:
        raise ValueError("must be sha256: and 64 hex digits of a key, or serial: and a serial number in hex")
    return f"serial:{int(serial[1], 16):x}"


def _read(certificate: bytes) -> x509.Certificate:
    from cryptography import x509

    pem = certificate.startswith(b"-----BEGIN")
    try:
        return (x509.load_pem_x509_certificate if pem else x509.load_der_x509_certificate)(certificate)
    except x509.InvalidVersion as error:
        raise ValueError("a certificate of a kind that is not known here") from error


def _public_key(certificate: bytes) -> CertificatePublicKeyTypes:
    from cryptography.exceptions import UnsupportedAlgorithm

    try:
        return _read(certificate).public_key()
    except UnsupportedAlgorithm as error:
        raise ValueError("a certificate of a kind that is not known here") from error


def _p256_public_key(certificate: bytes) -> EllipticCurvePublicKey:
    from cryptography.hazmat.primitives.asymmetric import ec

    key = _public_key(certificate)
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise ValueError("no ECDSA P-256 key")
    return key
