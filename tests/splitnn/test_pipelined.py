"""The pipelined schedule: the weights that it says, at any window; what crosses; starting again."""

from collections import deque
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from protos.memory import together
from protos.rounds import RemoteProtocolError, Resume, Round, Save, Send
from splitnn import window
from splitnn.crossing import Codecs
from splitnn.errors import TrainingError
from splitnn.plan import Plan
from splitnn.window import Window, most_bytes_unanswered

PLAN = Plan(
    b"public",
    cut=4,
    bottom_hidden=(8,),
    top_hidden=(8,),
    batch=16,
    epochs=3,
    dropout=0.3,
    learning_rate=0.01,
    schedule="pipelined",
    in_flight=3,
)
COLUMNS = [(3, (4,)), (2, (5, 6)), (4, ())]


@settings(deadline=None, max_examples=40)
@given(
    n=st.integers(30, 150),
    parties=st.integers(1, 3),
    in_flight=st.integers(1, 12),
    batch=st.integers(3, 60),
    epochs=st.integers(1, 4),
    dropout=st.sampled_from([0.0, 0.5]),
    optimizer=st.sampled_from(["adam", "sgd"]),
    patience=st.integers(1, 3),
    codec=st.sampled_from(
        [Codecs(), Codecs("bf16", "int8"), Codecs("int8", "bf16"), Codecs("randtopk", "int8", keep=2)]
    ),
    learning_rate=st.sampled_from([0.01, 0.2]),
)
def test_split_equals_one_process_at_any_window(make: Any, n: int, parties: int, **changes: Any) -> None:
    plan, federation = replace(PLAN, **changes), make.federation(n, COLUMNS[:parties])
    try:
        reference = federation.reference(plan)
    except TrainingError:  # steep, and many steps late: it diverges, and must at both
        with pytest.raises(TrainingError):
            federation.split_training(plan)
    else:
        make.assert_same(federation.split_training(plan).results, reference)


@pytest.mark.parametrize("codec", [Codecs(), Codecs("randtopk", "int8", keep=2)])
@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_a_window_of_one_is_the_exact_schedule(make: Any, optimizer: str, codec: Codecs) -> None:
    plan = replace(
        PLAN, codec=codec, in_flight=1, optimizer=optimizer, epochs=40, patience=2, learning_rate=0.1
    )
    federation = make.federation(200, COLUMNS)
    exact = federation.reference(replace(plan, schedule="exact"))
    assert exact.epochs < 40, "it is to stop early"
    make.assert_same(federation.split_training(plan).results, exact)
    make.assert_same(federation.split_training(plan).results, federation.reference(plan))


def test_a_wider_window_trains_other_weights(make: Any) -> None:
    federation = make.federation(200, COLUMNS)
    exact = federation.reference(replace(PLAN, schedule="exact"))
    assert federation.reference(PLAN).history != exact.history


def test_who_is_faster_does_not_matter(make: Any) -> None:
    federation = make.federation(150, COLUMNS)
    parties = federation.protocols(PLAN)
    one = make.weights(together(parties).results)
    parties = federation.protocols(PLAN)
    other = make.weights(together(dict(reversed(parties.items()))).results)
    assert all(torch.equal(one[name], other[name]) for name in other)


def test_the_window_is_full_and_never_fuller(make: Any) -> None:
    federation = make.federation(200, COLUMNS)
    waiting: dict[str, deque[int]] = {kind: deque() for kind in ("activation", "validation", "test")}
    answered = {"gradient": "activation", "verdict": "validation", "scored": "test"}
    most, most_bytes = 0, 0
    for said in together(federation.protocols(PLAN)).transcript:
        if said.sender == "p1":
            waiting[said.kind].append(len(said.payload))
            most = max(most, len(waiting["activation"]))
            most_bytes = max(most_bytes, sum(map(sum, waiting.values())))
        if said.receiver == "p1":
            waiting[answered[said.kind]].popleft()
    assert not any(waiting.values())
    assert most == PLAN.in_flight
    assert most_bytes == most_bytes_unanswered(PLAN, federation.rows)


