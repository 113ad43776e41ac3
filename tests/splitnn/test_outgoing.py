"""What becomes of gradients before they leave: nothing undefended, and nothing else at any schedule."""

import hashlib
import struct
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from protos.memory import together
from splitnn.crossing import Codecs, Crossing
from splitnn.label_defence import NOISES, LabelDefence
from splitnn.label_noise import iso, max_norm
from splitnn.marvell import evenly, noise_of, perturbed
from splitnn.outgoing import Outgoing
from splitnn.plan import Plan
from splitnn.randomness import normal
from splitnn.schedules import SCHEDULES
from splitnn.tasks import Labels, Objective

COLUMNS = [(3, (4,)), (2, (5, 6)), (4, ())]
PLAN = Plan(b"public", cut=4, bottom_hidden=(8,), top_hidden=(8,), batch=32, epochs=2, in_flight=2)
TRUTH = torch.tensor([0.0, 1, 0, 1, 1, 0, 1, 1])
BATCH = torch.arange(8)
GRADIENT = torch.randn(8, 4, generator=torch.Generator().manual_seed(1)) + TRUTH[:, None]


def outgoing(noise: str, strength: float, truth: Tensor = TRUTH) -> Outgoing:
    plan = replace(PLAN, label_defence=LabelDefence(noise, strength))
    labels = Labels(truth, TRUTH, TRUTH)
    return Outgoing(plan, labels, Objective("binary", "cross-entropy", labels), ["p1", "p2"], b"secret")


@pytest.mark.parametrize("noise", NOISES)
def test_at_strength_0_the_gradient_itself_leaves(noise: str) -> None:
    assert outgoing(noise, 0.0).defended("p1", GRADIENT, BATCH, 1) is GRADIENT


def normals_of(step: int, strength: float, gradient: Tensor, width: int) -> Tensor:
    content = hashlib.sha256(gradient.contiguous().numpy().data).hexdigest()
    return normal(b"secret", f"defence {step} {strength} {content} p1", (len(gradient), width))


def test_each_defence_is_what_its_file_says() -> None:
    positive = TRUTH > 0.5
    wide, one = (normals_of(7, 0.5, GRADIENT, width) for width in (4, 1))
    noise = noise_of(GRADIENT, positive, 0.5)
    assert noise is not None
    expected = {
        "max_norm": max_norm(GRADIENT, 0.5, one),
        "iso": iso(GRADIENT, 0.5, wide),
        "marvell": perturbed(GRADIENT, positive, noise, wide),
    }
    for name, gradient in expected.items():
        assert torch.equal(outgoing(name, 0.5).defended("p1", GRADIENT, BATCH, 7), gradient)
        strided = torch.cat((GRADIENT, GRADIENT), 1)[:, :4]
        assert torch.equal(outgoing(name, 0.5).defended("p1", strided, BATCH, 7), gradient)


@pytest.mark.parametrize("noise", ["max_norm", "iso", "marvell"])
def test_noise_is_drawn_for_each_step_and_peer_and_again_alike(noise: str) -> None:
    left = outgoing(noise, 1.0)
    one = left.defended("p1", GRADIENT, BATCH, 1)
    assert not torch.equal(one, GRADIENT)
    assert not torch.equal(one, left.defended("p2", GRADIENT, BATCH, 1))
    assert not torch.equal(one, left.defended("p1", GRADIENT, BATCH, 2))
    assert torch.equal(one, outgoing(noise, 1.0).defended("p1", GRADIENT, BATCH, 1))
    zeros = GRADIENT.masked_fill(BATCH[:, None] == 3, 0.0)
    least = torch.where(zeros == 0, -0.0, zeros)
    assert torch.equal(*(outgoing(noise, 1.0).defended("p1", each, BATCH, 1) for each in (zeros, least)))


@pytest.mark.parametrize("again", [(1.0, 3.0), (4.0, 1.0)])
def test_no_two_gradients_share_noise(again: tuple[float, float]) -> None:
    """A step that is done again with one longer row, or at another strength: were the noise the same, all
    other rows' difference would be that noise, and the gradients bare."""
    strength, longer = again
    other = torch.cat((longer * GRADIENT[:1], GRADIENT[1:]))
    one = outgoing("iso", 1.0).defended("p1", GRADIENT, BATCH, 1) - GRADIENT
    two = outgoing("iso", strength).defended("p1", other, BATCH, 1) - other
    assert abs(torch.corrcoef(torch.stack((one[1:].flatten(), two[1:].flatten())))[0, 1]) < 0.6


def test_marvell_hides_the_rows_that_are_labelled_so() -> None:
    """BATCH names training rows: in another order they have other labels."""
    turned = outgoing("marvell", 1.0, TRUTH.flip(0)).defended("p1", GRADIENT, BATCH.flip(0), 1)
    assert torch.equal(turned, outgoing("marvell", 1.0).defended("p1", GRADIENT, BATCH, 1))


