"""What each part of a run takes."""

from collections.abc import Iterator

from parties.cost import Cost, Parts, measured
from protos.rounds import Progress, Rounds, Send, Traffic


def phases(*names: str) -> Rounds[str]:
    for name in names:
        yield Progress(name, 0, 0)
        yield Send("hub", "word", b"")
    return "end"


def driven(rounds: Rounds[str], parts: Parts | None = None) -> tuple[str, list[str], dict[str, Cost]]:
    """Ten bytes leave with each message; the result, the phases, the costs."""
    answer, sent, seen = None, 0, list[str]()
    while True:
        try:
            word = rounds.send(answer)
        except StopIteration as stop:
            return stop.value, seen, {} if parts is None else parts.costs()
        answer = None
        if isinstance(word, Progress):
            seen.append(word.phase)
            answer = Traffic(sent, 0)
        else:
            sent += 10


def clock(step: float = 1.0) -> Iterator[float]:
    now = 0.0
    while True:
        yield now
        now += step


def test_a_part_lasts_until_the_next_begins() -> None:
    ticks = clock()
    parts = Parts(lambda: next(ticks))
    names = ("handshake", "terms", "agreed on ecdh", "psi", "training", "evaluation", "importance")
    result, seen, costs = driven(parts.over(phases(*names)), parts)
    assert result == "end"
    assert seen == [*names]
    assert costs == {
        "handshake": Cost(1.0, 10, 0),
        "alignment": Cost(1.0, 30, 0),
        "training": Cost(1.0, 10, 0),
        "evaluation": Cost(1.0, 10, 0),
    }


def test_nothing_was_taken_before_anything_began() -> None:
    assert Parts(lambda: 0.0).costs() == {}


def test_what_is_measured_ends_in_the_phase_that_it_came_to() -> None:
    ticks = clock()
    result, seen, _ = driven(measured("training", phases("training", "evaluation"), lambda: next(ticks)))
    assert result == ("end", Cost(1.0, 20, 0))
    assert seen == ["training", "training", "evaluation", "evaluation"]