def test_what_is_under_way_at_an_early_stop_is_thrown_away(make: Any) -> None:
    plan = replace(PLAN, epochs=40, patience=2, learning_rate=0.1)
    federation = make.federation(200, COLUMNS)
    outcome = together(federation.protocols(plan))
    hub, epoch_steps = outcome.results["p0"], Window.of(plan, federation.rows).epoch_steps
    assert hub.epochs < 40, "it is to stop early"
    said = [said.kind for said in outcome.transcript if "p1" in (said.sender, said.receiver)]
    assert hub.steps == said.count("gradient") == hub.epochs * epoch_steps + plan.in_flight - 1
    assert said.count("activation") == hub.steps + plan.in_flight


def test_the_window_is_at_most_an_epoch(make: Any) -> None:
    federation = make.federation(100, COLUMNS)
    assert Window.of(replace(PLAN, in_flight=50), federation.rows).in_flight == 4
    joined = [federation.reference(replace(PLAN, in_flight=width)).history for width in (4, 50)]
    assert joined[0] == joined[1]


@pytest.mark.parametrize("in_flight", [1, 3, 8])
def test_started_again_after_a_verdict_the_result_is_the_same(make: Any, in_flight: int) -> None:
    plan = replace(PLAN, in_flight=in_flight, epochs=40, patience=2, learning_rate=0.1)
    federation = make.federation(150, COLUMNS)
    saves: dict[int, dict[str, Resume]] = {}

    def keep(name: str, word: Round) -> None:
        if isinstance(word, Save):
            saves.setdefault(word.step, {})[name] = Resume(word.step, word.state())

    whole = together(federation.protocols(plan), keep).results
    assert set(saves) == set(range(1, whole["p0"].epochs + 1))
    assert whole["p0"].epochs < 40, "it is to stop early"
    for saved in saves.values():
        resumed = together(federation.protocols(plan, saved)).results
        ours, theirs = make.weights(resumed), make.weights(whole)
        assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
        assert all(resumed[name].history == whole[name].history for name in whole)
        assert [r.steps for r in resumed.values()] == [r.steps for r in whole.values()]


def test_another_schedules_save_is_refused(make: Any) -> None:
    federation = make.federation(100, COLUMNS)
    states: dict[str, bytes] = {}

    def keep(name: str, word: Round) -> None:
        if isinstance(word, Save):
            states[name] = word.state()

    together(federation.protocols(replace(PLAN, schedule="exact")), keep)
    for name, state in [("p0", states["p0"]), ("p1", states["p1"]), ("p1", b""), ("p1", states["p1"][:-1])]:
        with pytest.raises(TrainingError, match="saved training state"):
            federation.protocols(PLAN, {name: Resume(3, state)})[name].send(None)


@pytest.mark.parametrize(
    ("culprit", "kind"), [("p1", "activation"), ("p2", "validation"), ("p0", "gradient")]
)
def test_a_message_of_another_step_is_refused(make: Any, culprit: str, kind: str) -> None:
    parties = make.federation(100, COLUMNS).protocols(PLAN)

    def change(word: Send) -> Send:
        payload = bytes(word.payload)
        return replace(word, payload=payload[:8] + b"\x63" + payload[9:]) if word.kind == kind else word

    parties[culprit] = make.tampered(parties[culprit], change)
    with pytest.raises(RemoteProtocolError, match=f"{kind}.*{culprit}"):
        together(parties)


@pytest.mark.parametrize("verdict", [b"\x00", b"\x02", b"\x07", b""])
def test_an_impossible_first_verdict_is_refused(make: Any, verdict: bytes) -> None:
    parties = make.federation(100, COLUMNS).protocols(PLAN)
    parties["p0"] = make.tampered(
        parties["p0"], lambda word: replace(word, payload=verdict) if word.kind == "verdict" else word
    )
    with pytest.raises(RemoteProtocolError, match="verdict"):
        together(parties)


def test_too_much_to_wait_is_refused_before_training(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    federation = make.federation(100, COLUMNS)
    monkeypatch.setattr(window, "MOST_UNANSWERED", most_bytes_unanswered(PLAN, federation.rows) - 1)
    for rounds in federation.protocols(PLAN).values():
        with pytest.raises(TrainingError, match="in_flight"):
            rounds.send(None)
