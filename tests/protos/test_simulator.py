"""The simulator itself: harmless faults change nothing, deaths are named, the same seed is the same run."""

import hashlib

import pytest

from protos.rounds import (
    ANY,
    PeerFailed,
    PeerTimeout,
    Progress,
    Receive,
    RemoteProtocolError,
    Resume,
    Rounds,
    RoundsError,
    Save,
    Send,
)
from protos.simulator import Faults, Hang, Simulation

STEPS = 6


def hub(resume: Resume | None, size: int = 300) -> Rounds[bytes]:
    """Mixes what the others say into a running digest, and tells them."""
    state, first = (resume.state, resume.step) if resume else (b"", 0)
    for step in range(first, STEPS):
        yield Progress("mixing", step, STEPS)
        words: dict[str, bytes] = {}
        while len(words) < 2:
            sender, word = yield Receive(ANY, "word", size)
            words[sender] = word
        state = hashlib.sha256(state + words["a"] + words["b"]).digest()
        for name in words:
            yield Send(name, "mixed", state)
        yield Save(step + 1, lambda state=state: state)  # type: ignore[misc]
    return state


def spoke(name: str, other: str, resume: Resume | None, size: int = 300) -> Rounds[bytes]:
    state, first = (resume.state, resume.step) if resume else (b"", 0)
    for step in range(first, STEPS):
        yield Send(other, "aside", name.encode() * 50)
        yield Send("hub", "word", hashlib.shake_256(name.encode() + state).digest(size))
        state = yield Receive("hub", "mixed", 32)
        assert (yield Receive(other, "aside", 100)) == other.encode() * 50
        yield Save(step + 1, lambda state=state: state)  # type: ignore[misc]
    return state


def simulate(seed: int, faults: Faults, size: int = 300) -> dict[str, bytes | Exception]:
    return Simulation(
        {
            "hub": lambda resume: hub(resume, size),
            "a": lambda resume: spoke("a", "b", resume, size),
            "b": lambda resume: spoke("b", "a", resume, size),
        },
        "hub",
        seed,
        faults,
    ).run()


CALM = simulate(0, Faults(delay=0.0))


def test_calm_run_agrees() -> None:
    assert len(set(CALM.values())) == 1


@pytest.mark.parametrize("block", range(8))
def test_correct_or_typed_error(block: int) -> None:
    died = 0
    for seed in range(block * 40, block * 40 + 40):
        faults = Faults.drawn(seed)
        outcome = simulate(seed, faults)
        if faults.restarts or not faults.kills:
            assert outcome == CALM, f"simulate({seed}, Faults.drawn({seed}))"
        elif outcome != CALM:
            died += 1
            assert all(value == CALM["hub"] or isinstance(value, RoundsError) for value in outcome.values())
    assert died < 40


def test_the_same_seed_is_the_same_run() -> None:
    for seed in range(20):
        faults = Faults(drop=0.1, duplicate=0.1, delay=1.0, kills=1, restarts=False)
        one, two = simulate(seed, faults), simulate(seed, faults)
        assert {name: str(value) for name, value in one.items()} == {
            name: str(value) for name, value in two.items()
        }


def test_a_death_is_named_with_its_phase() -> None:
    outcomes = [simulate(seed, Faults(kills=1, restarts=False)) for seed in range(60)]
    failures = [v for o in outcomes for v in o.values() if isinstance(v, PeerFailed)]
    assert any(v.phase == "mixing" and v.peer in ("a", "b") for v in failures)


def test_frames_of_an_earlier_incarnation_are_refused() -> None:
    refused = 0
    for seed in range(30):
        parties = {
            "hub": hub,
            "a": lambda resume: spoke("a", "b", resume),
            "b": lambda resume: spoke("b", "a", resume),
        }
        simulation = Simulation(parties, "hub", seed, Faults(kills=2, delay=5.0))
        assert simulation.run() == CALM
        refused += simulation.refused
    assert refused > 0


def test_large_messages_pass_the_window_both_ways() -> None:
    def swap(other: str) -> Rounds[bytes]:
        yield Send(other, "bulk", (bytes([i]) * 50_000 for i in range(8)))
        bulk: bytes = yield Receive(other, "bulk", 400_000)
        return hashlib.sha256(bulk).digest()

    outcome = Simulation(
        {"hub": lambda _: swap("a"), "a": lambda _: swap("hub")}, "hub", 1, Faults(drop=0.05)
    ).run()
    assert (
        outcome["hub"]
        == outcome["a"]
        == hashlib.sha256(b"".join(bytes([i]) * 50_000 for i in range(8))).digest()
    )


def test_waiting_in_vain_is_a_timeout() -> None:
    def wait() -> Rounds[None]:
        yield Receive("hub", "never", 10, within=5)

    def listen() -> Rounds[None]:
        yield Receive("a", "never", 10, within=50)

    outcome = Simulation({"hub": lambda _: listen(), "a": lambda _: wait()}, "hub", 1, Faults()).run()
    assert isinstance(outcome["a"], PeerTimeout)
    assert isinstance(outcome["hub"], PeerFailed)


def test_messages_after_the_end_are_refused() -> None:
    def speak() -> Rounds[None]:
        yield Send("a", "extra", b"")

    def leave() -> Rounds[None]:
        yield Receive("hub", "extra", 1)
        yield Send("hub", "late", b"")

    outcome = Simulation({"hub": lambda _: speak(), "a": lambda _: leave()}, "hub", 1, Faults()).run()
    assert outcome["a"] is None

    def stays() -> Rounds[None]:
        yield Send("a", "first", b"")
        yield Send("a", "second", b"")

    def impolite() -> Rounds[None]:
        yield Receive("hub", "second", 1)

    outcome = Simulation({"hub": lambda _: stays(), "a": lambda _: impolite()}, "hub", 1, Faults()).run()
    assert isinstance(outcome["a"], RemoteProtocolError)


def test_a_hang_is_never_silent() -> None:
    def wait(other: str) -> Rounds[None]:
        yield Receive(other, "never", 10, within=1e9)

    with pytest.raises(Hang, match="never"):
        Simulation({"hub": lambda _: wait("a"), "a": lambda _: wait("hub")}, "hub", 1, Faults()).run()
