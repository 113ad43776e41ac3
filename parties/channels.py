"""What all our gRPC has in common, at the end that listens and at the one that dials: mutual TLS, who the
other is, and when its silence is its end."""

from collections.abc import Mapping

import grpc

from parties.address import Address
from parties.certificate import key_fingerprint
from parties.certs import Identity
from parties.errors import NetworkError
from parties.probe import look_at_port

MOST_RECEIVED = 4 << 20
"""Bytes of one gRPC message, refused before it is in memory; our frames are at most a little over 1 MiB."""


def server_options(silence: float) -> list[tuple[str, int]]:
    """silence: seconds until an end that says nothing is gone."""
    return [
        ("grpc.so_reuseport", 0),  # or a second server would share the port silently
        *_both_ends(silence),
        ("grpc.http2.min_ping_interval_without_data_ms", 5_000),  # or an idle caller is "too many pings"
        ("grpc.server_handshake_timeout_ms", 10_000),
    ]


def listen(
    server: grpc.Server, address: Address, identity: Identity | None, key: str, ca: bytes | None = None
) -> int:
    """The port. identity: None for plaintext. key: of party.toml. ca: of those who may dial, if not our own.
    Raises NetworkError if the address cannot be had."""
    try:
        if identity is None:
            return server.add_insecure_port(str(address))
        credentials = grpc.ssl_server_credentials(
            [(identity.key, identity.certificate)],
            root_certificates=identity.ca if ca is None else ca,
            require_client_auth=True,
        )
        return server.add_secure_port(str(address), credentials)
    except RuntimeError:
        look_at_port(address, key)  # knows why
        raise NetworkError(f"cannot listen on {address}; change {key}") from None


def named_by(
    context: grpc.ServicerContext, pins: Mapping[str, str], identity: Identity
) -> tuple[str | None, dict[str, str]]:
    """Who calls, by name and key of the certificate, both: never by what it says. None for nobody of these;
    then who it says that it is, of these, and why it is not."""
    peer: dict[str, list[bytes]] = context.auth_context()  # type: ignore[assignment]
    names = [one.decode("ascii", "replace") for one in peer.get("x509_subject_alternative_name", [])]
    try:
        certificate = peer["x509_pem_cert"][0]
        key, denied = key_fingerprint(certificate), identity.denies(certificate)
    except (KeyError, ValueError):
        key, denied = "none", None
    name = next((one for one in names if pins.get(one) == key and not denied), None)
    why = f"tls.denied names its certificate ({denied})" if denied else "run.toml pins another key"
    return name, {one: why for one in names if one in pins and name is None}


def dial(address: Address, name: str, identity: Identity | None, silence: float) -> grpc.Channel:
    """To the server whose certificate has this name, whatever its address. identity: None for plaintext.
    silence: as of `server_options`."""
    options: list[tuple[str, int | str]] = [
        *_both_ends(silence),
        ("grpc.use_local_subchannel_pool", 1),  # each attempt is a fresh one, without the last one's backoff
        ("grpc.enable_retries", 0),
    ]
    if address.is_loopback:
        options.append(("grpc.enable_http_proxy", 0))
    if identity is None:
        return grpc.insecure_channel(str(address), options)
    options.append(("grpc.ssl_target_name_override", name))
    credentials = grpc.ssl_channel_credentials(identity.ca, identity.key, identity.certificate)
    return grpc.secure_channel(str(address), credentials, options)


def _both_ends(silence: float) -> list[tuple[str, int]]:
    patience = int(silence * 1000)
    return [
        ("grpc.max_receive_message_length", MOST_RECEIVED),
        ("grpc.keepalive_time_ms", 10_000),
        ("grpc.keepalive_timeout_ms", patience),
        ("grpc.http2.ping_timeout_ms", patience),
        ("grpc.http2.max_pings_without_data", 0),  # or, where nothing is said, only one a minute leaves
    ]
