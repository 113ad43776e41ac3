"""Who dials again and again, talks on after its end, or is interrupted at its end: nothing piles up."""

import threading
import time
from collections.abc import Callable
from typing import Any

import grpc
import pytest

from parties.certs import Identity
from parties.dial import Spoke
from parties.errors import NetworkError
from parties.hub import Hub
from parties.limits import Limits
from protos.rounds import PeerFailed, Progress, Receive, Rounds, RoundsError, Send
from tests.parties.link.raw import RawClient, frame, greeting, in_place_of_the_hub, left

MIB = 1 << 20


def memory() -> int:
    """Bytes that this process has in memory."""
    with open("/proc/self/statm") as pages:
        return int(pages.read().split()[1]) * 4096


def big_word(size: int) -> Rounds[bytes]:
    yield Send("logistics", "word", bytes(size))
    return (yield Receive("logistics", "word", 20))


def driven(hub: Hub, rounds: Rounds[Any]) -> tuple[threading.Thread, list[Any]]:
    ends: list[Any] = []

    def run() -> None:
        try:
            ends.append(hub.drive(rounds))
        except RoundsError as error:
            ends.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread, ends


def test_who_dials_again_and_again_fills_neither_memory_nor_log(
    open_hub: Callable[..., Hub], raw: Callable[..., RawClient], identities: dict[str, Identity]
) -> None:
    hub, said = open_hub("logistics"), list[str]()
    hub._say = said.append
    first = raw(hub).greet()
    hub.wait_for_peers(5)
    thread, ends = driven(hub, big_word(24 * MIB))
    with hub._changed:
        hub._changed.wait_for(lambda: hub._wires["logistics"].line.unacknowledged_bytes == 24 * MIB, 5)
    before, began = memory(), time.monotonic()
    for _ in range(60):  # and no word is read
        again = RawClient(hub.port, identities["logistics"], first.channel)
        again.greet(greeting(**first.numbers)).call.cancel()
    assert memory() - before < 300 * MIB
    last = raw(hub).greet(greeting(**first.numbers)).send(frame(payload=b"still there"))
    thread.join(5)
    assert ends == [b"still there"]
    left(hub, last.send(frame(2, kind="link/done", payload=b"logistics")))
    assert len(said) <= 2 * (time.monotonic() - began + 2)


def test_who_is_interrupted_as_it_waits_for_the_end_of_others_ends(
    identities: dict[str, Identity], raw: Callable[..., RawClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The peer lives, and never says that it has finished: only a signal ends the hub before its patience."""
    hub = Hub(identities["platform"], "127.0.0.1:0", {"logistics": identities["logistics"].fingerprint})
    hub.open()
    client = raw(hub).greet()
    hub.wait_for_peers(5)

    def nothing() -> Rounds[None]:
        return
        yield

    hub.drive(nothing())

    def interrupted(ready: Callable[[], bool], within: float) -> bool:
        raise KeyboardInterrupt

    monkeypatch.setattr(hub._changed, "wait_for", interrupted)
    with pytest.raises(KeyboardInterrupt):
        hub.close()
    assert client.end()[0] == grpc.StatusCode.OK  # or the thread that writes to it would keep the process


def test_what_a_party_sends_to_another_after_its_end_is_refused_at_the_hub(
    open_hub: Callable[..., Hub], raw: Callable[..., RawClient], identities: dict[str, Identity]
) -> None:
    hub = open_hub("logistics", "advertiser", limits=Limits(away=1.0))
    client = raw(hub).greet()
    with Spoke(identities["advertiser"], "platform", f"127.0.0.1:{hub.port}", ["logistics"]) as spoke:
        spoke.open(5)
        hub.wait_for_peers(5)

        def waiting(sender: str) -> Rounds[bytes]:
            yield Progress("training", 0, 0)
            return (yield Receive(sender, "word", 10))

        thread, ends = driven(hub, waiting("advertiser"))
        client.send(
            frame(kind="link/done", payload=b"logistics"), frame(2, receiver="advertiser", payload=b"more")
        )
        assert client.end()[0] == grpc.StatusCode.INVALID_ARGUMENT
        thread.join(5)
        assert str(ends[0]) == "'logistics' sent 'word' after the end"
        with pytest.raises(PeerFailed, match="logistics failed"):
            spoke.drive(waiting("platform"))


def test_a_hub_that_others_keep_busy_is_called_again(identities: dict[str, Identity]) -> None:
    calls: list[Any] = []

    def busy(_: Any, context: grpc.ServicerContext) -> None:
        calls.append(context)
        context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "")

    with (
        in_place_of_the_hub(identities["platform"], busy) as port,
        Spoke(identities["logistics"], "platform", f"127.0.0.1:{port}") as spoke,
        pytest.raises(NetworkError, match="has too many callers at once"),
    ):
        spoke.open(2)
    assert len(calls) > 1
