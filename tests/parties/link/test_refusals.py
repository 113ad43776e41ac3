"""Strangers, impostors and broken clients: refused, told nothing, and the hub goes on serving the others."""

import logging
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from hypothesis import given, settings
from hypothesis import strategies as st

from parties.certs import Identity, issue, load
from parties.dial import Spoke
from parties.errors import ConfigError, IdentityError, NetworkError
from parties.hub import SERVICE, Hub
from parties.limits import Limits
from parties.wire import Wire
from protos.party_pb2 import Frame
from protos.rounds import (
    Bind,
    PeerFailed,
    PeerRestarted,
    PeerTimeout,
    Receive,
    RemoteProtocolError,
    Rounds,
    Send,
)
from tests.parties.link.raw import RawClient, frame, greeting, in_place_of_the_hub, left

RUN = bytes(32)


def exchange_works(hub: Hub, identities: dict[str, Identity]) -> bool:
    """Does a well-behaved logistics still get on?"""

    def greet() -> Rounds[bytes]:
        yield Send("platform", "word", b"hello")
        return (yield Receive("platform", "word", 10))

    def answer() -> Rounds[None]:
        yield Send("logistics", "word", (yield Receive("logistics", "word", 10)))

    thread = threading.Thread(target=lambda: (hub.wait_for_peers(5), hub.drive(answer())), daemon=True)
    thread.start()
    with Spoke(identities["logistics"], "platform", f"127.0.0.1:{hub.port}") as spoke:
        spoke.open(5)
        got = spoke.drive(greet())
    thread.join(5)
    return got == b"hello"


@pytest.mark.parametrize(
    ("frames", "code"),
    [
        ([frame(sender="advertiser")], grpc.StatusCode.PERMISSION_DENIED),
        ([frame(sender="platform")], grpc.StatusCode.PERMISSION_DENIED),
        ([frame(kind="link/failed", payload=b"platform error")], grpc.StatusCode.PERMISSION_DENIED),
        ([frame(2)], grpc.StatusCode.INVALID_ARGUMENT),
        ([frame(run=RUN), frame(2, run=b"another")], grpc.StatusCode.INVALID_ARGUMENT),
        ([frame(session=1)], grpc.StatusCode.INVALID_ARGUMENT),
        ([frame(incarnation=1)], grpc.StatusCode.INVALID_ARGUMENT),
        ([frame(acknowledgement=1)], grpc.StatusCode.INVALID_ARGUMENT),
        ([frame(receiver="nobody")], grpc.StatusCode.INVALID_ARGUMENT),
        ([frame(receiver="logistics")], grpc.StatusCode.INVALID_ARGUMENT),
        ([frame(chunk=1)], grpc.StatusCode.INVALID_ARGUMENT),
        ([frame(kind="")], grpc.StatusCode.INVALID_ARGUMENT),
        ([frame(kind="k" * 65)], grpc.StatusCode.INVALID_ARGUMENT),
        ([frame(kind="link/what", payload=b"logistics")], grpc.StatusCode.INVALID_ARGUMENT),
        ([frame(kind="link/failed", payload=b"logistics \xff")], grpc.StatusCode.INVALID_ARGUMENT),
        ([frame(payload=bytes((1 << 20) + 1))], grpc.StatusCode.INVALID_ARGUMENT),
        ([frame(payload=bytes(5 << 20))], grpc.StatusCode.RESOURCE_EXHAUSTED),
        ([frame(number) for number in range(1, 9001)], grpc.StatusCode.INVALID_ARGUMENT),
    ],
)
def test_a_frame_against_the_rules_ends_its_stream_alone(
    identities: dict[str, Identity],
    open_hub: Callable[..., Hub],
    raw: Callable[..., RawClient],
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
    frames: list[Frame],
    code: grpc.StatusCode,
) -> None:
    """The last case: empty messages are not free to keep."""
    hub = open_hub("logistics", limits=Limits(window=1 << 20, inbox=1 << 20))
    got, text = raw(hub).greet().send(*frames).end()
    assert got == code
    if code != grpc.StatusCode.RESOURCE_EXHAUSTED:  # that is gRPC's own text
        assert text in ("not that party", "the stream broke the protocol")
    assert exchange_works(hub, identities)
    assert not [record for record in caplog.records if record.levelno >= logging.INFO]
    assert capfd.readouterr() == ("", "")


def test_what_waits_to_be_relayed_is_bounded(
    open_hub: Callable[..., Hub], raw: Callable[..., RawClient]
) -> None:
    hub = open_hub("logistics", "advertiser", limits=Limits(window=1 << 20, inbox=2 << 20))
    flood = [frame(number, receiver="advertiser", payload=bytes(1 << 20)) for number in range(1, 8)]
    assert raw(hub).greet().send(*flood).end()[0] == grpc.StatusCode.INVALID_ARGUMENT


