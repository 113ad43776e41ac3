"""Parties that die, freeze, or never come: the others name them, in time, and stop."""

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from parties.certs import Identity
from parties.dial import Spoke
from parties.errors import NetworkError
from parties.hub import Hub
from parties.limits import Limits
from protos.rounds import PeerFailed, PeerTimeout, Progress, Receive, Rounds, RoundsError, Send

SPOKE = Path(__file__).with_name("spoke.py")
LIMITS = Limits(silence=3.0, away=1.0)


@contextmanager
def process(folder: Path, name: str, port: int, *others: str) -> Iterator[subprocess.Popen[str]]:
    child = subprocess.Popen(
        [sys.executable, str(SPOKE), str(folder), name, str(port), *others],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        yield child
    finally:
        child.kill()
        child.communicate()


def answer(name: str, talked: threading.Event) -> Rounds[None]:
    yield Progress("training", 0, 1)
    while True:
        yield Receive(name, "ping", 1000)
        yield Send(name, "pong", b"")
        talked.set()


def wait_for(name: str) -> Rounds[None]:
    yield Progress("training", 0, 1)
    yield Receive(name, "word", 10)


def ending(link: Hub | Spoke, rounds: Rounds[None], into: dict[str, Any]) -> threading.Thread:
    def run() -> None:
        try:
            link.drive(rounds)
        except RoundsError as error:
            into[link.name] = (error, time.monotonic())

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread


@pytest.mark.parametrize(("blow", "within"), [(signal.SIGKILL, 5.0), (signal.SIGSTOP, 9.0)])
def test_a_dead_or_frozen_party_is_named_by_both_others(
    folder: Path,
    identities: dict[str, Identity],
    open_hub: Callable[..., Hub],
    blow: signal.Signals,
    within: float,
) -> None:
    hub = open_hub("logistics", "advertiser", limits=LIMITS)
    ends: dict[str, Any] = {}
    talked = threading.Event()
    with (
        process(folder, "logistics", hub.port, "advertiser") as child,
        Spoke(identities["advertiser"], "platform", f"127.0.0.1:{hub.port}", ["logistics"], LIMITS) as spoke,
    ):
        spoke.open(5)
        hub.wait_for_peers(20)
        threads = [ending(hub, answer("logistics", talked), ends), ending(spoke, wait_for("platform"), ends)]
        assert talked.wait(10)
        child.send_signal(blow)
        began = time.monotonic()
        for thread in threads:
            thread.join(10)
        for name in ("platform", "advertiser"):
            error, when = ends[name]
            assert isinstance(error, PeerFailed)
            assert (error.peer, error.phase) == ("logistics", "training")
            assert when - began < within
    expected = (
        "its connection broke"
        if blow == signal.SIGKILL
        else "no sign of life, and it did not come back within 1 s"
    )
    assert expected in str(ends["platform"][0])


def test_a_hub_that_breaks_off_is_named(
    identities: dict[str, Identity], open_hub: Callable[..., Hub]
) -> None:
    hub = open_hub("logistics")
    ends: dict[str, Any] = {}
    with Spoke(identities["logistics"], "platform", f"127.0.0.1:{hub.port}", (), LIMITS) as spoke:
        spoke.open(5)
        hub.wait_for_peers(5)
        thread = ending(spoke, wait_for("platform"), ends)
        assert hub._server is not None
        hub._server.stop(0)
        thread.join(8)
    assert str(ends["logistics"][0]).startswith("platform failed during ")


def test_who_never_comes_is_named_at_the_hub_and_at_those_who_came(
    identities: dict[str, Identity], open_hub: Callable[..., Hub]
) -> None:
    hub = open_hub("logistics", "advertiser")
    waited: list[list[str]] = []
    with Spoke(identities["logistics"], "platform", f"127.0.0.1:{hub.port}", ["advertiser"]) as spoke:
        spoke.open(5)
        began = time.monotonic()
        with pytest.raises(PeerTimeout, match=r"did not come within 0\.4 s") as caught:
            hub.wait_for_peers(0.4, waited.append)
        assert time.monotonic() - began < 2
        assert (caught.value.peer, caught.value.phase) == ("advertiser", "gathering")
        with pytest.raises(PeerTimeout, match=r"^advertiser failed during training: it never came$"):
            spoke.drive(wait_for("platform"))
    assert waited[-1] == ["advertiser"]


def test_while_the_hub_gathers_a_party_may_start_anew(
    identities: dict[str, Identity], open_hub: Callable[..., Hub]
) -> None:
    hub = open_hub("logistics", "advertiser")
    address = f"127.0.0.1:{hub.port}"

    def greet(word: bytes) -> Rounds[None]:
        yield Send("platform", "word", word)
        yield Send("advertiser", "word", word)
        yield Receive("platform", "word", 10)

    def hub_part() -> Rounds[bytes]:
        word: bytes = yield Receive("logistics", "word", 10)
        yield Send("logistics", "word", b"")
        return word

    def listener() -> Rounds[bytes]:
        return (yield Receive("logistics", "word", 10))

    with Spoke(identities["logistics"], "platform", address, ["advertiser"]) as first:
        first.open(5)
        ending(first, greet(b"first"), {})
        time.sleep(0.1)
    got: dict[str, Any] = {}
    with (
        Spoke(identities["logistics"], "platform", address, ["advertiser"]) as second,
        Spoke(identities["advertiser"], "platform", address, ["logistics"]) as third,
    ):
        second.open(5)
        threading.Thread(target=lambda: second.drive(greet(b"second")), daemon=True).start()
        third.open(5)
        hub.wait_for_peers(5)
        thread = threading.Thread(target=lambda: got.update(advertiser=third.drive(listener())), daemon=True)
        thread.start()
        got["platform"] = hub.drive(hub_part())
        thread.join(5)
    assert got == {"platform": b"second", "advertiser": b"second"}


def test_a_hub_that_is_not_there_is_waited_for_within_bounds(identities: dict[str, Identity]) -> None:
    with Spoke(identities["logistics"], "platform", "127.0.0.1:1") as spoke:
        began = time.monotonic()
        with pytest.raises(NetworkError, match=r"^nobody answers at 127.0.0.1:1 \(Connection refused\)"):
            spoke.open(0.7)
        assert time.monotonic() - began < 2


def test_a_hub_that_comes_late_is_found(
    identities: dict[str, Identity], open_hub: Callable[..., Hub]
) -> None:
    gone = open_hub()
    port = gone.port
    gone.close()
    late = Hub(
        identities["platform"], f"127.0.0.1:{port}", {"logistics": identities["logistics"].fingerprint}
    )
    timer = threading.Timer(0.4, late.open)
    timer.start()
    with late, Spoke(identities["logistics"], "platform", f"127.0.0.1:{port}") as spoke:
        spoke.open(10)
        late.wait_for_peers(1)
    timer.join()


def test_a_port_that_is_taken_is_said_so_and_the_first_hub_goes_on(
    identities: dict[str, Identity], open_hub: Callable[..., Hub], capfd: pytest.CaptureFixture[str]
) -> None:
    first = open_hub("logistics")
    with (
        Hub(identities["platform"], f"127.0.0.1:{first.port}", {}) as second,
        pytest.raises(NetworkError, match="in use"),
    ):
        second.open()
    with Spoke(identities["logistics"], "platform", f"127.0.0.1:{first.port}") as spoke:
        spoke.open(5)
        first.wait_for_peers(1)
    assert capfd.readouterr() == ("", "")
