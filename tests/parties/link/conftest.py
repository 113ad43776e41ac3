"""Three parties with certificates, and a way to let them meet over real gRPC on this machine."""

import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from parties.certs import Identity
from parties.dial import Spoke
from parties.hub import Hub
from parties.limits import Limits
from protos.rounds import Progress, RemoteProtocolError, Rounds, Traffic
from tests.parties.link.raw import RawClient

NAMES = ("platform", "logistics", "advertiser")
HUB = NAMES[0]

Meet = Callable[..., dict[str, Any]]


@pytest.fixture(scope="session")
def folder(certificates: Path) -> Path:
    return certificates


@pytest.fixture
def open_hub(identities: dict[str, Identity]) -> Any:
    """Answers an open hub for the feature holders named; it closes after the test."""
    hubs = []

    def make(*peers: str, limits: Limits | None = None, plaintext: bool = False) -> Hub:
        pins = {name: identities[name].fingerprint for name in peers}
        hub = Hub(identities[HUB], "127.0.0.1:0", pins, limits, plaintext)
        hub.open()
        hubs.append(hub)
        return hub

    yield make
    for hub in hubs:
        with contextlib.suppress(RemoteProtocolError):
            hub.close()


@pytest.fixture
def meet(identities: dict[str, Identity], open_hub: Callable[..., Hub]) -> Meet:
    """Let every party drive its protocol. Answers each one's result, or the error it ended with."""

    def run(
        protocols: Mapping[str, Rounds[Any]],
        limits: Limits | None = None,
        plaintext: bool = False,
        on_progress: Callable[[Progress, Traffic], None] = lambda progress, traffic: None,
        on_save: Callable[[int, bytes], None] | None = None,
    ) -> dict[str, Any]:
        feature_holders = [name for name in protocols if name != HUB]
        hub = open_hub(*feature_holders, limits=limits, plaintext=plaintext)
        ends: dict[str, Any] = {}

        def party(name: str) -> None:
            try:
                if name == HUB:
                    with hub:
                        hub.wait_for_peers(10)
                        ends[name] = hub.drive(protocols[name], on_progress, on_save)
                    return
                others = [other for other in feature_holders if other != name]
                address = f"127.0.0.1:{hub.port}"
                with Spoke(identities[name], HUB, address, others, limits, plaintext) as spoke:
                    spoke.open(10)
                    ends[name] = spoke.drive(protocols[name])
            except BaseException as error:
                ends[name] = error

        threads = [threading.Thread(target=party, args=(name,), daemon=True) for name in protocols]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert not any(thread.is_alive() for thread in threads), f"hang; ended: {ends}"
        return ends

    return run


@pytest.fixture
def raw(identities: dict[str, Identity]) -> Iterator[Callable[..., RawClient]]:
    clients = []

    def make(hub: Hub, own: Identity = identities["logistics"]) -> RawClient:
        clients.append(RawClient(hub.port, own))
        return clients[-1]

    yield make
    for client in clients:
        client.close()
