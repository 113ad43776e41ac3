"""What crosses the wire, what is refused, and starting again."""

import inspect
import json
import re
import struct
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from protos.memory import together
from protos.rounds import Receive, RemoteProtocolError, Resume, Round, Save, Send
from splitnn import exact
from splitnn.errors import TrainingError
from splitnn.evaluation import AHEAD
from splitnn.exact import feature_holder, most_bytes_unanswered
from splitnn.plan import Plan
from splitnn.schedule import batches, chunks, steps_an_epoch
from splitnn.schedules import SCHEDULES
from splitnn.tensors import encoded_size

PLAN = Plan(b"public", cut=4, bottom_hidden=(8,), top_hidden=(8,), batch=32, epochs=3, dropout=0.3)
COLUMNS = [(3, (4,)), (2, (5, 6)), (4, ())]


def test_what_crosses_is_what_the_page_says(make: Any) -> None:
    federation = make.federation(200, COLUMNS)
    transcript = federation.split_training(PLAN).transcript
    train, held, tested = (len(part) for part in federation.rows)
    sizes = [32] * (train // 32) + [train % 32]
    activations = [("activation", encoded_size((b, PLAN.cut))) for b in sizes]
    gradients = [("gradient", encoded_size((b, PLAN.cut))) for b in sizes]
    epoch_up = [*activations, ("validation", encoded_size((held, PLAN.cut)))]
    epoch_down = [*gradients, ("scored", 0), ("verdict", 1)]
    for name in ("p1", "p2"):
        up = [(said.kind, len(said.payload)) for said in transcript if said.sender == name]
        down = [(said.kind, len(said.payload)) for said in transcript if said.receiver == name]
        assert up == epoch_up * PLAN.epochs + [("test", encoded_size((tested, PLAN.cut)))]
        assert down == epoch_down * PLAN.epochs + [("scored", 0)]
        assert max(size for _, size in up) <= most_bytes_unanswered(PLAN, federation.rows)
    assert {(said.sender, said.receiver) for said in transcript} == {
        (a, b) for a, b in (("p0", "p1"), ("p0", "p2"), ("p1", "p0"), ("p2", "p0"))
    }


def test_two_chunks_of_a_long_part_wait_unscored_and_never_more(
    make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chunks, "__defaults__", (16,))
    plan, federation = replace(PLAN, epochs=1), make.federation(460, COLUMNS)
    outcome = federation.split_training(plan)
    waiting: list[int] = []
    most = {"chunks": 0, "bytes": 0}
    for said in outcome.transcript:
        if said.sender == "p1" and said.kind in ("validation", "test"):
            waiting.append(len(said.payload))
            most["chunks"], most["bytes"] = (
                max(most["chunks"], len(waiting)),
                max(most["bytes"], sum(waiting)),
            )
        if said.receiver == "p1" and said.kind == "scored":
            del waiting[0]
    assert not waiting
    assert most["chunks"] == AHEAD
    bare = replace(plan, batch=1)  # its batches do not hide the chunks
    assert most["bytes"] == most_bytes_unanswered(bare, federation.rows)
    assert torch.equal(outcome.results["p0"].scores, federation.reference(plan).scores)


@pytest.mark.parametrize("schedule", ["exact", "pipelined"])
def test_an_epoch_that_is_not_judged_says_nothing(make: Any, schedule: str) -> None:
    plan = replace(PLAN, every=2, schedule=schedule, in_flight=1)
    outcome = make.federation(200, COLUMNS).split_training(plan)
    kinds = [said.kind for said in outcome.transcript if "p1" in (said.sender, said.receiver)]
    acknowledged = ["scored"] * (schedule == "exact")
    epoch, judged = ["gradient"] * 4, ["validation", *acknowledged, "verdict"]
    assert [kind for kind in kinds if kind != "activation"] == [
        *(*epoch, *epoch, *judged),
        *(*epoch, *judged),
        *("test", "scored"),
    ]
    history = outcome.results["p0"].history
    assert [[key for key in entry if "leak" not in key] for entry in history] == [
        ["train_loss"],
        ["train_loss", "auc"],
        ["train_loss", "auc"],
    ]


def test_the_peer_is_fed_before_the_own_optimiser_steps(make: Any) -> None:
    federation = make.federation(100, COLUMNS)
    before: dict[str, torch.Tensor] = {}
    parties = federation.protocols(PLAN)
    bottom = {}

    def watch(name: str, word: Round) -> None:
        if name == "p0":
            bottom["p0"] = inspect.getgeneratorlocals(parties["p0"])["bottom"]
            weights = torch.cat([w.detach().flatten() for w in bottom["p0"].parameters()])
            if isinstance(word, Receive):
                before.setdefault("first", weights)
            if isinstance(word, Send) and word.kind == "gradient" and "sent" not in before:
                before["sent"] = weights

    together(parties, watch)
    assert torch.equal(before["first"], before["sent"])


def test_overhead_on_the_wire_is_under_two_percent() -> None:
    assert 2 * encoded_size((1024, 32)) / (2 * 4 * 1024 * 32) <= 1.02


def test_no_label_and_no_score_in_any_message(make: Any) -> None:
    federation = make.federation(200, COLUMNS)
    outcome = federation.split_training(PLAN)
    every = federation.labels
    labels = [
        every.train,
        every.validation,
        every.test,
        *(every.train[b] for b in batches(120, 32, PLAN.seed, 0)),
    ]
    scores = outcome.results["p0"].scores
    patterns = [part.numpy().astype(dtype)[:16] for part in labels for dtype in ("<f4", "<f8", "u1", "<i8")]
    patterns += [scores.numpy().astype(dtype)[:4] for dtype in ("<f4", "<f8")]
    for said in outcome.transcript:
        assert not any(pattern.tobytes() in said.payload for pattern in patterns)


def test_evaluation_goes_in_chunks(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    federation = make.federation(200, COLUMNS)
    whole = federation.split_training(PLAN).results["p0"]
    monkeypatch.setattr("splitnn.schedule.chunks.__defaults__", (7,))
    monkeypatch.setattr(exact, "EVALUATION_ROWS", 7)
    pieces = federation.split_training(PLAN)
    assert sum(said.kind == "test" for said in pieces.transcript) == 2 * steps_an_epoch(40, 7)
    torch.testing.assert_close(pieces.results["p0"].scores, whole.scores)


BAD: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda payload: b"",
    "truncated": lambda payload: payload[:-1],
    "header only": lambda payload: payload[:24],
    "magic": lambda payload: b"XX" + payload[2:],
    "version": lambda payload: payload[:2] + b"\x02" + payload[3:],
    "codec": lambda payload: payload[:3] + b"\x07" + payload[4:],
    "dtype": lambda payload: payload[:4] + b"\x02" + payload[5:],
    "dimensions": lambda payload: payload[:5] + b"\x03" + payload[6:],
    "step": lambda payload: payload[:8] + struct.pack("<Q", 99) + payload[16:],
    "shape": lambda payload: payload[:16] + payload[20:24] + payload[16:20] + payload[24:],
    "NaN": lambda payload: payload[:-4] + struct.pack("<f", np.nan),
    "infinity": lambda payload: payload[:24] + struct.pack("<f", np.inf) + payload[28:],
    "both infinities": lambda payload: payload[:24] + struct.pack("<ff", np.inf, -np.inf) + payload[32:],
    "garbage": lambda payload: bytes(range(256)) * (len(payload) // 256) + b"x" * (len(payload) % 256),
    "longer": lambda payload: payload + b"\0",
}


@pytest.mark.parametrize("fault", BAD)
@pytest.mark.parametrize(
    ("culprit", "kind"), [("p1", "activation"), ("p2", "validation"), ("p0", "gradient")]
)
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_hostile_tensor_is_refused_and_nothing_learned(
    make: Any, fault: str, culprit: str, kind: str, schedule: str
) -> None:
    plan = replace(PLAN, epochs=1, optimizer="sgd", schedule=schedule)
    parties = make.federation(100, COLUMNS).protocols(plan)
    victims = [name for name in parties if name != culprit and "p0" in (name, culprit)]
    seen: dict[str, Any] = {}

    def change(word: Send) -> Send:
        if word.kind != kind:
            return word
        for name in victims:
            module = inspect.getgeneratorlocals(honest[name])["learner"].module
            seen[name] = module, {key: value.clone() for key, value in module.state_dict().items()}
        return replace(word, payload=BAD[fault](bytes(word.payload)))

    honest = dict(parties)
    parties[culprit] = make.tampered(parties[culprit], change)
    with pytest.raises(RemoteProtocolError) as refusal:
        together(parties)
    assert seen.keys() == set(victims)
    assert re.match(f"'?{kind}'? from '{culprit}' (has|holds|is over) [^\n]*$", str(refusal.value))
    for module, weights in seen.values():
        assert all(torch.equal(value, weights[key]) for key, value in module.state_dict().items())


@settings(deadline=None, max_examples=60)
@given(payload=st.binary(max_size=600))
def test_garbage_gives_a_protocol_error_and_nothing_else(make: Any, payload: bytes) -> None:
    federation = make.federation(40, COLUMNS)
    holder = feature_holder(PLAN, federation.rows, federation.features["p1"], "p0", b"seed")
    assert isinstance(holder.send(None), Send)
    assert isinstance(holder.send(None), Receive)
    with pytest.raises(RemoteProtocolError):
        holder.send(payload)


@pytest.mark.parametrize("verdict", [b"", b"\x03", b"\x00", b"\x02", b"\xff"])
def test_an_impossible_first_verdict_is_refused(make: Any, verdict: bytes) -> None:
    parties = make.federation(100, COLUMNS).protocols(PLAN)

    def change(word: Send) -> Send:
        return replace(word, payload=verdict) if word.kind == "verdict" else word

    parties["p0"] = make.tampered(parties["p0"], change)
    with pytest.raises(RemoteProtocolError, match="verdict"):
        together(parties)


@pytest.mark.parametrize("parties", [1, 3])
@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("batch", [32, 60], ids=["within an epoch", "at its end"])
def test_training_that_diverges_ends_with_the_step(
    make: Any, parties: int, schedule: str, batch: int
) -> None:
    """Be it the loss, an activation, a gradient, or, after an epoch's last step, a score."""
    federation = make.federation(100, COLUMNS[:parties])
    plan = replace(PLAN, optimizer="sgd", learning_rate=1e38, schedule=schedule, batch=batch, patience=1)
    where = r"(at step [1-9]\d*(:| )|in evaluation:|a score is not finite:).*"
    for training in (federation.split_training, federation.reference):
        with pytest.raises(TrainingError, match=where + "lower learning_rate in run.toml$"):
            training(plan)


@pytest.mark.parametrize("part", ["validation", "test"])
def test_one_class_to_evaluate_by_is_found_before_any_training(make: Any, part: str) -> None:
    federation = make.federation(100, COLUMNS)
    constant = torch.zeros_like(getattr(federation.labels, part))
    federation = replace(federation, labels=replace(federation.labels, **{part: constant}))
    taken = []
    with pytest.raises(TrainingError, match="one class"):
        together(federation.protocols(PLAN), lambda party, word: taken.append((party, word)))
    assert not [word for party, word in taken if party == "p0"]


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_started_again_at_an_epochs_end_the_result_is_the_same(make: Any, optimizer: str) -> None:
    plan = replace(PLAN, optimizer=optimizer, epochs=60, patience=2, learning_rate=0.1)
    federation = make.federation(150, COLUMNS)
    saves: dict[int, dict[str, Resume]] = {}

    def keep(name: str, word: Round) -> None:
        if isinstance(word, Save):
            saves.setdefault(word.step, {})[name] = Resume(word.step, word.state())

    whole = together(federation.protocols(plan), keep).results
    assert set(saves) == set(range(1, whole["p0"].epochs + 1))
    assert whole["p0"].epochs < 60, "it is to stop early, so that the last save is of a stopped training"
    for epoch in {1, 2, 3, whole["p0"].best_epoch, whole["p0"].epochs - 1, whole["p0"].epochs}:
        saved = saves[epoch]
        resumed = together(federation.protocols(plan, saved)).results
        ours, theirs = make.weights(resumed), make.weights(whole)
        assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
        assert all(resumed[name].history == whole[name].history for name in whole)
        assert torch.equal(resumed["p0"].scores, whole["p0"].scores)
        assert [r.steps for r in resumed.values()] == [r.steps for r in whole.values()]


def test_a_save_of_another_model_or_damaged_is_refused(make: Any) -> None:
    federation = make.federation(100, COLUMNS)
    states: dict[str, bytes] = {}

    def keep(name: str, word: Round) -> None:
        if isinstance(word, Save):
            states[name] = word.state()

    together(federation.protocols(PLAN), keep)
    columns = federation.features["p1"]
    for plan, state in [
        (replace(PLAN, cut=5), states["p1"]),
        (replace(PLAN, optimizer="sgd"), states["p1"]),
        (PLAN, states["p2"]),
        (PLAN, states["p1"][:-1]),
        (PLAN, b""),
    ]:
        holder = feature_holder(plan, federation.rows, columns, "p0", b"seed", Resume(3, state))
        with pytest.raises(TrainingError, match="saved training state"):
            holder.send(None)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("adam.0.exp_avg_sq", None),
        ("adam.0.exp_avg", torch.zeros(1, 7)),
        ("adam.99.step", torch.zeros(())),
        ("best.fc", torch.zeros(2)),
        ("position", {"epoch": "3"}),
        ("position", {"epoch": 999}),
        ("position", {"best_epoch": 2}),
        ("position", {"history": [1]}),
        ("position", {"stopped": 1}),
    ],
)
def test_a_save_from_which_training_cannot_go_on_is_refused(make: Any, name: str, change: Any) -> None:
    """Each would be loaded by torch, and found out in the middle of an epoch, or never."""
    federation = make.federation(100, COLUMNS)
    states: list[bytes] = []

    def keep(party: str, word: Round) -> None:
        if isinstance(word, Save) and party == "p1":
            states.append(word.state())

    together(federation.protocols(PLAN), keep)
    tensors = safetensors.torch.load(states[0])
    assert name in tensors or change is not None
    if isinstance(change, dict):
        position = json.loads(tensors["position"].numpy().tobytes()) | change
        change = torch.frombuffer(bytearray(json.dumps(position).encode()), dtype=torch.uint8)
    tensors.pop(name, None)
    changed = safetensors.torch.save(tensors if change is None else tensors | {name: change})
    holder = feature_holder(
        PLAN, federation.rows, federation.features["p1"], "p0", b"seed", Resume(1, changed)
    )
    with pytest.raises(TrainingError, match="saved training state"):
        holder.send(None)