def test_a_batch_of_one_class_gets_the_noise_of_the_last_that_had_both() -> None:
    positive, ones = TRUTH > 0.5, BATCH[TRUTH > 0.5]
    single = GRADIENT[ones]
    normals = normals_of(2, 1.0, single, 4)
    left = outgoing("marvell", 1.0)
    first = left.defended("p1", single, ones, 2)
    assert torch.equal(first, perturbed(single, positive[ones], evenly(single, 1.0), normals))
    left.defended("p1", GRADIENT, BATCH, 1)
    noise = noise_of(GRADIENT, positive, 1.0)
    assert noise is not None
    second = left.defended("p1", single, ones, 2)
    assert torch.equal(second, perturbed(single, positive[ones], noise, normals))
    assert not torch.equal(second, single)
    again = outgoing("marvell", 1.0)
    again.load(left.state())
    assert torch.equal(again.defended("p1", single, ones, 2), second)
    assert torch.equal(again.defended("p2", single, ones, 2), left.defended("p2", single, ones, 2))


def test_what_marvell_leaves_is_told_of_the_worst_peer_and_goes_on_from_its_state() -> None:
    left, rows = outgoing("marvell", 1.0), {"p1": BATCH, "p2": BATCH[:6]}
    told = []
    for peer, batch in rows.items():
        noise = noise_of(GRADIENT[batch], TRUTH[batch] > 0.5, 1.0)
        assert noise is not None
        told.append(noise.sum_kl)
        left.defended(peer, GRADIENT[batch], batch, 1)
    again = outgoing("marvell", 1.0)
    again.load(left.state())
    for one in (left, again):
        one.defended("p1", GRADIENT, BATCH, 2)
        assert one.end_epoch()["sum_kl"] == pytest.approx(max(told))
        assert "sum_kl" not in one.end_epoch()
    assert "sum_kl" not in outgoing("iso", 1.0).end_epoch()


@pytest.mark.parametrize(
    "state",
    [
        {"strengths": torch.zeros(3)},
        {"told": torch.zeros(3, 2, dtype=torch.float64)},
        {"marvell.0": torch.zeros(9)},
        {"marvell.0": torch.zeros(5, dtype=torch.float64)},
        {"marvell.0": torch.zeros((), dtype=torch.float64)},
        {"meter.sums.0": torch.zeros(2, 9)},
        {"meter.counts.1": torch.zeros(9)},
    ],
)
def test_what_is_no_state_is_refused(state: dict[str, Tensor]) -> None:
    whole = outgoing("marvell", 1.0).state()
    outgoing("marvell", 1.0).load(whole)
    for damaged in (state, whole | state, {name: whole[name] for name in whole if name != "strengths"}):
        with pytest.raises((ValueError, TypeError, LookupError)):
            outgoing("marvell", 1.0).load(damaged)


@pytest.mark.parametrize("noise", NOISES)
@pytest.mark.parametrize("value", [float("nan"), float("inf"), 3e38])
def test_a_gradient_that_is_not_finite_is_left_to_the_codec(noise: str, value: float) -> None:
    broken = GRADIENT.clone()
    broken[3, 1] = value
    left = outgoing(noise, float(noise != "none"))
    gradient = left.defended("p1", broken, BATCH, 1)
    left.measure()
    assert gradient.shape == broken.shape
    assert bool(torch.isfinite(gradient).all()) <= (value == 3e38)


@pytest.mark.parametrize("schedule", [*SCHEDULES])
@pytest.mark.parametrize("codec", [Codecs(), Codecs("randtopk", "int8", keep=2)])
def test_nothing_but_what_is_defended_leaves(
    make: Any, monkeypatch: pytest.MonkeyPatch, schedule: str, codec: Codecs
) -> None:
    """With a defence that sends each row's number in its batch, all gradients that cross are these."""

    def numbers(self: Outgoing, peer: str, gradient: Tensor, batch: Tensor, step: int) -> Tensor:
        return torch.arange(len(batch)).float().unsqueeze(1).expand_as(gradient).contiguous()

    monkeypatch.setattr(Outgoing, "defended", numbers)
    federation = make.federation(90, COLUMNS)
    plan = replace(PLAN, schedule=schedule, codec=codec, label_defence=LabelDefence("iso", 1.0))
    crossing, seen = Crossing(codec, plan.cut, b"", ""), 0
    for said in together(federation.protocols(plan)).transcript:
        if said.kind == "gradient":
            exchange, rows = struct.unpack_from("<QI", said.payload, 8)  # of the header
            got = crossing.receive_gradient(said.payload, "gradient", rows, exchange)
            assert torch.allclose(got, torch.arange(rows).float().unsqueeze(1).expand_as(got))
            seen += 1
    assert seen >= 2 * 4
