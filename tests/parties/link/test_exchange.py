"""What goes well, and errors of protocols: all parties in this process, over real gRPC with mutual TLS."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from parties.certs import Identity
from parties.dial import Spoke
from parties.errors import BudgetError, ConfigError
from parties.hub import Hub
from parties.limits import Limits
from parties.news import REASONS
from protos.rounds import (
    ANY,
    Bind,
    Cancelled,
    LocalProtocolError,
    PeerFailed,
    PeerTimeout,
    Progress,
    Receive,
    RemoteProtocolError,
    Rounds,
    Save,
    Send,
    Traffic,
)
from splitnn.errors import LeakError, TrainingError

Meet = Callable[..., dict[str, Any]]
RUN = bytes(range(32))
MIB = 1 << 20


def say(to: str, *payloads: bytes) -> Rounds[None]:
    for payload in payloads:
        yield Send(to, "word", payload)


def hear(sender: str, times: int = 1, at_most: int = MIB) -> Rounds[list[bytes]]:
    words = []
    for _ in range(times):
        words.append((yield Receive(sender, "word", at_most)))
    return words


def test_every_party_reaches_every_other_before_and_after_bind(meet: Meet) -> None:
    def party(me: str, others: list[str]) -> Rounds[dict[str, bytes]]:
        if me == "platform":
            for _ in others:
                yield Receive(ANY, "hello", 10)
            yield Bind(RUN)
            for other in others:
                yield Send(other, "hellos", b"")
        else:
            yield Send("platform", "hello", b"hi")
            yield Receive("platform", "hellos", 10)
            yield Bind(RUN)
        for other in others:
            yield Send(other, "name", iter([me.encode()[:2], b"", me.encode()[2:]]))
        got = {}
        for _ in others:
            sender, name = yield Receive(ANY, "name", 32)
            got[sender] = name
        return got

    names = ["platform", "logistics", "advertiser"]
    ends = meet({me: party(me, [name for name in names if name != me]) for me in names})
    assert ends == {me: {name: name.encode() for name in names if name != me} for me in names}


def test_two_who_both_send_far_more_than_the_window_first_get_on(meet: Meet) -> None:
    big = bytes(50 * MIB)

    def party(*others: str) -> Rounds[bool]:
        for other in others:
            yield Send(other, "big", (big[at : at + 3 * MIB] for at in range(0, len(big), 3 * MIB)))
        same = True
        for other in others:
            same &= (yield Receive(other, "big", 50 * MIB)) == big
        return same

    limits = Limits(window=MIB, inbox=60 * MIB)
    ends = meet(
        {
            "platform": party("logistics"),
            "logistics": party("platform", "advertiser"),
            "advertiser": party("logistics"),
        },
        limits,
    )
    assert ends == dict.fromkeys(ends, True)
    assert len(ends) == 3


def test_progress_tells_traffic_and_save_hands_over_the_state(meet: Meet) -> None:
    def sender() -> Rounds[int]:
        before = yield Progress("psi", 0, 1)
        yield Send("logistics", "word", bytes(100_000))
        yield Save(7, lambda: b"state")
        after = yield Progress("training", 1, 1)
        return after.sent - before.sent

    seen: list[tuple[Progress, Traffic]] = []
    saved: list[tuple[int, bytes]] = []
    ends = meet(
        {"platform": sender(), "logistics": hear("platform")},
        on_progress=lambda progress, traffic: seen.append((progress, traffic)),
        on_save=lambda step, state: saved.append((step, state)),
    )
    assert 100_000 < ends["platform"] < 100_300
    assert [progress.phase for progress, _ in seen] == ["psi", "training"]
    assert saved == [(7, b"state")]


def test_a_state_that_nobody_keeps_is_not_made(meet: Meet) -> None:
    def party() -> Rounds[str]:
        yield Save(1, lambda: pytest.fail("made"))
        return "done"

    assert meet({"platform": party(), "logistics": hear("x", 0)}) == {"platform": "done", "logistics": []}


def test_who_finishes_first_may_leave_while_others_go_on_through_the_hub(meet: Meet) -> None:
    def hub() -> Rounds[str]:
        yield Receive("logistics", "word", 10)
        return "first"

    def slow() -> Rounds[str]:
        yield Send("platform", "word", b"")
        time.sleep(0.5)
        yield Send("advertiser", "word", b"late")
        return "later"

    ends = meet({"platform": hub(), "logistics": slow(), "advertiser": hear("logistics")})
    assert ends == {"platform": "first", "logistics": "later", "advertiser": [b"late"]}


def test_waiting_for_one_who_has_finished_ends_at_once(meet: Meet) -> None:
    began = time.monotonic()
    ends = meet({"platform": hear("x", 0), "logistics": hear("x", 0), "advertiser": hear("logistics")})
    assert time.monotonic() - began < 5
    assert isinstance(ends["advertiser"], PeerFailed)
    assert ends["advertiser"].peer == "logistics"
    assert "finished without sending 'word'" in str(ends["advertiser"])


@pytest.mark.parametrize("sender", ["platform", "logistics"])
def test_a_message_over_its_bound_is_refused(meet: Meet, sender: str) -> None:
    ends = meet(
        {"platform": say("advertiser", b""), "logistics": say("advertiser", b""), "advertiser": hear("x", 0)}
        | {sender: say("advertiser", bytes(3 * MIB)), "advertiser": hear(sender, at_most=2 * MIB)}
    )
    assert isinstance(ends["advertiser"], RemoteProtocolError)
    assert "over its 2097152 bytes" in str(ends["advertiser"])


def test_another_kind_is_refused_and_the_peer_learns_no_details(meet: Meet) -> None:
    def other() -> Rounds[None]:
        yield Send("platform", "secret-kind", b"")
        yield Receive("platform", "never", 1)

    ends = meet({"platform": hear("logistics"), "logistics": other()})
    assert str(ends["platform"]) == "expected 'word' from 'logistics', got 'secret-kind'"
    assert isinstance(ends["logistics"], PeerFailed)
    assert ends["logistics"].peer == "platform"
    assert "refused a message" in str(ends["logistics"])
    assert "word" not in str(ends["logistics"])


def test_any_skips_who_is_ahead_but_not_when_all_are(meet: Meet) -> None:
    def ahead() -> Rounds[None]:
        yield Send("platform", "first", b"")
        yield Send("platform", "second", b"")

    def late() -> Rounds[None]:
        time.sleep(0.3)
        yield Send("platform", "first", b"")
        yield Send("platform", "other", b"")

    def hub() -> Rounds[None]:
        for _ in range(2):
            yield Receive(ANY, "first", 1)
        yield Receive(ANY, "first", 1)

    ends = meet({"platform": hub(), "logistics": ahead(), "advertiser": late()})
    assert isinstance(ends["platform"], RemoteProtocolError)
    assert "all have gone beyond it" in str(ends["platform"])


def test_a_message_that_nobody_reads_is_an_error(meet: Meet) -> None:
    def deaf() -> Rounds[None]:
        yield Receive("logistics", "word", 10)

    ends = meet({"platform": deaf(), "logistics": say("platform", b"unread", b"read")})
    assert isinstance(ends["platform"], RemoteProtocolError)
    assert "'logistics' sent 'word' after the end" in str(ends["platform"])


def test_an_error_reaches_the_others_with_its_author_and_without_its_text(meet: Meet) -> None:
    cleaned = []

    def broken() -> Rounds[None]:
        yield Progress("training", 0, 1)
        yield Receive("platform", "start", 10)
        yield Receive("advertiser", "start", 10)
        raise ZeroDivisionError("user 4711 has label 1")

    def waiting(sender: str) -> Rounds[None]:
        try:
            yield Progress("training", 0, 1)
            yield Send("logistics", "start", b"")
            yield Receive(sender, "word", 10)
        finally:
            cleaned.append(sender)

    ends = meet({"platform": waiting("advertiser"), "logistics": broken(), "advertiser": waiting("platform")})
    assert isinstance(ends["logistics"], ZeroDivisionError)
    for name in ("platform", "advertiser"):
        error = ends[name]
        assert isinstance(error, PeerFailed)
        assert (error.peer, error.phase) == ("logistics", "training")
        assert error.reason == "it stopped by an error on its side; ask there for the reason"
    assert len(cleaned) == 2


@pytest.mark.parametrize("error", [BudgetError("over"), LeakError("at step 3"), TrainingError("diverged")])
def test_an_end_that_would_come_again_is_told_as_such_and_without_its_text(
    meet: Meet, error: Exception
) -> None:
    def ending() -> Rounds[None]:
        yield Receive("platform", "word", 10)
        raise error

    ends = meet(
        {"platform": say_and_wait("logistics"), "logistics": ending(), "advertiser": hear("logistics")}
    )
    assert ends["logistics"] is error
    for name in ("platform", "advertiser"):
        assert str(ends[name]) == f"logistics failed during handshake: {REASONS['training']}"


def test_an_interrupt_becomes_cancelled_and_the_others_are_told(meet: Meet) -> None:
    def interrupted() -> Rounds[None]:
        yield Receive("logistics", "word", 10)
        raise KeyboardInterrupt

    ends = meet(
        {"platform": interrupted(), "logistics": say_and_wait("platform"), "advertiser": hear("logistics")}
    )
    assert isinstance(ends["platform"], Cancelled)
    for name in ("logistics", "advertiser"):
        assert str(ends[name]) == "platform failed during handshake: it was interrupted on its side"


def say_and_wait(to: str) -> Rounds[None]:
    yield Send(to, "word", b"")
    yield Receive(to, "word", 10)


def test_who_is_alive_but_does_not_get_on_is_named_with_the_phase(meet: Meet) -> None:
    def impatient() -> Rounds[None]:
        yield Progress("psi", 0, 1)
        yield Receive("platform", "word", 10)
        yield Receive("advertiser", "word", 10, within=0.2)

    ends = meet(
        {"platform": say_and_wait("logistics"), "logistics": impatient(), "advertiser": hear("platform")}
    )
    assert isinstance(ends["logistics"], PeerTimeout)
    assert (ends["logistics"].peer, ends["logistics"].phase) == ("advertiser", "psi")
    assert isinstance(ends["platform"], PeerFailed)
    assert ends["platform"].peer == "logistics"


def test_a_protocol_that_goes_on_after_a_failure_is_our_fault(meet: Meet) -> None:
    def stubborn() -> Rounds[None]:
        try:
            yield Receive("logistics", "word", 10, within=0.1)
        except PeerTimeout:
            yield Send("logistics", "word", b"")

    ends = meet({"platform": stubborn(), "logistics": hear("platform")})
    assert isinstance(ends["platform"], LocalProtocolError)


@pytest.mark.parametrize(
    "word", [Send("nobody", "word", b""), Send("logistics", "link/done", b""), Receive("nobody", "word", 1)]
)
def test_a_word_that_makes_no_sense_is_our_fault(meet: Meet, word: Send | Receive) -> None:
    def party() -> Rounds[None]:
        yield word

    assert isinstance(
        meet({"platform": party(), "logistics": hear("platform")})["platform"], LocalProtocolError
    )


def test_plaintext_works_on_loopback_and_nowhere_else(meet: Meet, identities: dict[str, Identity]) -> None:
    ends = meet({"platform": say("logistics", b"hi"), "logistics": hear("platform")}, plaintext=True)
    assert ends["logistics"] == [b"hi"]
    for address in ("0.0.0.0:50051", "[::]:50051", "example.com:50051"):
        with pytest.raises(ConfigError, match="plaintext"):
            Hub(identities["platform"], address, {}, plaintext=True)
        with pytest.raises(ConfigError, match="plaintext"):
            Spoke(identities["logistics"], "platform", address, plaintext=True)


def test_a_link_drives_once(identities: dict[str, Identity], open_hub: Callable[..., Hub]) -> None:
    hub = open_hub()
    assert hub.drive(hear("x", 0)) == []
    with pytest.raises(LocalProtocolError, match="one protocol"):
        hub.drive(hear("x", 0))


def test_limits_report_all_faults_together() -> None:
    with pytest.raises(ConfigError, match=r"window.*inbox.*silence.*away.*progress"):
        Limits(window=1000, inbox=10, silence=1.0, away=0.0, progress=0.5)


def test_a_heavy_generator_is_no_silence(meet: Meet) -> None:
    """Python that never waits lets the heartbeat's thread run all the same."""

    def busy() -> Rounds[int]:
        until, turns = time.monotonic() + 3.6, 0
        while time.monotonic() < until:
            turns += 1
        yield Send("logistics", "word", b"")
        return turns

    ends = meet({"platform": busy(), "logistics": hear("platform")}, Limits(silence=3.0))
    assert ends["logistics"] == [b""]


def test_an_error_in_a_payload_under_way_ends_the_run(meet: Meet) -> None:
    def parts() -> Iterator[bytes]:
        yield bytes(MIB)
        raise OSError("disk")

    def sender() -> Rounds[None]:
        yield Send("logistics", "word", parts())

    ends = meet({"platform": sender(), "logistics": hear("platform", at_most=8 * MIB)})
    assert isinstance(ends["platform"], OSError)
    assert isinstance(ends["logistics"], PeerFailed)
