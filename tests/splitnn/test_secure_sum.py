"""Training on a secure sum: the joined model's bits, what leaves, and what is refused."""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from protos.memory import together
from protos.rounds import (
    LocalProtocolError,
    PeerFailed,
    Receive,
    RemoteProtocolError,
    Resume,
    Round,
    Rounds,
    Save,
    Send,
)
from protos.simulator import Faults, Simulation
from splitnn import crossing_reference
from splitnn.codecs import Share
from splitnn.crossing import Codecs
from splitnn.errors import TrainingError
from splitnn.exact import feature_holder, label_holder, most_bytes_unanswered
from splitnn.fixed_point import FixedPoint
from splitnn.fusion import FUSIONS, Sum
from splitnn.plan import Plan
from splitnn.secure_sum import SECURE_SUM, Hidden, Whole, added
from splitnn.tensors import decode, encode

COLUMNS = [(3, (4,)), (2, (5, 6)), (4, ()), (1, (3,))]
PLAN = Plan(
    b"public",
    cut=4,
    bottom_hidden=(8,),
    top_hidden=(8,),
    batch=32,
    epochs=3,
    dropout=0.3,
    learning_rate=0.01,
    fusion=SECURE_SUM,
    importance="none",
)


@pytest.fixture(scope="module")
def federation(make: Any) -> Any:
    return make.federation(120, COLUMNS)


@settings(deadline=None, max_examples=15)
@given(
    n=st.integers(60, 120),
    parties=st.integers(2, 3),
    fixed=st.sampled_from([FixedPoint(), FixedPoint(0.25, 6), FixedPoint(64.0, 40, 64)]),
    gradients=st.sampled_from(["fp32", "int8"]),
    changes=st.fixed_dictionaries(
        {
            "cut": st.integers(1, 9),
            "batch": st.sampled_from([9, 41]),
            "optimizer": st.sampled_from(["adam", "sgd"]),
        }
    ),
)
def test_parity_with_the_joined_model(
    make: Any, n: int, parties: int, fixed: FixedPoint, gradients: str, changes: dict[str, Any]
) -> None:
    made = make.federation(n, COLUMNS[: parties + 1])
    plan = replace(PLAN, fixed_point=fixed, codec=Codecs(gradients=gradients), **changes)
    make.assert_same(made.split_training(plan).results, made.reference(plan))


