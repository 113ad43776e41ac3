"""Who is who: certificates, the checks of one's own files before any dialling, signatures, pinned keys.

A party's name is a DNS name in its certificate (RFC 5280, subjectAltName), and run.toml pins the SHA-256 of
its public key, so that a CA, even the hub's own, cannot stand in for a partner. `issue` makes a development
CA; real partners bring certificates of their own (ECDSA P-256, for the handshake's signature).
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from parties.errors import IdentityError

if TYPE_CHECKING:  # cryptography takes a while to import: only who handles a certificate pays for it
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey, EllipticCurvePublicKey
    from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes

PARTY_NAME = re.compile(r"[a-z][a-z0-9-]{0,31}")
"""What a party may be called: safe as a DNS name, in a path, and in a message (`fullmatch`)."""

WARN_BEFORE = timedelta(days=14)


@dataclass(frozen=True, repr=False)
class Identity:
    """A party's own certificate and key, checked. `certificate` and `ca` may be chains (PEM)."""

    party: str
    ca: bytes
    certificate: bytes
    certificate_der: bytes  # of the party itself, without its chain
    key: bytes
    certificate_file: Path
    key_file: Path
    not_after: datetime

    def __repr__(self) -> str:
        return f"Identity({self.party!r})"  # the key must not reach a log

    def sign(self, data: bytes) -> bytes:
        """ECDSA P-256 with SHA-256, DER encoded (FIPS 186-5)."""
        from cryptography.hazmat.primitives import hashes
        from cryptography.hazmat.primitives.asymmetric import ec

        return _p256_key(self.key, self.key_file).sign(data, ec.ECDSA(hashes.SHA256()))

    @property
    def fingerprint(self) -> str:
        """What run.toml pins as `parties.<name>.key`."""
        return key_fingerprint(self.certificate_der)

    def warnings(self, now: datetime | None = None) -> list[str]:
        """What is not wrong yet: an expiry within 14 days, a key file that others may read."""
        found = []
        left = self.not_after - (now or datetime.now(UTC))
        if left < WARN_BEFORE:
            found.append(
                f"{self.certificate_file}: expires in {max(left.days, 0)} days; have a new one issued"
            )
        if self.key_file.exists() and self.key_file.stat().st_mode & 0o077:
            found.append(f"{self.key_file}: other users may read the private key; chmod 600 it")
        return found


def load(ca: Path, certificate: Path, key: Path, party: str, now: datetime | None = None) -> Identity:
    """Check a party's own files. Raises IdentityError: one line with the file, the fault, and the remedy.

    Checked here because every TLS failure looks the same to the one who dials.
    """
    ca_pem, certificate_pem, key_pem = _read(ca), _read(certificate), _read(key)
    roots, chain = _certificates(ca_pem, ca), _certificates(certificate_pem, certificate)
    own = chain[0]
    now = now or datetime.now(UTC)
    if _p256_key(key_pem, key).public_key() != own.public_key():
        raise IdentityError(f"{key}: is not the key of {certificate}; give the pair that belongs together")
    if party not in dns_names(own):
        named = ", ".join(dns_names(own)) or "nobody"
        raise IdentityError(f"{certificate}: names {named}, not {party!r}; use the certificate of {party!r}")
    _check_chain(own, chain[1:], roots, certificate, ca, now)
    return Identity(
        party=party,
        ca=ca_pem,
        certificate=certificate_pem,
        certificate_der=_der(own),
        key=key_pem,
        certificate_file=certificate,
        key_file=key,
        not_after=own.not_valid_after_utc,
    )


