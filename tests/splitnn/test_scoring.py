"""Scoring by a trained model: the numbers of an evaluation, whatever was kept of an earlier attempt."""

import struct
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from protos.memory import Said, together
from protos.rounds import RemoteProtocolError, Round, Rounds, RoundsError, Save, Send, mapped
from protos.simulator import Faults, Simulation
from splitnn import scoring
from splitnn.crossing import Codecs, to_feature_holders, to_hub
from splitnn.embedding_dp import EmbeddingDP
from splitnn.models import top_model
from splitnn.plan import Plan
from splitnn.scoring import (
    Rows,
    be_scored,
    blocks,
    logits_of,
    score,
    score_alone,
    score_present,
    scores_alone,
)

PLAN = Plan(b"public", cut=4, bottom_hidden=(8,), top_hidden=(8,), batch=32, epochs=1, importance="none")
COLUMNS = [(3, (4,)), (2, (5, 6)), (1, ())]
PLANS = {
    "plain": PLAN,
    "secure sum": replace(PLAN, fusion="secure-sum"),
    "int8": replace(PLAN, codec=Codecs("int8", "int8")),
    "randtopk": replace(PLAN, codec=Codecs("randtopk", keep=2)),
    "clipped": replace(PLAN, embedding=EmbeddingDP(0.5)),
    "party dropout": replace(PLAN, party_dropout=0.3),
    "pipelined": replace(PLAN, schedule="pipelined", in_flight=2),
}


@dataclass
class Trained:
    """A federation with the models that it has trained. part: places of the entities to score."""

    plan: Plan
    federation: Any
    results: dict[str, Any]
    part: Tensor

    def parties(
        self, repeats: int = 1, kept: int = 0, at_a_time: int = 1000, attempt: bytes = b"b" * 32
    ) -> dict[str, Rounds[Any]]:
        """repeats: rows that the label holder has of each entity, alike but for their order."""
        hub, *others = self.federation.features
        features, seeds = self.federation.features, self.federation.seeds

        def rows(chunk: range) -> Iterator[Rows]:
            of = torch.arange(len(chunk)).repeat_interleave(repeats)
            for some in of.split(at_a_time):
                yield Rows(features[hub].batch(self.part[chunk.start + some]), some)

        def columns(name: str, chunk: range) -> Any:
            return features[name].batch(self.part[chunk.start : chunk.stop])

        model, count = self.results[hub], len(self.part)
        crossings = to_feature_holders(self.plan, others, seeds[hub])
        parties: dict[str, Rounds[Any]] = {hub: score(crossings, model.bottom, model.top, count, rows, kept)}
        for name in others:
            masks = self.federation_masks(name, others, attempt) if self.plan.fusion == "secure-sum" else None
            crossing = to_hub(self.plan, hub, seeds[name], masks)
            own = partial(columns, name)
            parties[name] = be_scored(crossing, hub, self.results[name].bottom, count, own)
        return parties

    federation_masks: Callable[..., Any]

    def logits(self, **options: Any) -> tuple[dict[int, Tensor], list[Said]]:
        """By the number of its block, and what crossed."""
        found: dict[int, Tensor] = {}
        outcome = together(self.parties(**options), partial(keep, found))
        return found, outcome.transcript


def keep(found: dict[int, Tensor], name: str, word: Round) -> None:
    if isinstance(word, Save):
        found[word.step] = logits_of(word.state())


