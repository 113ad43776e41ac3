"""Lines that break under a running protocol: it does not notice, or ends within the deadline by name."""

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import replace
from typing import Any

import grpc
import pytest

from benchmarks.emulated_line import EmulatedLine
from parties.certs import Identity
from parties.dial import Spoke
from parties.errors import NetworkError
from parties.hub import Hub
from parties.limits import Limits
from parties.wire import Wire
from protos.party_pb2 import Frame
from protos.rounds import (
    Bind,
    PeerFailed,
    PeerRestarted,
    Progress,
    Receive,
    Round,
    Rounds,
    RoundsError,
    Send,
    mapped,
)
from tests.parties.link.raw import RawClient, frame, greeting, left
from tests.splitnn.conftest import Federation, Make
from tests.splitnn.test_secure_sum import PLAN

RUN = bytes(range(32))
MIB = 1 << 20
BRIEF = Limits(silence=3.0, away=1.5, progress=60.0)


class Meeting:
    """Hub and feature holders, each of these on an emulated line of its own."""

    def __init__(
        self, stack: ExitStack, hub: Hub, identities: dict[str, Identity], names: list[str], limits: Limits
    ) -> None:
        self.hub, self.names = hub, names
        self.lines = {name: stack.enter_context(EmulatedLine(hub.port)) for name in names}
        self.said: list[str] = []
        self.links: dict[str, Hub | Spoke] = {"platform": hub}
        self.ends: dict[str, Any] = {}
        self.threads: list[threading.Thread] = []
        for name in names:
            others = [other for other in names if other != name]
            address = f"127.0.0.1:{self.lines[name].port}"
            spoke = Spoke(identities[name], "platform", address, others, limits, say=self.said.append)
            spoke.open(10)
            self.links[name] = spoke
        hub.wait_for_peers(5)

    def drive(self, name: str, rounds: Rounds[Any]) -> None:
        def run() -> None:
            with self.links[name] as link:
                try:
                    self.ends[name] = link.drive(rounds)
                except RoundsError as error:
                    self.ends[name] = error

        self.threads.append(threading.Thread(target=run, daemon=True))
        self.threads[-1].start()

    def wait(self, within: float = 30.0) -> dict[str, Any]:
        until = time.monotonic() + within
        for thread in self.threads:
            thread.join(max(until - time.monotonic(), 0.0))
        assert not any(thread.is_alive() for thread in self.threads), self.ends
        return self.ends


@pytest.fixture
def between(identities: dict[str, Identity], open_hub: Callable[..., Hub]) -> Any:
    with ExitStack() as stack:

        def make(*names: str, limits: Limits = BRIEF) -> Meeting:
            return Meeting(stack, open_hub(*names, limits=limits), identities, [*names], limits)

        yield make


def gossip(me: str, others: list[str], times: int, size: int, pause: float = 0.0) -> Rounds[list[bytes]]:
    """All talk with all, in lockstep, each message with its number."""
    yield Progress("training", 0, times)
    heard = []
    for number in range(times):
        for other in others:
            yield Send(other, "word", f"{me} {number} ".encode() + bytes(size))
        for other in others:
            heard.append((yield Receive(other, "word", size + 99)).rstrip(b"\0"))
        time.sleep(pause)
    return heard


def expected(others: list[str], times: int) -> list[bytes]:
    return [f"{other} {number} ".encode() for number in range(times) for other in others]


def test_cut_after_cut_each_message_comes_once_and_in_order(between: Callable[..., Meeting]) -> None:
    names = ["logistics", "advertiser"]
    made = between(*names, limits=Limits(window=MIB, away=20.0))
    everyone = ["platform", *names]
    for me in everyone:
        made.drive(me, gossip(me, [one for one in everyone if one != me], 30, 100_000, pause=0.05))
    draw = random.Random(1)
    cuts = 0
    while any(thread.is_alive() for thread in made.threads) and cuts < 8:
        time.sleep(draw.uniform(0.1, 0.4))
        made.lines[draw.choice(names)].cut()
        cuts += 1
    assert made.wait() == {me: expected([one for one in everyone if one != me], 30) for me in everyone}
    assert cuts > 3


