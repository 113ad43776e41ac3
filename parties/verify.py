"""`party certs verify`: one's own certificate, key and CA, a line for each fault and for all that is well."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeVar

from parties.certificate import (
    check_dates,
    check_name,
    check_pair,
    denied_as,
    der,
    dns_names,
    follow,
    key_fingerprint,
    read_certificates,
    read_key,
)
from parties.certs import read, soon_over, too_readable
from parties.config import Config
from parties.errors import IdentityError
from parties.own import check_pins

if TYPE_CHECKING:
    from cryptography import x509

T = TypeVar("T")


class Finding(NamedTuple):
    """What was tried, and what came of it."""

    what: str
    outcome: Literal["ok", "warning", "fault"]
    line: str


def verify_own(config: Config, now: datetime | None = None) -> list[Finding]:
    """Try each property by itself, as far as the files can be read."""
    tls, now, found = config.party.tls, now or datetime.now(UTC), list[Finding]()

    def attempt(what: str, work: Callable[[], T], well: Callable[[T], str]) -> T | None:
        try:
            got = work()
        except IdentityError as fault:
            found.append(Finding(what, "fault", str(fault)))
            return None
        if said := well(got):
            found.append(Finding(what, "ok", said))
        return got

    roots = attempt("ca", lambda: read_certificates(read(tls.ca), tls.ca), lambda _: "")
    chain = attempt(
        "certificate", lambda: read_certificates(read(tls.certificate), tls.certificate), lambda _: ""
    )
    key = attempt("key", lambda: read_key(read(tls.key), tls.key), lambda _: f"{tls.key}: ECDSA P-256")
    if warning := too_readable(tls.key):
        found.append(Finding("key", "warning", warning))
    if chain is None:
        return found
    own = chain[0]
    if key is not None:
        attempt(
            "pair",
            lambda: check_pair(key, tls.key, own, tls.certificate),
            lambda _: f"{tls.key} is the key of {tls.certificate}",
        )
    attempt(
        "name",
        lambda: check_name(own, tls.certificate, config.name),
        lambda _: f"{tls.certificate} names {', '.join(dns_names(own))}",
    )
    way = [(own, tls.certificate)]
    if roots is not None:
        way = (
            attempt(
                "chain",
                lambda: follow(chain, tls.certificate, roots, tls.ca),
                lambda way: f"{tls.certificate} leads to {tls.ca}, by {len(way) - 1} signature(s)",
            )
            or way
        )
    for one, file in way:
        attempt("dates", partial(check_dates, one, file, now), partial(_valid_until, one, file))
        if now <= one.not_valid_after_utc and (warning := soon_over(one.not_valid_after_utc, file, now)):
            found.append(Finding("dates", "warning", warning))
    attempt("pin", lambda: _pinned(config, own), lambda pin: f"run.toml pins {pin} for {config.name}")
    attempt("denied", lambda: _not_denied(config, own), lambda _: "tls.denied names no key of run.toml")
    return found


def _valid_until(one: x509.Certificate, file: Path, _: None) -> str:
    return f"{file}: serial:{one.serial_number:x} is valid until {one.not_valid_after_utc:%Y-%m-%d %H:%M} UTC"


def _pinned(config: Config, own: x509.Certificate) -> str:
    pin, pinned = key_fingerprint(der(own)), config.contract.parties[config.name].key
    if pin != pinned:
        raise IdentityError(
            f"{config.party.tls.certificate}: its pin is {pin}, but run.toml says {pinned} for "
            f"{config.name}; a new key needs a new run.toml at all parties"
        )
    return pin


def _not_denied(config: Config, own: x509.Certificate) -> None:
    if entry := denied_as(der(own), config.party.tls.denied):
        raise IdentityError(f"{config.party.tls.certificate}: your own tls.denied names it ({entry})")
    check_pins(config)
