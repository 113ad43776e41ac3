"""A look at an address from outside: does the hub answer there, and is it the hub; is a port still free?

gRPC says UNAVAILABLE for everything from a closed port to an expired certificate, so this uses plain TLS.
"""

import os
import socket
import ssl
import time
from datetime import UTC, datetime

from parties.address import Address
from parties.certificate import key_fingerprint
from parties.certs import Identity
from parties.errors import IdentityError, NetworkError

AGAIN = 0.5
"""Seconds until a hub that hung up is looked at once more."""


def look_at_hub(address: Address, hub: str, pin: str | None, own: Identity | None, within: float) -> None:
    """Connect, and unless `own` is None (plaintext) shake hands over mutual TLS and compare the hub's key.

    pin: the hub's key as run.toml has it; None leaves it to the handshake. within: seconds for each step.
    Raises NetworkError (nobody answers, or no TLS) and IdentityError (either side refuses the other).
    """
    try:
        if own is None:
            socket.create_connection(address, within).close()
            return
        for pause in (0.0, AGAIN):  # a hub that dies in this very moment also hangs up without a word
            time.sleep(pause)
            with socket.create_connection(address, within) as plain:
                found = _certificate(plain, hub, own)
            if found is not None:
                return _compare(found, address, hub, pin, own)
        raise IdentityError(_not_taken(address, "no reason given", own))
    except ssl.SSLCertVerificationError as error:
        raise IdentityError(
            f"TLS refused: the certificate of {address} is not good for {hub} ({error.verify_message}); "
            "check tls.ca, link.hub and the hub's certificate"
        ) from None
    except ssl.SSLEOFError:
        raise NetworkError(
            f"{address} hangs up before it has said who it is; is the hub started behind that address?"
        ) from None
    except ssl.SSLError as error:
        if error.reason in ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "HTTP_REQUEST"):
            raise NetworkError(
                f"TLS refused: {address} does not speak TLS; check link.hub and the hub's link.plaintext"
            ) from None
        reason = (error.reason or "no reason given").lower().replace("_", " ")
        raise IdentityError(_not_taken(address, reason, own)) from None
    except OSError as error:
        raise NetworkError(
            f"nobody answers at {address} ({error.strerror or error}); is the hub started there?"
        ) from None


def look_at_port(address: Address, key: str = "link.listen") -> None:
    """Could this process listen here? key: of party.toml, that says so. Raises NetworkError."""
    try:
        family = socket.getaddrinfo(*address, type=socket.SOCK_STREAM)[0][0]
        with socket.create_server(address, family=family):
            pass
    except OSError as error:
        why = os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror or error
        raise NetworkError(f"cannot listen on {address} ({why}); free the port or change {key}") from None


def _certificate(plain: socket.socket, hub: str, own: Identity) -> bytes | None:
    """Of whoever answers, in DER; TLS has checked that the CA gave it to `hub`. None: it hangs up on us.

    With TLS 1.3 a server refuses the client's certificate only after the handshake.
    """
    context = ssl.create_default_context(cadata=own.ca.decode())
    context.load_cert_chain(own.certificate_file, own.key_file)
    context.set_alpn_protocols(["h2"])
    with context.wrap_socket(plain, server_hostname=hub) as secure:
        found = secure.getpeercert(binary_form=True) or b""
        return found if secure.recv(1) else None


def _not_taken(address: Address, reason: str, own: Identity | None) -> str:
    if own is not None and datetime.now(UTC) > own.not_after:
        return (
            f"{own.certificate_file}: has expired, and {address} takes it no more; have a new one issued for "
            "the same key, and start the same command again"
        )
    return f"TLS refused: {address} does not take our certificate ({reason}); check that all use one CA"


def _compare(certificate: bytes, address: Address, hub: str, pin: str | None, own: Identity) -> None:
    found = key_fingerprint(certificate)
    if entry := own.denies(certificate):
        raise IdentityError(
            f"{address} shows a certificate of {hub} that tls.denied names ({entry}); ask {hub}"
        )
    if pin is not None and found != pin:
        raise IdentityError(
            f"{address} has the key {found}, but run.toml pins {pin} for {hub}; compare run.toml with {hub}"
        )
