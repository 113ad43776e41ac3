"""Embedding DP: the clip holds, the noise is what is claimed and never shared; parity with one process."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kstest, norm

from protos.memory import together
from protos.rounds import Resume, Round, Save
from splitnn.accountant import epsilon
from splitnn.crossing import Codecs
from splitnn.embedding_dp import EmbeddingDP, gaussian
from splitnn.plan import Plan
from splitnn.releases import planned, releases
from splitnn.secure_sum import SECURE_SUM

PLAN = Plan(
    b"public",
    cut=4,
    bottom_hidden=(8,),
    top_hidden=(8,),
    batch=32,
    epochs=3,
    dropout=0.3,
    learning_rate=0.01,
    embedding=EmbeddingDP(1.0, 0.5),
)
COLUMNS = [(3, (4,)), (2, (5, 6)), (4, ())]


@settings(deadline=None)
@given(
    st.lists(st.lists(st.floats(-1e6, 1e6, width=32), min_size=5, max_size=5), min_size=1, max_size=9),
    st.sampled_from([1e-3, 0.1, 1.0, 7.3]),
)
def test_no_row_is_longer_than_the_clip_and_short_ones_are_as_they_were(
    rows: list[list[float]], clip: float
) -> None:
    before = torch.tensor(rows)
    after = EmbeddingDP(clip).clipped(before)
    lengths = before.double().norm(dim=1)
    assert (after.double().norm(dim=1) <= clip).all()
    short = lengths <= clip * (1 - 1e-6)
    assert torch.equal(after[short], before[short])
    torch.testing.assert_close(
        after, before * (clip / lengths.clamp_min(clip))[:, None].float(), rtol=1e-5, atol=0
    )


def test_without_clip_and_noise_it_is_the_identity() -> None:
    activation = torch.randn(5, 3)
    assert EmbeddingDP().release(activation, b"seed", "training 1") is activation
    assert not EmbeddingDP().on
    assert torch.equal(EmbeddingDP(1e9, 0.0).release(activation, b"seed", "training 1"), activation)


def test_training_without_it_is_as_before(make: Any) -> None:
    federation = make.federation(100, COLUMNS)
    plain = replace(PLAN, embedding=EmbeddingDP())
    wide = replace(PLAN, embedding=EmbeddingDP(1e9))
    ours, theirs = (make.weights(federation.split_training(plan).results) for plan in (plain, wide))
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_the_noise_is_gaussian_of_the_deviation_that_is_claimed() -> None:
    dp = EmbeddingDP(2.0, 1.5)
    released = dp.release(torch.zeros(20_000, 5), b"seed", "training 1")
    assert kstest(released.flatten().numpy() / 3.0, norm.cdf).pvalue > 1e-6
    corners = torch.corrcoef(released.T) - torch.eye(5)
    assert corners.abs().max() < 6 / math.sqrt(20_000)


@settings(deadline=None)
@given(st.integers(0, 9))
def test_normals_of_any_number(count: int) -> None:
    made = gaussian(b"k" * 32, count)
    assert made.shape == (count,)
    assert torch.isfinite(torch.from_numpy(made)).all()


def test_noise_is_never_shared() -> None:
    """Another step, seed, or row, however little it differs, and all the noise is another."""
    dp, activation = EmbeddingDP(100.0, 1.0), torch.randn(6, 4)
    nearly = activation.clone()
    nearly[0, 0] = torch.nextafter(nearly[0, 0], torch.tensor(9.0))
    first = dp.release(activation, b"seed", "training 1")
    assert torch.equal(first, dp.release(activation.clone(), b"seed", "training 1"))
    for other in (
        dp.release(nearly, b"seed", "training 1"),
        dp.release(activation, b"seed", "training 2"),
        dp.release(activation, b"seed", "evaluation 1"),
        dp.release(activation, b"tree", "training 1"),
    ):
        assert ((other - first).abs() > 1e-3).all()


def test_the_gradient_passes_the_noise_and_the_clip() -> None:
    activation = torch.tensor([[3.0, 4.0], [0.3, 0.4], [0.0, 0.0]], requires_grad=True)
    EmbeddingDP(1.0, 2.0).release(activation, b"seed", "training 1")[:, 0].sum().backward()
    expected = torch.tensor([[0.2 * (1 - 0.36), -0.2 * 0.48], [1.0, 0.0], [1.0, 0.0]])
    assert activation.grad is not None
    torch.testing.assert_close(activation.grad, expected)


@settings(deadline=None, max_examples=12)
@given(
    embedding=st.sampled_from([EmbeddingDP(0.3), EmbeddingDP(1.0, 0.5)]),
    codec=st.sampled_from([Codecs(), Codecs("int8", "int8"), Codecs("randtopk", keep=2)]),
    importance=st.sampled_from(["none", "parties", "columns"]),
    party_dropout=st.sampled_from([0.0, 0.3]),
)
def test_parity(make: Any, **changes: Any) -> None:
    federation, plan = make.federation(100, COLUMNS), replace(PLAN, **changes)
    make.assert_same(federation.split_training(plan).results, federation.reference(plan))


def test_parity_under_a_secure_sum_and_after_a_restart(make: Any) -> None:
    federation, plan = make.federation(100, COLUMNS), replace(PLAN, fusion=SECURE_SUM, importance="none")
    saved: dict[int, dict[str, Resume]] = {}

    def keep(name: str, word: Round) -> None:
        if isinstance(word, Save):
            saved.setdefault(word.step, {})[name] = Resume(word.step, word.state())

    joined = federation.reference(plan)
    make.assert_same(together(federation.protocols(plan), keep).results, joined)
    make.assert_same(together(federation.protocols(plan, saved[2], attempt=b"b" * 32)).results, joined)


def test_the_noise_is_what_leaves(make: Any) -> None:
    """No row of any message of activations is what the bottom made of it: with so much noise, far from it."""
    federation = make.federation(100, COLUMNS)
    said = federation.split_training(replace(PLAN, embedding=EmbeddingDP(1e-6, 1e6))).transcript
    for one in said:
        if one.kind in ("activation", "validation", "test"):
            released = torch.frombuffer(bytearray(one.payload[24:]), dtype=torch.float32)
            assert 0.3 < released.std() < 3


def test_what_it_spends() -> None:
    """Sensitivity is twice the clip: ten releases at sigma 4 are 8.08, not 3.62."""
    assert epsilon(EmbeddingDP(1.0, 4.0).rho(10), 1e-5) == pytest.approx(8.08, abs=0.005)
    assert EmbeddingDP(1.0).rho(1) == math.inf
    assert EmbeddingDP(1.0).rho(0) == 0


def test_an_attack_finds_no_more_than_is_claimed() -> None:
    """A canary: two rows as far apart as the clip allows, told apart by the best test there is. A lower
    bound of epsilon from its errors, 99.9 % sure (Nasr et al. 2021, "Adversary Instantiation"), is below."""
    dp, tries, delta = EmbeddingDP(1.0, 2.0), 40_000, 1e-5
    row = torch.tensor([[1.0, 0.0, 0.0, 0.0]])
    scores = [
        dp.release((sign * row).repeat(tries, 1), b"seed", f"canary {sign}")[:, 0] for sign in (-1.0, 1.0)
    ]
    claimed = epsilon(dp.rho(1), delta)
    found = 0.0
    for threshold in torch.linspace(-2, 6, 33):
        false, true = ((score > threshold).double().mean().item() for score in scores)
        slack = math.sqrt(math.log(4 * 33 / 1e-3) / (2 * tries))  # Hoeffding, for all thresholds at once
        if true - slack > delta:
            found = max(found, math.log((true - slack - delta) / (false + slack)))
    assert 0.5 < found <= claimed
    assert epsilon(dp.rho(1) / 4, delta) < claimed  # what the wrong sensitivity would claim


@pytest.mark.parametrize(
    ("clip", "sigma"),
    [
        (0.0, 0.0),
        (-1.0, 0.0),
        (math.nan, 0.0),
        (math.inf, 1.0),
        (1.0, -1.0),
        (1.0, math.inf),
        (1.0, math.nan),
        (None, 1.0),
    ],
)
def test_impossible_ones_are_refused(clip: float | None, sigma: float) -> None:
    with pytest.raises(ValueError, match="of embeddings"):
        EmbeddingDP(clip, sigma)


def test_only_in_the_exact_schedule() -> None:
    with pytest.raises(ValueError, match="needs schedule 'exact'"):
        replace(PLAN, schedule="pipelined")


def test_the_count_is_that_of_the_messages(make: Any) -> None:
    federation = make.federation(100, COLUMNS)
    plan = replace(PLAN, batch=1, epochs=2, every=1, importance="none")
    said = federation.split_training(plan).transcript
    trained = sum(one.kind == "activation" and one.sender == "p1" for one in said)
    assert trained == len(federation.rows.train) * releases(federation.rows, planned(plan, federation.rows))