def test_the_joined_model_is_that_of_a_plain_sum_of_rounded_activations(
    make: Any, federation: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With `sum` in place of `secure-sum`, every feature holder's activation rounded by itself. No sum is
    rounded in float32 at this format, so only the label holder's own, added last, fixes the order."""
    plan = replace(PLAN, fixed_point=FixedPoint(8.0, 16))
    secure = federation.reference(plan)

    class Last(Sum):
        def forward(self, cut: Tensor) -> Tensor:
            return cut[1:].sum(0) + cut[0]

    def rounded(activation: Tensor) -> Tensor:
        clipped = activation.clamp(-8, 8)
        return clipped + ((clipped.detach() * 65536).round() / 65536 - clipped.detach())

    class Lines(crossing_reference.Lines):
        def at(self, step: int | None, batch: Tensor | None = None, exchange: int = 0) -> Any:
            return lambda cut: [cut[0], *map(rounded, cut[1:])]

    monkeypatch.setitem(FUSIONS, "sum", Last)
    monkeypatch.setattr("splitnn.reference.Lines", Lines)
    plain = federation.reference(replace(plan, fusion="sum"))
    ours, theirs = make.reference_weights(secure), make.reference_weights(plain)
    assert [name for name in ours if not torch.equal(ours[name], theirs[name])] == []
    assert torch.equal(secure.scores, plain.scores)
    measured = [
        {name: epoch[name] for name in epoch if not name.startswith(("norm_", "cosine_"))}
        for epoch in secure.history
    ]
    assert measured == plain.history  # there, nobody measures what leaves


def test_the_label_holder_sees_uniform_words_and_their_sum(federation: Any) -> None:
    said = federation.split_training(PLAN).transcript
    rows = {}
    for one in said:
        if one.kind == "activation":
            rows.setdefault(one.sender, []).append(np.frombuffer(one.payload[24:], "<u4"))
    for words in rows.values():
        every = np.concatenate(words)
        assert np.unique(every).size > 0.999 * every.size
        assert (every >> 31).mean() == pytest.approx(0.5, abs=5 * 0.5 / every.size**0.5)
    bound = 3 * 32 * 2**20
    for shares in zip(*rows.values(), strict=True):
        assert np.abs(added(shares).view("<i4")).max() <= bound
        assert np.abs(added(shares[1:]).view("<i4")).max() > bound


def test_messages_are_as_long_as_those_of_fp32_and_gradients_are_as_ever(federation: Any) -> None:
    def sizes(plan: Plan) -> list[tuple[str, str, str, int]]:
        return [
            (s, r, kind, len(payload)) for s, r, kind, payload in federation.split_training(plan).transcript
        ]

    plain = replace(PLAN, fusion="sum", epochs=1)
    assert sorted(sizes(replace(PLAN, epochs=1))) == sorted(sizes(plain))
    assert most_bytes_unanswered(PLAN, federation.rows) == most_bytes_unanswered(plain, federation.rows)
    wide = replace(PLAN, fixed_point=FixedPoint(32.0, 30, 64))
    assert most_bytes_unanswered(wide, federation.rows) > most_bytes_unanswered(plain, federation.rows)


def test_every_feature_holder_gets_the_same_gradient(federation: Any) -> None:
    gradients: dict[str, list[bytes]] = {}
    for one in federation.split_training(PLAN).transcript:
        if one.kind == "gradient":
            gradients.setdefault(one.receiver, []).append(one.payload)
    first, *others = gradients.values()
    assert others == [first] * 2


def test_a_step_done_again_has_other_pads_and_the_same_result(make: Any, federation: Any) -> None:
    saved: dict[int, dict[str, Resume]] = {}

    def keep(name: str, word: Round) -> None:
        if isinstance(word, Save):
            saved.setdefault(word.step, {})[name] = Resume(word.step, word.state())

    first = together(federation.protocols(PLAN), keep)
    again = together(federation.protocols(PLAN, saved[1], attempt=b"b" * 32))
    make.assert_same(again.results, federation.reference(PLAN))
    kinds = ("activation", "validation", "test")
    earlier = {one.payload for one in first.transcript if one.kind in kinds}
    later = {one.payload for one in again.transcript if one.kind in kinds}
    assert not earlier & later
    assert len(later) == sum(one.kind in kinds for one in again.transcript)


@pytest.mark.parametrize("seed", range(4))
def test_over_lines_that_lose_and_repeat(make: Any, federation: Any, seed: int) -> None:
    """What is sent again is the same bytes: the sum is right, or it would be refused as no possible one."""
    rows, seeds, (hub, *others) = federation.rows, federation.seeds, federation.features
    parties: dict[str, Any] = {
        hub: lambda resume: label_holder(
            PLAN, rows, federation.features[hub], federation.labels, others, seeds[hub], resume
        )
    }
    for name in others:
        parties[name] = partial(holding_features, make, federation, name)
    results = Simulation(parties, hub, seed, Faults(drop=0.03, duplicate=0.1, delay=0.2, cuts=2)).run()
    make.assert_same(results, federation.reference(PLAN))


def holding_features(make: Any, federation: Any, name: str, resume: Resume | None) -> Rounds[Any]:
    hub, *others = federation.features
    return feature_holder(
        PLAN,
        federation.rows,
        federation.features[name],
        hub,
        federation.seeds[name],
        resume,
        masks=make.masks(name, others),
    )


def test_who_drops_out_stops_the_step(federation: Any) -> None:
    """No partial sum is used, no gradient of the step leaves, and nobody is asked for a mask."""
    said: list[tuple[str, Round]] = []

    def leaves(rounds: Rounds[Any]) -> Rounds[Any]:
        answer: Any = None
        sent = 0
        while True:
            word = rounds.send(answer)
            sent += isinstance(word, Send)
            if sent == 3:
                return None
            answer = yield word

    parties = federation.protocols(PLAN)
    parties["p2"] = leaves(parties["p2"])
    with pytest.raises(PeerFailed, match="without 'activation'"):
        together(parties, lambda name, word: said.append((name, word)))
    gradients = [word.to for _, word in said if isinstance(word, Send) and word.kind == "gradient"]
    assert gradients == ["p1", "p2", "p3"] * 2
    assert {word.kind for _, word in said if isinstance(word, Send | Receive)} == {"activation", "gradient"}


def test_a_share_of_another_step_is_refused(make: Any, federation: Any) -> None:
    def changed(word: Send) -> Send:
        if word.kind != "activation":
            return word
        payload = bytearray(word.payload)  # type: ignore[arg-type]
        payload[24:] = bytes(len(payload) - 24)
        return Send(word.to, word.kind, bytes(payload))

    parties = federation.protocols(PLAN)
    parties["p1"] = make.tampered(parties["p1"], changed)
    with pytest.raises(
        RemoteProtocolError, match=r"the sum of activation is beyond 3 x 32: a feature holder's"
    ):
        together(parties)


def test_parties_of_different_attempts_are_noticed(federation: Any) -> None:
    parties = federation.protocols(PLAN)
    parties["p2"] = federation.protocols(PLAN, attempt=b"b" * 32)["p2"]
    with pytest.raises(RemoteProtocolError, match="not of this step"):
        together(parties)


@pytest.mark.parametrize("parties", [1, 2])
def test_with_fewer_than_two_feature_holders_it_is_refused(make: Any, parties: int) -> None:
    made = make.federation(60, COLUMNS[:parties])
    hub, *others = made.features
    rounds = label_holder(PLAN, made.rows, made.features[hub], made.labels, others, made.seeds[hub])
    with pytest.raises(TrainingError, match="at least 2 feature holders"):
        next(rounds)
    if others:
        masks = make.masks("p1", ["p1"])
        rounds = feature_holder(PLAN, made.rows, made.features["p1"], hub, b"s", masks=masks)
        with pytest.raises(TrainingError, match="at least 2 feature holders"):
            next(rounds)


def test_a_sum_without_room_is_refused_before_anything_leaves(make: Any, federation: Any) -> None:
    tight = replace(PLAN, fixed_point=FixedPoint(1.0, 30))
    for rounds in federation.protocols(tight).values():
        with pytest.raises(TrainingError, match=r"3 x 1 x 2\^30 must be below 2\^31"):
            next(rounds)


@pytest.mark.parametrize(
    "change",
    [
        {"schedule": "pipelined"},
        {"schedule": "fedbcd"},
        {"top": "deepfm"},
        {"top": "my.models:Top"},
        {"importance": "parties"},
        {"importance": "columns"},
        {"codec": Codecs("randtopk", keep=2)},
        {"codec": Codecs("int8")},
        {"party_dropout": 0.3},
    ],
    ids=str,
)
def test_what_needs_single_activations_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"^fusion secure-sum needs "):
        replace(PLAN, **change)


