"""Who is what comes from certificate and contract: over the real link nobody plays another's part.

And what goes wrong in the hub's own handlers is told to its log, not to the peer.
"""

import time
from collections.abc import Callable
from typing import Any

import grpc
import pytest

from parties.certs import Identity
from parties.dial import Spoke
from parties.hub import Hub
from parties.limits import Limits
from protos.rounds import PeerFailed, Receive, RemoteProtocolError, Rounds, Send
from tests.parties.link.raw import RawClient, frame

Meet = Callable[..., dict[str, Any]]
DENIED = (grpc.StatusCode.PERMISSION_DENIED, "not that party")


@pytest.mark.parametrize(
    "said",
    [
        {"sender": "platform", "receiver": "advertiser", "kind": "gradient"},
        {"sender": "platform", "kind": "hello"},
        {"sender": "advertiser", "receiver": "platform", "kind": "hello"},
        {"kind": "link/done", "payload": b"advertiser"},
        {"kind": "link/done", "payload": b"platform"},
        {"kind": "link/failed", "payload": b"advertiser error"},
        {"kind": "link/failed", "payload": b"platform absent"},
    ],
)
def test_a_feature_holder_cannot_speak_or_tell_news_for_another(
    identities: dict[str, Identity],
    open_hub: Callable[..., Hub],
    raw: Callable[..., RawClient],
    said: dict[str, Any],
) -> None:
    """Its stream ends; the party that it spoke for, or of, goes on."""
    hub = open_hub("logistics", "advertiser")
    with Spoke(identities["advertiser"], "platform", f"127.0.0.1:{hub.port}", ["logistics"]) as other:
        other.open(10)
        assert raw(hub).greet().send(frame(**said)).end() == DENIED
        assert hub._is_here("advertiser")
        assert not hub._is_here("logistics")
        assert hub._mail.failure is None
        assert other._mail.failure is None
        assert not hub._mail.left


@pytest.mark.parametrize("name", ["../x", "/etc/x", "a\0b", "..", "logistics/../platform", "LOGISTICS", ""])
def test_names_from_a_peer_lead_nowhere(
    open_hub: Callable[..., Hub], raw: Callable[..., RawClient], name: str
) -> None:
    """As sender, as receiver, in news: there are the contract's names, and no others."""
    hub = open_hub("logistics", "advertiser")
    assert raw(hub).greet().send(frame(sender=name)).end() == DENIED
    assert raw(hub).greet().send(frame(kind="link/done", payload=name.encode())).end() == DENIED
    broke = (grpc.StatusCode.INVALID_ARGUMENT, "the stream broke the protocol")
    assert raw(hub).greet().send(frame(receiver=name)).end() == broke
    assert {*hub._mail.inboxes} == {*hub._relayed.waiting} == {"logistics", "advertiser"}


@pytest.mark.parametrize("kind", ["hellos", "terms", "gradient"])
def test_a_feature_holder_cannot_act_as_label_holder(
    open_hub: Callable[..., Hub], raw: Callable[..., RawClient], kind: str
) -> None:
    """What only the hub says is of no use from anybody else."""

    def leading() -> Rounds[bytes]:
        return (yield Receive("logistics", "hello", 100))

    hub = open_hub("logistics")
    raw(hub).greet().send(frame(kind=kind))
    hub.wait_for_peers(5)
    with pytest.raises(RemoteProtocolError, match=f"expected 'hello' from 'logistics', got '{kind}'"):
        hub.drive(leading())


def test_a_forged_gradient_between_feature_holders_is_not_the_hubs(meet: Meet) -> None:
    """It comes under its sender's name: the hub's own is the one that is used, and the run ends by it."""

    def forger() -> Rounds[None]:
        yield Send("advertiser", "gradient", b"forged")
        yield Send("platform", "sent", b"")

    def hub() -> Rounds[None]:
        yield Receive("logistics", "sent", 0)
        yield Send("advertiser", "gradient", b"true")

    used = []

    def trained() -> Rounds[None]:
        used.append((yield Receive("platform", "gradient", 10)))

    ends = meet({"platform": hub(), "logistics": forger(), "advertiser": trained()})
    assert used == [b"true"]
    assert isinstance(ends["advertiser"], RemoteProtocolError)
    assert "'logistics' sent 'gradient' after the end" in str(ends["advertiser"])


@pytest.mark.parametrize("where", ["_admit", "_caller", "_outgoing"])
def test_an_error_in_a_handler_is_generic_to_the_peer_and_told_here(
    identities: dict[str, Identity],
    raw: Callable[..., RawClient],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    tmp_path: Any,
    where: str,
) -> None:
    def broken(*_: Any) -> None:
        raise ZeroDivisionError("has label 1, the user " + "".join(["47", "11"]))  # no literal in the trace

    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    if where == "_outgoing":
        monkeypatch.setattr("parties.wire.Wire.outgoing", broken)
    else:
        monkeypatch.setattr(Hub, where, broken)
    said: list[str] = []
    pins = {"logistics": identities["logistics"].fingerprint}
    with Hub(identities["platform"], "127.0.0.1:0", pins, say=said.append) as hub:
        hub.open()
        for _ in range(3):
            assert raw(hub).end() == (grpc.StatusCode.INTERNAL, "an error of the hub")
    [line] = said
    assert line.startswith("an unforeseen ZeroDivisionError: ")
    [trace] = tmp_path.iterdir()
    assert "test_roles.py" in trace.read_text()
    assert "4711" not in line + trace.read_text() + "".join(capfd.readouterr())


@pytest.mark.parametrize("jump", [86_400.0, -86_400.0])
def test_a_clock_that_jumps_disturbs_nothing(
    meet: Meet, monkeypatch: pytest.MonkeyPatch, jump: float
) -> None:
    """What is waited for is measured by a clock that does not jump."""
    real, jumped = time.time, [0.0]
    monkeypatch.setattr(time, "time", lambda: real() + jumped[0])

    def chatter(*others: str) -> Rounds[int]:
        got = 0
        for _ in range(4):
            for other in others:
                yield Send(other, "word", b"w")
            for other in others:
                got += len((yield Receive(other, "word", 1)))
            jumped[0] += jump
            time.sleep(0.4)
        return got

    names = ["platform", "logistics", "advertiser"]
    parties = {name: chatter(*(other for other in names if other != name)) for name in names}
    ends = meet(parties, Limits(silence=3.0, away=3.0, progress=6.0))
    assert ends == dict.fromkeys(names, 8)
    assert abs(time.time() - real()) > 86_400 * 10


def test_a_wait_ends_though_the_clock_goes_back(meet: Meet, monkeypatch: pytest.MonkeyPatch) -> None:
    real, began = time.time, time.monotonic()
    monkeypatch.setattr(time, "time", lambda: real() - 86_400 * (time.monotonic() - began))

    def waits() -> Rounds[bytes]:
        return (yield Receive("logistics", "word", 1, within=1.0))

    def silent() -> Rounds[bytes]:
        return (yield Receive("platform", "word", 1))

    ends = meet({"platform": waits(), "logistics": silent()})
    assert all(isinstance(end, PeerFailed) for end in ends.values()), ends
    assert time.monotonic() - began < 25