def test_bytes_that_are_no_frame(
    identities: dict[str, Identity], open_hub: Callable[..., Hub], raw: Callable[..., RawClient]
) -> None:
    hub = open_hub("logistics")
    client = raw(hub).greet()
    client.queue.put(b"\xff\xff\xff")
    assert client.end() == (grpc.StatusCode.INVALID_ARGUMENT, "the stream broke the protocol")
    assert exchange_works(hub, identities)


@pytest.mark.parametrize(
    ("bad", "told"),
    [
        ([frame(2, run=b"another")], "a frame of another run from 'logistics'"),
        ([frame(2)], "a frame of another run from 'logistics'"),
        ([frame(3, run=RUN)], "1 frames are missing"),
        ([frame(2, run=RUN, sender="advertiser")], "'logistics' sent a frame as if it were 'advertiser'"),
        ([frame(2, run=RUN, kind="other")], "expected 'word' from 'logistics', got 'other'"),
    ],
)
def test_during_a_run_the_hub_says_who_broke_which_rule(
    open_hub: Callable[..., Hub], raw: Callable[..., RawClient], bad: list[Frame], told: str
) -> None:
    def bound() -> Rounds[None]:
        yield Receive("logistics", "word", 10)
        yield Bind(RUN)
        client.send(*bad)
        yield Receive("logistics", "word", 10)

    hub = open_hub("logistics")
    client = raw(hub).greet().send(frame())
    hub.wait_for_peers(5)
    with pytest.raises(RemoteProtocolError, match=told):
        hub.drive(bound())


def test_a_replayed_frame_counts_once(open_hub: Callable[..., Hub], raw: Callable[..., RawClient]) -> None:
    def twice() -> Rounds[list[bytes]]:
        return [(yield Receive("logistics", "word", 10)), (yield Receive("logistics", "word", 10))]

    hub = open_hub("logistics")
    one, two = frame(1, payload=b"one"), frame(2, payload=b"two")
    client = (
        raw(hub).greet().send(one, one, two, one, two, two, frame(3, kind="link/done", payload=b"logistics"))
    )
    hub.wait_for_peers(5)
    assert hub.drive(twice()) == [b"one", b"two"]
    left(hub, client)


def test_talk_after_the_end_is_an_error_at_close(
    identities: dict[str, Identity], raw: Callable[..., RawClient]
) -> None:
    def nothing() -> Rounds[None]:
        return
        yield

    hub = Hub(identities["platform"], "127.0.0.1:0", {"logistics": identities["logistics"].fingerprint})
    hub.open()
    client = raw(hub).greet()
    hub.wait_for_peers(5)
    hub.drive(nothing())
    client.send(frame())
    with pytest.raises(RemoteProtocolError, match="'logistics' sent 'word' after the end"):
        hub.close()


def test_a_second_stream_of_the_same_party_is_refused_and_the_first_lives(
    open_hub: Callable[..., Hub], raw: Callable[..., RawClient]
) -> None:
    def one() -> Rounds[bytes]:
        return (yield Receive("logistics", "word", 10))

    hub = open_hub("logistics")
    first = raw(hub).greet()
    second = raw(hub).put(greeting(session=8))
    assert second.end() == (grpc.StatusCode.ALREADY_EXISTS, "this party is connected already")
    hub.wait_for_peers(1)
    first.send(frame(payload=b"first"), frame(2, kind="link/done", payload=b"logistics"))
    assert hub.drive(one()) == b"first"
    left(hub, first)


def test_who_comes_as_another_process_ends_the_attempt_and_is_told_to_come_again(
    open_hub: Callable[..., Hub], raw: Callable[..., RawClient]
) -> None:
    hub = open_hub("logistics")
    client = raw(hub).greet()
    hub.wait_for_peers(1)
    client.close()
    second: list[tuple[grpc.StatusCode, str]] = []

    def come() -> Rounds[None]:
        while hub._wires["logistics"].open:
            time.sleep(0.01)
        second.append(raw(hub).put(greeting(session=8)).end())
        yield Receive("logistics", "word", 10)

    with pytest.raises(
        PeerRestarted, match=r"^logistics failed during handshake: its process was started anew"
    ):
        hub.drive(come())
    assert second == [(grpc.StatusCode.UNAVAILABLE, "come again")]


def other_identity(tmp_path: Path, name: str, **options: Any) -> Identity:
    """Of a CA of its own."""
    issue(tmp_path, [name], **options)
    return load(
        tmp_path / "ca.pem", tmp_path / f"{name}.pem", tmp_path / f"{name}.key", name, options.get("now")
    )