@pytest.fixture(scope="module")
def trained(make: Any) -> Callable[[str], Trained]:
    made: dict[str, Trained] = {}

    def train(which: str) -> Trained:
        if which not in made:
            federation = make.federation(200, COLUMNS)
            results = federation.split_training(PLANS[which]).results
            made[which] = Trained(PLANS[which], federation, results, federation.rows.test, make.masks)
        return made[which]

    return train


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks of 5 entities, blocks of 10."""
    monkeypatch.setattr(scoring, "EVALUATION_ROWS", 5)
    monkeypatch.setattr(scoring, "BLOCK", 10)


@pytest.mark.parametrize("which", PLANS)
def test_a_score_is_that_of_the_evaluation(trained: Callable[[str], Trained], which: str) -> None:
    """Of the same rows in the same chunks to the bit, although no training is under way any more."""
    model = trained(which)
    found, _ = model.logits()
    assert [*found] == [1]
    assert torch.equal(found[1], model.results["p0"].logits)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    which=st.sampled_from(["plain", "secure sum", "int8"]),
    repeats=st.integers(1, 3),
    kept=st.integers(0, 4),
    at_a_time=st.integers(1, 12),
)
def test_what_is_kept_is_not_scored_again(
    trained: Callable[[str], Trained], small: None, which: str, repeats: int, kept: int, at_a_time: int
) -> None:
    model = trained(which)
    found, transcript = model.logits(repeats=repeats, kept=kept, at_a_time=at_a_time)
    assert [*found] == [*range(kept + 1, 5)]
    expected = model.results["p0"].logits.repeat_interleave(repeats, 0)
    for block, logits in found.items():
        tolerance = {"atol": 1e-6, "rtol": 1e-5} if which != "int8" else {"atol": 1e-5, "rtol": 1e-4}
        torch.testing.assert_close(logits, expected[10 * repeats * (block - 1) :][: len(logits)], **tolerance)
    assert sum(map(len, found.values())) == (40 - 10 * kept) * repeats
    for name in ("p1", "p2"):
        told = [(said.kind, len(said.payload)) for said in transcript if said.receiver == name]
        assert told == [("kept blocks", 4), *[("scored", 0)] * (2 * (4 - kept))]
        sent = [said for said in transcript if said.sender == name]
        assert [said.kind for said in sent] == ["prediction"] * (2 * (4 - kept))


def test_nothing_to_score(trained: Callable[[str], Trained]) -> None:
    model = replace(trained("plain"), part=torch.zeros(0, dtype=torch.int64))
    found, transcript = model.logits()
    assert (found, [said.kind for said in transcript]) == ({}, ["kept blocks"] * 2)


@pytest.mark.parametrize("payload", [b"", b"\0" * 3, b"\0" * 4 + b"x", struct.pack("<I", 2), b"\xff" * 4])
def test_an_impossible_number_of_kept_blocks_is_refused(
    make: Any, trained: Callable[[str], Trained], payload: bytes
) -> None:
    model = trained("plain")
    parties = model.parties()
    parties["p0"] = make.tampered(parties["p0"], lambda word: replace(word, payload=payload))
    with pytest.raises(RemoteProtocolError, match=r"kept blocks|p0 has kept other blocks than some of 1$"):
        together(parties)


BAD: dict[str, Callable[[bytes], bytes]] = {
    "wider": lambda payload: payload[:20] + struct.pack("<I", 5) + payload[24:] + bytes(4 * 40),
    "NaN": lambda payload: payload[:-4] + struct.pack("<f", float("nan")),
    "infinite": lambda payload: payload[:-4] + struct.pack("<f", float("inf")),
    "of another exchange": lambda payload: payload[:8] + struct.pack("<Q", 2) + payload[16:],
    "empty": lambda payload: b"",
}


@pytest.mark.parametrize("fault", BAD)
def test_a_hostile_activation_is_refused_and_nothing_kept(
    make: Any, trained: Callable[[str], Trained], fault: str
) -> None:
    parties, found = trained("plain").parties(), dict[int, Tensor]()

    def change(word: Send) -> Send:
        assert isinstance(word.payload, bytes)
        return replace(word, payload=BAD[fault](word.payload)) if word.kind == "prediction" else word

    parties["p1"] = make.tampered(parties["p1"], change)
    with pytest.raises(RemoteProtocolError, match="'p1'"):
        together(parties, partial(keep, found))
    assert not found


def test_the_same_scores_under_faults(trained: Callable[[str], Trained], small: None) -> None:
    """A party that is killed begins again, and so do all; or a typed error."""
    model = trained("plain")
    expected, _ = model.logits()
    failed = 0
    for seed in range(20):
        found: dict[int, Tensor] = {}

        def of(name: str, found: dict[int, Tensor], resume: Any) -> Rounds[Any]:
            def each(word: Round) -> Generator[Round, Any, Any]:
                if isinstance(word, Save):
                    return keep(found, name, word)
                return (yield word)

            return mapped(model.parties()[name], each)

        parties = {name: partial(of, name, found) for name in model.results}
        faults = Faults(drop=0.05, duplicate=0.1, delay=0.2, cuts=2, kills=seed % 2, restarts=seed % 4 == 1)
        ends = Simulation(parties, "p0", seed, faults).run()
        errors = [end for end in ends.values() if isinstance(end, Exception)]
        assert all(isinstance(error, RoundsError) for error in errors)
        failed += bool(errors)
        if not errors:
            assert all(torch.equal(found[block], expected[block]) for block in expected)
    assert 0 < failed < 10


def test_alone_by_what_the_top_has_learned_to_put_in_their_place(trained: Callable[[str], Trained]) -> None:
    model = trained("party dropout")
    hub, columns = model.results["p0"], model.federation.features["p0"].batch(model.part)
    logits = score_alone(hub.bottom, hub.top, columns, 2)
    absent = [row.repeat(len(model.part), 1) for row in hub.top.absent]
    with torch.no_grad():
        assert torch.equal(logits, hub.top.top([hub.bottom(*columns), *absent]))
    assert scores_alone(hub.top)
    assert not scores_alone(trained("plain").results["p0"].top)


def test_another_state_is_no_block() -> None:
    for state in (b"", b"nothing", b"\x02" + bytes(7) + b"{}"):
        with pytest.raises(ValueError, match="no block"):
            logits_of(state)
    assert [blocks(n) for n in (0, 1, scoring.BLOCK, scoring.BLOCK + 1)] == [0, 1, 1, 2]


@settings(deadline=None)
@given(st.lists(st.lists(st.booleans(), min_size=2, max_size=2), min_size=1, max_size=12))
def test_each_row_is_scored_by_who_is_there_for_it(present: list[list[bool]]) -> None:
    top = top_model(replace(PLAN, party_dropout=0.5), 3, b"s" * 32, 2).eval()
    with torch.no_grad():
        next(iter(top.parameters())).uniform_()  # the absent embeddings, which begin as zeros
    own, *theirs = torch.randn(3, len(present), PLAN.cut, generator=torch.Generator().manual_seed(1))
    found = score_present(top, own, theirs, torch.tensor(present))
    for row, there in enumerate(present):
        cut = [one[row : row + 1] if is_there else None for one, is_there in zip(theirs, there, strict=True)]
        with torch.no_grad():
            assert torch.allclose(found[row], top([own[row : row + 1], *cut])[0], atol=1e-6)