def test_a_share_of_a_secure_sum_is_sent_again_as_it_was(
    between: Callable[..., Meeting], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another one under the same pad, beside the first, would tell their difference."""
    names, plan = ["logistics", "advertiser"], replace(PLAN, epochs=1)
    parties = ["platform", *names]
    plain = Make.federation(120, [(3, (4,)), (2, ()), (2, (5,))])
    features = dict(zip(parties, plain.features.values(), strict=True))
    training = Federation(features, plain.rows, plain.labels, {name: name.encode() for name in parties})
    written: dict[tuple[str, int], list[bytes]] = {}

    def outgoing(wire: Wire, original: Callable[[Wire], Iterator[bytes]] = Wire.outgoing) -> Iterator[bytes]:
        for data in original(wire):
            frame = Frame.FromString(data)
            if frame.kind == "activation":
                written.setdefault((frame.sender, frame.sequence), []).append(frame.payload)
            yield data

    def losing(name: str, rounds: Rounds[Any], line: EmulatedLine) -> Rounds[Any]:
        """The second share is on the line when that is cut."""
        shares = 0

        def each(word: Round) -> Rounds[Any]:
            nonlocal shares
            share = isinstance(word, Send) and word.kind == "activation"
            shares += share
            if not share or shares != 2:
                return (yield word)
            line.fail(noticed=False)
            answer = yield word
            while sum(sender == name for sender, _ in [*written]) < shares:
                time.sleep(0.01)  # until it is written
            line.cut()
            line.mend()
            return answer

        return mapped(rounds, each)

    monkeypatch.setattr(Wire, "outgoing", outgoing)
    made = between(*names, limits=Limits(silence=3.0, away=20.0, progress=60.0))
    protocols = training.protocols(plan)
    made.drive("platform", protocols["platform"])
    for name in names:
        made.drive(name, losing(name, protocols[name], made.lines[name]))
    ends = made.wait()
    again = [copies for copies in written.values() if len(copies) > 1]
    assert len(again) >= len(names)
    assert all(copies == copies[:1] * len(copies) for copies in again)
    Make.assert_same(ends, training.reference(plan))


def test_who_is_cut_off_too_long_is_named_by_all(between: Callable[..., Meeting]) -> None:
    made = between("logistics", "advertiser")
    everyone = ["platform", "logistics", "advertiser"]
    for me in everyone:
        made.drive(me, gossip(me, [one for one in everyone if one != me], 10_000, 10, pause=0.01))
    time.sleep(0.3)
    made.lines["logistics"].fail(noticed=True)
    began = time.monotonic()
    ends = made.wait(15)
    assert time.monotonic() - began < 8
    for name, peer in (("platform", "logistics"), ("advertiser", "logistics"), ("logistics", "platform")):
        assert type(ends[name]) is PeerFailed
        assert (ends[name].peer, ends[name].phase) == (peer, "training")
        assert "did not come back" in str(ends[name])
    assert "see its own output" in str(ends["platform"])
    assert "127.0.0.1" in str(ends["logistics"])


@pytest.mark.slow
def test_a_line_that_stands_still_is_noticed_and_resumed(between: Callable[..., Meeting]) -> None:
    made = between("logistics", limits=Limits(silence=3.0, away=20.0))
    for me, other in (("platform", "logistics"), ("logistics", "platform")):
        made.drive(me, gossip(me, [other], 50, 10, pause=0.01))
    made.lines["logistics"].fail(noticed=False)
    time.sleep(5)
    made.lines["logistics"].cut()
    made.lines["logistics"].mend()
    ends = made.wait(25)
    assert ends == {"platform": expected(["logistics"], 50), "logistics": expected(["platform"], 50)}
    assert made.said == ["platform is away; waiting up to 20 s", "platform is back"]


@pytest.mark.parametrize("last", ["logistics", "platform"])
def test_a_cut_at_the_very_end_leaves_nobody_in_doubt(between: Callable[..., Meeting], last: str) -> None:
    """If the very last acknowledgement is lost, and with it the hub is gone, that takes all of `away`."""
    made = between("logistics", limits=Limits(silence=3.0, away=4.0))

    def end(me: str, other: str) -> Rounds[str]:
        if me == last:
            yield Receive(other, "word", 10)
            made.lines["logistics"].fail(noticed=True)
            time.sleep(0.3)
        else:
            yield Send(other, "word", b"")
        return "done"

    made.drive("platform", end("platform", "logistics"))
    made.drive("logistics", end("logistics", "platform"))
    time.sleep(1.0)
    made.lines["logistics"].mend()
    assert made.wait(20) == {"platform": "done", "logistics": "done"}


def test_what_waits_for_a_party_that_is_away_is_bounded(between: Callable[..., Meeting]) -> None:
    made = between("logistics", "advertiser", limits=Limits(window=MIB, away=30.0))
    line, hub = made.lines["advertiser"], made.hub

    def sender() -> Rounds[str]:
        yield Progress("training", 0, 1)
        line.fail(noticed=True)
        for _ in range(8):
            yield Send("advertiser", "word", bytes(MIB))
        return "sent"

    def receiver() -> Rounds[int]:
        total = 0
        for _ in range(8):
            total += len((yield Receive("logistics", "word", MIB)))
        return total

    def hub_part() -> Rounds[str]:
        yield Progress("training", 0, 1)
        return "ready"

    made.drive("platform", hub_part())
    made.drive("logistics", sender())
    made.drive("advertiser", receiver())
    time.sleep(1.0)
    with hub._changed:
        waiting = sum(len(one.payload) for one in hub._relayed.waiting["advertiser"]["logistics"])
        held = hub._wires["advertiser"].line.unacknowledged_bytes
    assert waiting <= 2 * MIB
    assert held <= 2 * MIB
    assert "logistics" not in made.ends, "its window is full"
    line.mend()
    assert made.wait(20) == {"platform": "ready", "logistics": "sent", "advertiser": 8 * MIB}


def test_who_was_started_anew_is_named_by_all(
    between: Callable[..., Meeting], identities: dict[str, Identity]
) -> None:
    made = between("logistics", "advertiser", limits=Limits(silence=3.0, away=30.0))
    for me, other in (("platform", "logistics"), ("advertiser", "platform")):
        made.drive(me, gossip(me, [other], 1, 10))
    made.lines["logistics"].fail(noticed=True)  # the process is gone, and another one comes
    while made.hub._wires["logistics"].open:
        time.sleep(0.01)
    with Spoke(identities["logistics"], "platform", f"127.0.0.1:{made.hub.port}", ["advertiser"]) as another:

        def come() -> None:
            with suppress(NetworkError):  # it is told to come again
                another.open(1.5)

        threading.Thread(target=come, daemon=True).start()
        for thread in made.threads:
            thread.join(5)
    for name in ("platform", "advertiser"):
        assert isinstance(made.ends[name], PeerRestarted)
        assert made.ends[name].peer == "logistics"
    made.links["logistics"].close()


def test_a_hub_that_was_started_anew_is_named(
    between: Callable[..., Meeting], identities: dict[str, Identity], open_hub: Callable[..., Hub]
) -> None:
    made = between("logistics", limits=Limits(silence=3.0, away=30.0))
    made.drive("logistics", gossip("logistics", ["platform"], 1, 10))
    made.lines["logistics"].target = open_hub("logistics").port
    made.lines["logistics"].cut()
    ends = made.wait(10)
    assert isinstance(ends["logistics"], PeerRestarted)
    assert (ends["logistics"].peer, ends["logistics"].phase) == ("platform", "training")


def test_a_heartbeat_outlives_the_terminal(between: Callable[..., Meeting]) -> None:
    made = between("logistics", limits=Limits(silence=3.0, away=30.0))

    def broken(line: str) -> None:
        raise BrokenPipeError

    made.hub._say = broken
    for me, other in (("platform", "logistics"), ("logistics", "platform")):
        made.drive(me, gossip(me, [other], 100, 10, pause=0.02))
    time.sleep(0.5)
    made.lines["logistics"].cut()
    assert made.wait(20)["platform"] == expected(["logistics"], 100)


# ---- numbers and newcomers, frame by frame ---------------------------------------------------------------


def words(times: int) -> Rounds[list[bytes]]:
    heard = []
    for _ in range(times):
        heard.append((yield Receive("logistics", "word", 10)))
    return heard


def driven(hub: Hub, rounds: Rounds[Any], into: dict[str, Any]) -> threading.Thread:
    def run() -> None:
        try:
            into["platform"] = hub.drive(rounds)
        except RoundsError as error:
            into["platform"] = error

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread


def test_the_newest_stream_with_the_right_numbers_replaces_the_older(
    open_hub: Callable[..., Hub], raw: Callable[..., RawClient]
) -> None:
    hub = open_hub("logistics")
    first = raw(hub).greet().send(frame(1, payload=b"one"), frame(2, payload=b"two"))
    hub.wait_for_peers(5)
    ends: dict[str, Any] = {}
    thread = driven(hub, words(3), ends)
    second = raw(hub).greet(greeting(**first.numbers))
    assert second.numbers == first.numbers
    assert first.end()[0] in (grpc.StatusCode.CANCELLED, grpc.StatusCode.OK)
    second.send(frame(2, payload=b"two"), frame(3, payload=b"three"))
    thread.join(5)
    assert ends == {"platform": [b"one", b"two", b"three"]}
    left(hub, second.send(frame(4, kind="link/done", payload=b"logistics")))


@pytest.mark.parametrize(
    ("first", "code"),
    [
        (greeting(incarnation=99), grpc.StatusCode.ABORTED),
        (greeting(session=8), grpc.StatusCode.ALREADY_EXISTS),
        (greeting(session=0), grpc.StatusCode.INVALID_ARGUMENT),
        (greeting(acknowledgement=5), grpc.StatusCode.INVALID_ARGUMENT),
        (frame(1, session=7), grpc.StatusCode.INVALID_ARGUMENT),
    ],
)
def test_a_stream_with_other_numbers_is_refused_and_the_run_goes_on(
    open_hub: Callable[..., Hub], raw: Callable[..., RawClient], first: Any, code: grpc.StatusCode
) -> None:
    hub = open_hub("logistics")
    client = raw(hub).greet().send(frame(1, payload=b"one"))
    hub.wait_for_peers(5)
    ends: dict[str, Any] = {}
    thread = driven(hub, words(2), ends)
    assert raw(hub).put(first).end()[0] == code
    client.send(frame(2, payload=b"two"))
    thread.join(5)
    assert ends == {"platform": [b"one", b"two"]}
    left(hub, client.send(frame(3, kind="link/done", payload=b"logistics")))


def test_frames_of_another_run_are_refused_after_a_resume_too(
    open_hub: Callable[..., Hub], raw: Callable[..., RawClient]
) -> None:
    def bound() -> Rounds[None]:
        yield Receive("logistics", "word", 10)
        yield Bind(RUN)
        client = raw(hub).greet(greeting(**first.numbers))
        client.send(frame(1), frame(2, run=bytes(32)))
        yield Receive("logistics", "word", 10)

    hub = open_hub("logistics")
    first = raw(hub).greet().send(frame(1))
    hub.wait_for_peers(5)
    with pytest.raises(RoundsError, match="a frame of another run from 'logistics'"):
        hub.drive(bound())