def test_without_masks_nothing_leaves(federation: Any) -> None:
    rounds = feature_holder(PLAN, federation.rows, federation.features["p1"], "p0", b"s")
    with pytest.raises(LocalProtocolError, match="without masks"):
        next(rounds)
    with pytest.raises(LocalProtocolError, match="without masks"):
        Hidden(FixedPoint(), 3).share(torch.zeros(2, 2), 1, True)
    with pytest.raises(LocalProtocolError, match="some of the shares"):
        Hidden(FixedPoint(), 3).total([Share(np.zeros((2, 2), "<u4"))] * 2, "activation")


def test_a_model_that_diverges_leaves_nothing(make: Any) -> None:
    hidden = Hidden(FixedPoint(), 2, make.masks("p1", ["p1", "p2"]))
    with pytest.raises(ValueError, match="NaN or infinity"):
        hidden.share(torch.full((1, 1), float("nan")), 1, True)


@settings(deadline=None)
@given(st.integers(1, 5), st.integers(1, 5), st.sampled_from([32, 64]), st.randoms(use_true_random=False))
def test_shares_cross_as_they_are(rows: int, width: int, modulus: int, random: Any) -> None:
    codec = Whole(FixedPoint(modulus=modulus))
    words = np.frombuffer(random.randbytes(rows * width * modulus // 8), codec.fixed.word).reshape(
        rows, width
    )
    payload = encode(Share(words), 9, codec)
    assert (decode(payload, "share", (rows, width), 9, codec).words == words).all()
    for wrong in several_wrong(payload):
        with pytest.raises(RemoteProtocolError, match=r"^share has "):
            decode(wrong, "share", (rows, width), 9, codec)


def several_wrong(payload: bytes) -> Iterator[bytes]:
    yield payload[:-1]
    yield payload + b"\0"
    yield payload[:3] + b"\0" + payload[4:]