@pytest.mark.parametrize("name", ["stranger", "logistics"])
def test_an_unknown_name_or_key_of_the_right_ca_is_denied(
    folder: Path, tmp_path: Path, open_hub: Callable[..., Hub], name: str
) -> None:
    for file in ("ca.pem", "ca.key"):
        (tmp_path / file).write_bytes((folder / file).read_bytes())
    hub = open_hub("logistics")
    with (
        Spoke(other_identity(tmp_path, name), "platform", f"127.0.0.1:{hub.port}") as spoke,
        pytest.raises(IdentityError, match="permission denied by the hub"),
    ):
        spoke.open(5)
    if name == "logistics":
        with pytest.raises(PeerTimeout, match=r"named logistics was refused: run\.toml pins another key"):
            hub.wait_for_peers(0.1)


def test_another_ca_is_refused_by_either_side(
    tmp_path: Path,
    identities: dict[str, Identity],
    open_hub: Callable[..., Hub],
    raw: Callable[..., RawClient],
) -> None:
    hub = open_hub("logistics")
    other = other_identity(tmp_path, "logistics")
    with (
        Spoke(other, "platform", f"127.0.0.1:{hub.port}") as spoke,
        pytest.raises(IdentityError, match=r"TLS refused: the certificate of 127.0.0.1:.* is not good"),
    ):
        spoke.open(5)
    mixed = replace(other, ca=identities["logistics"].ca)  # `load` would not let that pass
    with (
        Spoke(mixed, "platform", f"127.0.0.1:{hub.port}") as spoke,
        pytest.raises(IdentityError, match=r"TLS refused: .* does not take our certificate"),
    ):
        spoke.open(5)
    assert exchange_works(hub, identities)


@pytest.mark.parametrize("days_ago", [1000, -1000])
def test_a_certificate_out_of_its_time_is_refused_by_the_hub(
    folder: Path,
    tmp_path: Path,
    identities: dict[str, Identity],
    open_hub: Callable[..., Hub],
    raw: Callable[..., RawClient],
    days_ago: int,
) -> None:
    for file in ("ca.pem", "ca.key"):
        (tmp_path / file).write_bytes((folder / file).read_bytes())
    now = datetime.now(UTC)
    issue(tmp_path, ["logistics"], now=now - timedelta(days=days_ago))
    certificate, key = ((tmp_path / f"logistics.{end}").read_bytes() for end in ("pem", "key"))
    stale = replace(identities["logistics"], certificate=certificate, key=key)
    hub = open_hub("logistics")
    assert raw(hub, stale).end()[0] == grpc.StatusCode.UNAVAILABLE
    assert exchange_works(hub, identities)


def test_no_certificate_no_call(
    identities: dict[str, Identity], open_hub: Callable[..., Hub], raw: Callable[..., RawClient]
) -> None:
    hub = open_hub("logistics")
    own = identities["logistics"]
    options = [("grpc.ssl_target_name_override", "platform")]
    anonymous = grpc.secure_channel(f"127.0.0.1:{hub.port}", grpc.ssl_channel_credentials(own.ca), options)
    plain = grpc.insecure_channel(f"127.0.0.1:{hub.port}", [("grpc.enable_http_proxy", 0)])
    for channel in (anonymous, plain):
        client = RawClient(hub.port, own, channel)
        assert client.end()[0] == grpc.StatusCode.UNAVAILABLE
        client.close()
    assert exchange_works(hub, identities)


def test_a_hub_with_another_name_is_not_our_hub(
    identities: dict[str, Identity], open_hub: Callable[..., Hub]
) -> None:
    hub = open_hub("logistics")
    with (
        Spoke(identities["logistics"], "advertiser", f"127.0.0.1:{hub.port}") as spoke,
        pytest.raises(IdentityError, match="not good for advertiser"),
    ):
        spoke.open(5)


def test_tls_and_plaintext_do_not_meet(identities: dict[str, Identity], open_hub: Callable[..., Hub]) -> None:
    secure, plain = open_hub("logistics"), open_hub("logistics", plaintext=True)
    with (
        Spoke(identities["logistics"], "platform", f"127.0.0.1:{plain.port}") as spoke,
        pytest.raises(NetworkError, match="does not speak TLS"),
    ):
        spoke.open(0.5)
    with (
        Spoke(identities["logistics"], "platform", f"127.0.0.1:{secure.port}", plaintext=True) as spoke,
        pytest.raises(NetworkError, match="takes connections but not our stream"),
    ):
        spoke.open(0.5)


