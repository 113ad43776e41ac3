"""Who is who: certificates, the checks of one's own files before any dialling, signatures, pinned keys.

A party's name is a DNS name in its certificate (RFC 5280, subjectAltName), and run.toml pins the SHA-256 of
its public key, so that a CA, even the hub's own, cannot stand in for a partner. `issue` makes a development
CA; real partners bring certificates of their own (ECDSA P-256, for the handshake's signature).
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from parties.certificate import (
    check_dates,
    check_name,
    check_pair,
    denied_as,
    der,
    follow,
    key_fingerprint,
    read_certificates,
    read_key,
)
from parties.errors import IdentityError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

PARTY_NAME = re.compile(r"[a-z][a-z0-9-]{0,31}")
"""What a party may be called: safe as a DNS name, in a path, and in a message (`fullmatch`)."""

WARN_BEFORE = timedelta(days=14)


@dataclass(frozen=True, repr=False)
class Identity:
    """A party's own certificate and key, checked, and whom it trusts. `certificate` and `ca` may be chains.

    not_after: of the first to expire of certificate, chain and root. denied: entries of a deny list, as
    `parties.certificate.deniable` writes them.
    """

    party: str
    ca: bytes
    certificate: bytes
    certificate_der: bytes  # of the party itself, without its chain
    key: bytes
    certificate_file: Path
    key_file: Path
    not_after: datetime
    denied: frozenset[str] = frozenset()

    def __repr__(self) -> str:
        return f"Identity({self.party!r})"  # the key must not reach a log

    def sign(self, data: bytes) -> bytes:
        """ECDSA P-256 with SHA-256, DER encoded (FIPS 186-5)."""
        from cryptography.hazmat.primitives import hashes
        from cryptography.hazmat.primitives.asymmetric import ec

        return read_key(self.key, self.key_file).sign(data, ec.ECDSA(hashes.SHA256()))

    @property
    def fingerprint(self) -> str:
        """What run.toml pins as `parties.<name>.key`."""
        return key_fingerprint(self.certificate_der)

    def denies(self, certificate: bytes) -> str | None:
        """The entry of our deny list that names a peer's certificate (DER or PEM), if one does.

        Raises ValueError if these bytes are no certificate.
        """
        return denied_as(certificate, self.denied)

    def warnings(self, now: datetime | None = None) -> list[str]:
        """What is not wrong yet: an expiry within 14 days, a key file that others may read."""
        now = now or datetime.now(UTC)
        found = [soon_over(self.not_after, self.certificate_file, now), too_readable(self.key_file)]
        return [warning for warning in found if warning]


def soon_over(not_after: datetime, file: Path, now: datetime) -> str | None:
    """A warning, if this certificate is about to expire."""
    left = not_after - now
    if left >= WARN_BEFORE:
        return None
    when = f"in {left.days} days" if left.days > 0 else f"today, at {not_after:%H:%M} UTC"
    return f"{file}: expires {when}; have a new one issued (for the same key, run.toml stays as it is)"


def too_readable(key: Path) -> str | None:
    """A warning, if others may read this private key."""
    if key.exists() and key.stat().st_mode & 0o077:
        return f"{key}: other users may read the private key; chmod 600 it"
    return None


def load(
    ca: Path,
    certificate: Path,
    key: Path,
    party: str,
    now: datetime | None = None,
    denied: Collection[str] = (),
) -> Identity:
    """Check a party's own files. Raises IdentityError: one line with the file, the fault, and the remedy.

    Checked here because every TLS failure looks the same to the one who dials. denied: the deny list.
    """
    ca_pem, certificate_pem, key_pem = read(ca), read(certificate), read(key)
    roots, chain = read_certificates(ca_pem, ca), read_certificates(certificate_pem, certificate)
    own = der(chain[0])
    check_pair(read_key(key_pem, key), key, chain[0], certificate)
    check_name(chain[0], certificate, party)
    way = follow(chain, certificate, roots, ca)
    for one, file in way:
        check_dates(one, file, now or datetime.now(UTC))
    if entry := denied_as(own, denied):
        raise IdentityError(f"{certificate}: your own tls.denied names it ({entry}); have a new one issued")
    return Identity(
        party=party,
        ca=ca_pem,
        certificate=certificate_pem,
        certificate_der=own,
        key=key_pem,
        certificate_file=certificate,
        key_file=key,
        not_after=min(one.not_valid_after_utc for one, _ in way),
        denied=frozenset(denied),
    )


def issue(
    folder: Path,
    names: Iterable[str],
    host: str | None = None,
    days: int = 365,
    force: bool = False,
    now: datetime | None = None,
    key_of: Callable[[str], EllipticCurvePrivateKey] | None = None,
) -> list[Path]:
    """Write `<name>.pem` and `<name>.key` for each party, by the development CA in `folder` (made if absent).

    host: a further DNS name or IP address for the certificates. force: replace certificates that are there
    (never the CA). key_of: a party's key, in place of a new one. Returns the files written. Raises
    IdentityError, nothing written, for a bad name or a file that is there already.
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
    issuer = read_certificates(read(ca_file), ca_file)[0]
    issuer_key = read_key(read(ca_key_file), ca_key_file)
    for name, (certificate_file, key_file) in files.items():
        key = new_key() if key_of is None else key_of(name)
        hosts = [name, "localhost", "127.0.0.1"] + ([host] if host else [])
        certificate = sign_certificate(name, key, issuer, issuer_key, hosts, now, days)
        _write(key_file, key_pem(key), 0o600)
        _write(certificate_file, pem(certificate), 0o644)
        written += [certificate_file, key_file]
    return written


def read(file: Path) -> bytes:
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