def verify(certificate: bytes, data: bytes, signature: bytes) -> bool:
    """Did the holder of this certificate (DER or PEM) sign `data`? False for anything malformed."""
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

    certificate: DER or PEM, perhaps a peer's. Raises ValueError if it is none.
    """
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    spki = _public_key(certificate).public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return "sha256:" + hashlib.sha256(spki).hexdigest()


def dns_names(certificate: x509.Certificate) -> list[str]:
    from cryptography import x509

    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except (x509.ExtensionNotFound, ValueError):
        return []
    return names.value.get_values_for_type(x509.DNSName)


def issue(
    folder: Path,
    names: Iterable[str],
    host: str | None = None,
    days: int = 365,
    force: bool = False,
    now: datetime | None = None,
) -> list[Path]:
    """Write `<name>.pem` and `<name>.key` for each party, by the development CA in `folder` (made if absent).

    host: a further DNS name or IP address for the certificates. force: replace certificates that are there
    (never the CA). Returns the files written. Raises IdentityError, nothing written, for a bad name or a
    file that is there already.
    """
    from parties.authority import key_pem, new_key, pem, sign_certificate

    names = list(names)
    now = now or datetime.now(UTC)
    for name in names:
        if not PARTY_NAME.fullmatch(name):
            raise IdentityError(
                f"{name!r}: is no name for a party; use a-z, 0-9 and -, at most 32, a letter first"
            )
    files = {name: (folder / f"{name}.pem", folder / f"{name}.key") for name in names}
    there = [str(file) for pair in files.values() for file in pair if file.exists()]
    if there and not force:
        raise IdentityError(
            f"{', '.join(there)}: there already; say --force to replace, or name another folder"
        )
    folder.mkdir(parents=True, exist_ok=True)
    ca_file, ca_key_file = folder / "ca.pem", folder / "ca.key"
    written = []
    if ca_file.exists() != ca_key_file.exists():
        missing = ca_key_file if ca_file.exists() else ca_file
        raise IdentityError(f"{missing}: missing beside its pair; restore it, or name another folder")
    if not ca_file.exists():
        key = new_key()
        _write(ca_key_file, key_pem(key), 0o600)
        _write(ca_file, pem(sign_certificate("development CA", key, None, key, [], now, 10 * days)), 0o644)
        written += [ca_file, ca_key_file]
    issuer = _certificates(_read(ca_file), ca_file)[0]
    issuer_key = _p256_key(_read(ca_key_file), ca_key_file)
    for name, (certificate_file, key_file) in files.items():
        key = new_key()
        hosts = [name, "localhost", "127.0.0.1"] + ([host] if host else [])
        certificate = sign_certificate(name, key, issuer, issuer_key, hosts, now, days)
        _write(key_file, key_pem(key), 0o600)
        _write(certificate_file, pem(certificate), 0o644)
        written += [certificate_file, key_file]
    return written


def _check_chain(
    own: x509.Certificate,
    between: list[x509.Certificate],
    roots: list[x509.Certificate],
    file: Path,
    ca: Path,
    now: datetime,
) -> None:
    """Follow the signatures from a party's certificate to one of the roots, each link valid now."""
    from cryptography.exceptions import InvalidSignature

    def issued(child: x509.Certificate, parent: x509.Certificate) -> bool:
        try:
            child.verify_directly_issued_by(parent)
        except (ValueError, TypeError, InvalidSignature):
            return False
        return True

    child, where = own, file
    for _ in range(len(between) + 1):
        _check_dates(child, where, now)
        for root in roots:
            if issued(child, root):
                _check_dates(root, ca, now)
                return
        parent = next((one for one in between if one != child and issued(child, one)), None)
        if parent is None:
            break
        child = parent
    raise IdentityError(f"{file}: was not issued by {ca}; use the CA that all parties agreed on")


def _check_dates(certificate: x509.Certificate, file: Path, now: datetime) -> None:
    if now > certificate.not_valid_after_utc:
        raise IdentityError(
            f"{file}: expired on {certificate.not_valid_after_utc:%Y-%m-%d %H:%M} UTC; have a new one issued"
        )
    if now < certificate.not_valid_before_utc:
        raise IdentityError(
            f"{file}: not valid before {certificate.not_valid_before_utc:%Y-%m-%d %H:%M} UTC; check the clock"
        )


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise IdentityError(
            f"{file}: cannot be read ({error.strerror}); check the path in party.toml"
        ) from None


def _write(file: Path, data: bytes, mode: int) -> None:
    """Never readable by others for a moment, never half-written."""
    draft = file.with_name(file.name + ".new")
    draft.unlink(missing_ok=True)
    with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as out:
        out.write(data)
    draft.replace(file)


def _certificates(pem: bytes, file: Path) -> list[x509.Certificate]:
    from cryptography import x509

    try:
        return x509.load_pem_x509_certificates(pem)
    except (ValueError, x509.InvalidVersion):
        raise IdentityError(f"{file}: is no certificate in PEM form; give the right file") from None


def _public_key(certificate: bytes) -> CertificatePublicKeyTypes:
    """Of a certificate in DER or PEM, perhaps a peer's. Raises ValueError for whatever is wrong with it."""
    from cryptography import x509
    from cryptography.exceptions import UnsupportedAlgorithm

    pem = certificate.startswith(b"-----BEGIN")
    load = x509.load_pem_x509_certificate if pem else x509.load_der_x509_certificate
    try:
        return load(certificate).public_key()
    except (UnsupportedAlgorithm, x509.InvalidVersion) as error:
        raise ValueError("a certificate of a kind that is not known here") from error


def _p256_key(pem: bytes, file: Path) -> EllipticCurvePrivateKey:
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


def _p256_public_key(certificate: bytes) -> EllipticCurvePublicKey:
    from cryptography.hazmat.primitives.asymmetric import ec

    key = _public_key(certificate)
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise ValueError("no ECDSA P-256 key")
    return key


def _der(certificate: x509.Certificate) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding

    return certificate.public_bytes(Encoding.DER)