def test_another_program_on_the_port_is_no_hub(identities: dict[str, Identity]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        with (
            Spoke(identities["logistics"], "platform", f"127.0.0.1:{port}") as spoke,
            pytest.raises(NetworkError, match=f"127.0.0.1:{port}"),
        ):
            spoke.open(0.5)


def test_what_a_hub_says_as_it_refuses_is_quoted_and_short(identities: dict[str, Identity]) -> None:
    def refuse(_: Any, context: grpc.ServicerContext) -> None:
        context.abort(grpc.StatusCode.UNKNOWN, "\x1b[2J\nparty: all is well " + "x" * 1000)

    with (
        in_place_of_the_hub(identities["platform"], refuse) as port,
        Spoke(identities["logistics"], "platform", f"127.0.0.1:{port}") as spoke,
        pytest.raises(NetworkError) as fault,
    ):
        spoke.open(5)
    assert str(fault.value).isprintable()
    assert len(str(fault.value)) < 250


def test_what_follows_a_failure_while_the_hub_gathers_is_dropped(identities: dict[str, Identity]) -> None:
    """The party may dial again: what is still under way on its old stream must not reach the new one."""
    hub = Hub(identities["platform"], "127.0.0.1:0", {"logistics": identities["logistics"].fingerprint})
    old = hub._wires["logistics"] = Wire("platform", "logistics", hub._changed, 1000)
    failed = {"kind": "link/failed", "payload": b"logistics error"}
    for one in (frame(1, **failed), frame(2, **failed), frame(3), frame(9)):
        hub.hear(old, one.SerializeToString())
    assert not hub._wires
    assert not hub._mail.inboxes["logistics"]
    hub.close()


def test_an_end_is_told_once(identities: dict[str, Identity]) -> None:
    """Or its news would pile up for the others, outside of every window."""
    pins = {name: identities[name].fingerprint for name in ("logistics", "advertiser")}
    hub = Hub(identities["platform"], "127.0.0.1:0", pins)
    wire = hub._wires["logistics"] = Wire("platform", "logistics", hub._changed, 1000)
    for number in (1, 2, 3):
        hub.hear(wire, frame(number, kind="link/done", payload=b"logistics").SerializeToString())
        assert len(hub._relayed.waiting["advertiser"]["logistics"]) == (1 if number == 1 else 0)
    assert isinstance(wire.verdict, RemoteProtocolError)
    hub.close()


def test_two_parties_cannot_share_a_name_or_a_key(identities: dict[str, Identity]) -> None:
    key = identities["logistics"].fingerprint
    for pins in ({"logistics": key, "advertiser": key}, {"platform": key}):
        with pytest.raises(ConfigError, match="same name or the same key"):
            Hub(identities["platform"], "127.0.0.1:0", pins)


def test_health_says_serving_while_the_hub_is_open(
    identities: dict[str, Identity], open_hub: Callable[..., Hub]
) -> None:
    hub = open_hub("logistics")
    own = identities["logistics"]
    credentials = grpc.ssl_channel_credentials(own.ca, own.key, own.certificate)
    options = [("grpc.ssl_target_name_override", "platform")]
    with grpc.secure_channel(f"127.0.0.1:{hub.port}", credentials, options) as channel:
        check = health_pb2_grpc.HealthStub(channel).Check
        for service in ("", SERVICE):
            status = check(health_pb2.HealthCheckRequest(service=service), timeout=5).status
            assert status == health_pb2.HealthCheckResponse.SERVING


text = st.sampled_from(
    ["", "logistics", "platform", "advertiser", "word", "link/done", "link/failed", "x" * 70]
)
frames = st.builds(
    Frame,
    run=st.sampled_from([b"", RUN, bytes(99)]),
    session=st.integers(0, 1),
    sender=text,
    receiver=text,
    sequence=st.integers(0, 4),
    acknowledgement=st.integers(0, 2),
    kind=text,
    chunk=st.integers(0, 2),
    last=st.booleans(),
    payload=st.sampled_from([b"", b"logistics", b"advertiser lost", b"logistics lost", bytes(2000)]),
).map(Frame.SerializeToString)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.one_of(frames, st.binary(max_size=40)), max_size=8))
def test_whatever_comes_is_taken_or_is_one_typed_error(
    identities: dict[str, Identity], data: list[bytes]
) -> None:
    """Into a hub and a feature holder, without any network. The error is the peer's fault, or its news."""
    pins = {name: identities[name].fingerprint for name in ("logistics", "advertiser")}
    hub = Hub(identities["platform"], "127.0.0.1:0", pins)
    spoke = Spoke(identities["advertiser"], "platform", "127.0.0.1:1", ["logistics"])
    for link, neighbours in ((hub, list(pins)), (spoke, ["platform"])):
        for name in neighbours:
            link._wires[name] = Wire(link.name, name, link._changed, 1000)
        link._start()
        wire = link._wires[neighbours[0]]
        for one in data:
            link.hear(wire, one)
        failure = link._mail.failure
        assert failure is None or isinstance(failure, RemoteProtocolError | PeerFailed)
        assert (wire.verdict is None) or failure is not None
