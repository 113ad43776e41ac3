"""Certificates over time, at the hub's gate: renewed, revoked, expired during a run."""

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509

from parties.certificate import deniable, key_fingerprint
from parties.certs import Identity
from parties.dial import Spoke
from parties.errors import IdentityError
from parties.hub import Hub
from protos.rounds import PeerTimeout, Receive, Rounds, Send
from tests.parties.conftest import Reissue


def serial(identity: Identity) -> str:
    return deniable(f"serial:{x509.load_der_x509_certificate(identity.certificate_der).serial_number:X}")


def gate(identities: dict[str, Identity], *denied: str) -> Hub:
    own = replace(identities["platform"], denied=frozenset(denied))
    hub = Hub(own, "127.0.0.1:0", {"logistics": identities["logistics"].fingerprint})
    hub.open()
    return hub


def dial(hub: Hub, own: Identity) -> None:
    with Spoke(own, "platform", f"127.0.0.1:{hub.port}") as spoke:
        spoke.open(5)


def test_a_renewed_certificate_of_the_same_key_is_admitted(
    identities: dict[str, Identity], reissue: Reissue
) -> None:
    renewed = reissue("logistics", datetime.now(UTC) + timedelta(hours=12))
    assert renewed.certificate != identities["logistics"].certificate
    assert renewed.fingerprint == identities["logistics"].fingerprint
    with gate(identities) as hub:
        dial(hub, renewed)


@pytest.mark.parametrize("by", [key_fingerprint, None], ids=["key", "serial"])
def test_a_revoked_certificate_is_refused_at_the_gate_and_named(
    identities: dict[str, Identity], reissue: Reissue, by: Callable[[bytes], str] | None
) -> None:
    """By key whatever the certificate; by serial number that one alone."""
    old, new = identities["logistics"], reissue("logistics", datetime.now(UTC) + timedelta(hours=12))
    entry = by(old.certificate_der) if by else serial(old)
    with gate(identities, entry) as hub:
        with pytest.raises(IdentityError, match=r"permission denied by the hub .* or denied there"):
            dial(hub, old)
        if by is None:
            dial(hub, new)
        else:
            with pytest.raises(IdentityError, match="permission denied"):
                dial(hub, new)
            with pytest.raises(PeerTimeout, match=rf"logistics was refused: tls\.denied names .*{entry}"):
                hub.wait_for_peers(0.1)


def test_the_hub_is_refused_by_a_feature_holder_that_denies_it(identities: dict[str, Identity]) -> None:
    from parties.address import Address
    from parties.probe import look_at_hub

    own = replace(identities["logistics"], denied=frozenset([serial(identities["platform"])]))
    with (
        gate(identities) as hub,
        pytest.raises(IdentityError, match=r"certificate of platform that tls\.denied names \(serial:"),
    ):
        look_at_hub(Address("127.0.0.1", hub.port), "platform", None, own, 5)


@pytest.mark.slow
def test_a_run_outlives_its_certificate_and_a_new_line_does_not(
    identities: dict[str, Identity], reissue: Reissue
) -> None:
    """TLS looks at the dates where a line is opened: one that stands goes on, and no other is opened."""
    ends = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=6)
    short = reissue("logistics", ends)
    expired = threading.Event()

    def leading() -> Rounds[bytes]:
        first = yield Receive("logistics", "first", 10)
        expired.wait(30)
        yield Send("logistics", "second", b"2")
        return first + (yield Receive("logistics", "third", 10))

    def following() -> Rounds[bytes]:
        yield Send("platform", "first", b"1")
        second = yield Receive("platform", "second", 10)
        yield Send("platform", "third", b"3")
        return second

    results: dict[str, bytes] = {}

    def lead(hub: Hub) -> None:
        hub.wait_for_peers(10)
        results["platform"] = hub.drive(leading())

    with gate(identities) as hub:
        thread = threading.Thread(target=lead, args=(hub,))
        thread.start()
        with Spoke(short, "platform", f"127.0.0.1:{hub.port}") as spoke:
            spoke.open(5)
            threading.Thread(
                target=lambda: (
                    time.sleep(max((ends - datetime.now(UTC)).total_seconds(), 0) + 1.5),
                    expired.set(),
                )
            ).start()
            results["logistics"] = spoke.drive(following())
        thread.join(30)
        assert results == {"platform": b"13", "logistics": b"2"}
    assert datetime.now(UTC) > ends
    with gate(identities) as hub, pytest.raises(IdentityError, match=r"logistics\.pem: has expired"):
        dial(hub, short)
