"""A look at the hub from outside, against a real hub."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

from parties import probe
from parties.address import Address
from parties.certs import Identity, issue, load
from parties.errors import IdentityError, NetworkError
from parties.hub import Hub
from parties.probe import look_at_hub, look_at_port

Identities = dict[str, Identity]


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Identity:
    """Of another CA."""
    folder = tmp_path_factory.mktemp("other")
    issue(folder, ["logistics"])
    return load(folder / "ca.pem", folder / "logistics.pem", folder / "logistics.key", "logistics")


@pytest.fixture(scope="module")
def hub(identities: Identities) -> Iterator[Address]:
    pins = {"logistics": identities["logistics"].fingerprint}
    with Hub(identities["platform"], "127.0.0.1:0", pins) as hub:
        hub.open()
        yield Address("127.0.0.1", hub.port)


@pytest.fixture
def deaf() -> Iterator[Address]:
    """Takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield Address(*server.getsockname()[:2])


def test_a_hub_that_is_the_hub(identities: Identities, hub: Address) -> None:
    pin = identities["platform"].fingerprint
    for _ in range(3):
        look_at_hub(hub, "platform", pin, identities["logistics"], 5)


def test_a_key_that_run_toml_does_not_pin(identities: Identities, hub: Address) -> None:
    with pytest.raises(IdentityError, match=r"run\.toml pins sha256:0+ for platform"):
        look_at_hub(hub, "platform", "sha256:" + "0" * 64, identities["logistics"], 5)


def test_a_certificate_of_another_name(identities: Identities, hub: Address) -> None:
    with pytest.raises(IdentityError, match="is not good for bank"):
        look_at_hub(hub, "bank", "", identities["logistics"], 5)


def test_another_ca(hub: Address, stranger: Identity) -> None:
    with pytest.raises(IdentityError, match="is not good for platform"):
        look_at_hub(hub, "platform", "", stranger, 5)


def test_nobody_there(identities: Identities, deaf: Address) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        gone = Address(*server.getsockname()[:2])
    own = identities["logistics"]
    with pytest.raises(NetworkError, match=r"nobody answers at 127.0.0.1:"):
        look_at_hub(gone, "platform", "", own, 5)
    with pytest.raises(NetworkError, match=r"nobody answers at 127.0.0.1:"):
        look_at_hub(gone, "platform", "", None, 5)
    with pytest.raises(NetworkError, match=r"nobody answers at 127.0.0.1:.*timed out"):
        look_at_hub(deaf, "platform", "", own, 0.2)


@contextmanager
def hanging_up(wait_for: int) -> Iterator[Address]:
    """Takes connections and closes them, having read so many bytes: a proxy whose hub is not there."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            with suppress(OSError):  # the server is closed
                while True:
                    with server.accept()[0] as taken:
                        taken.recv(wait_for)

        threading.Thread(target=answer, daemon=True).start()
        yield Address(*server.getsockname()[:2])
        server.shutdown(socket.SHUT_RDWR)


def test_a_proxy_without_its_hub_is_worth_another_try(identities: Identities) -> None:
    with (
        hanging_up(1 << 16) as proxy,
        pytest.raises(NetworkError, match="hangs up before it has said who it is"),
    ):
        look_at_hub(proxy, "platform", "", identities["logistics"], 5)


def test_a_hub_that_dies_as_it_is_looked_at_is_worth_another_try(
    identities: Identities, hub: Address, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It hangs up after TLS has begun, as one does that refuses our certificate; but only once."""
    answers = iter([lambda *given: None, probe._certificate])
    monkeypatch.setattr(probe, "_certificate", lambda *given: next(answers)(*given))
    look_at_hub(hub, "platform", identities["platform"].fingerprint, identities["logistics"], 5)


def test_a_host_that_does_not_exist(identities: Identities) -> None:
    with pytest.raises(NetworkError, match=r"nobody answers at hub\.invalid:1 "):
        look_at_hub(Address("hub.invalid", 1), "platform", "", identities["logistics"], 5)


def test_plaintext(deaf: Address) -> None:
    look_at_hub(deaf, "platform", "", None, 5)


def test_a_port_that_is_taken(deaf: Address) -> None:
    with pytest.raises(NetworkError, match=r"cannot listen on 127.0.0.1:\d+ \(.*in use\)"):
        look_at_port(deaf)


def test_a_port_that_is_free() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        free = Address(*server.getsockname()[:2])
    look_at_port(free)
    look_at_port(free)
