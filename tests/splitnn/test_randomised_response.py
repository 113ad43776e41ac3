"""Randomised response: the ratio that it promises, kept answers, and a loss that is unbiased."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from splitnn.randomised_response import answers, debiased, draws, keep

EPSILONS = st.sampled_from([0.1, 1.0, 3.0, 8.0])
N = 60_000
RECORDS = [str(number).encode() for number in range(N)]


@given(st.floats(0.01, 30), st.integers(2, 1000))
def test_no_answer_is_more_than_e_to_the_epsilon_likelier_by_one_label_than_by_another(
    epsilon: float, classes: int
) -> None:
    kept = keep(epsilon, classes)
    other = (1 - kept) / (classes - 1)
    assert kept / other == pytest.approx(math.exp(epsilon), rel=1e-2)


@pytest.mark.parametrize("classes", [2, 5])
@pytest.mark.parametrize("epsilon", [0.5, 3.0])
def test_answers_come_as_often_as_they_should(classes: int, epsilon: float) -> None:
    drawn = draws(b"secret", "label", classes, epsilon, RECORDS)
    labels = torch.full((N,), 1)
    answer = answers(labels, drawn, classes, epsilon)
    kept = keep(epsilon, classes)
    for c in range(classes):
        expected = kept if c == 1 else (1 - kept) / (classes - 1)
        share = (answer == c).double().mean().item()
        assert share == pytest.approx(expected, abs=4 * (expected / N) ** 0.5)


def test_a_record_answers_once_and_for_ever() -> None:
    """Wherever it stands. By another secret, column, number of classes or epsilon it answers anew."""
    drawn = draws(b"secret", "label", 2, 1.0, RECORDS[:50])
    assert torch.equal(draws(b"secret", "label", 2, 1.0, RECORDS[49::-1]), drawn.flip(0))
    for other in (
        draws(b"other", "label", 2, 1.0, RECORDS[:50]),
        draws(b"secret", "click", 2, 1.0, RECORDS[:50]),
        draws(b"secret", "label", 3, 1.0, RECORDS[:50]),
        draws(b"secret", "label", 2, 1.5, RECORDS[:50]),
    ):
        assert not torch.isclose(other, drawn).any()
    assert ((drawn >= 0) & (drawn < 1)).all()


def test_two_epsilons_do_not_lie_in_the_same_places() -> None:
    """With one draw for both, what they disagree on would be known to be a lie of the smaller one."""
    labels = torch.ones(N)
    one, other = (answers(labels, draws(b"s", "y", 2, e, RECORDS), 2, e) for e in (1.0, 2.0))
    kept = [keep(e, 2) for e in (1.0, 2.0)]
    both = ((one == 1) & (other == 0)).double().mean().item()
    assert both == pytest.approx(kept[0] * (1 - kept[1]), abs=0.01)


@given(EPSILONS, st.integers(0, 99))
def test_the_debiased_loss_is_unbiased(epsilon: float, seed: int) -> None:
    """Its mean over all answers, each by its probability, is the loss of the true label."""
    random = torch.Generator().manual_seed(seed)
    for classes in (2, 3, 7):
        logits = torch.randn(1, classes, generator=random)
        kept = keep(epsilon, classes)
        for truth in range(classes):
            mean = 0.0
            for answer in range(classes):
                target = debiased(torch.tensor([answer]), classes, epsilon)
                chance = kept if answer == truth else (1 - kept) / (classes - 1)
                if classes == 2:
                    loss = binary_cross_entropy_with_logits(logits[:, 0], target[:, 1])
                else:
                    loss = cross_entropy(logits, target)
                mean += chance * loss.item()
            one = logits[:, 0], torch.tensor([float(truth)])
            true = (
                binary_cross_entropy_with_logits(*one)
                if classes == 2
                else cross_entropy(logits, torch.tensor([truth]))
            )
            assert mean == pytest.approx(true.item(), abs=1e-4 / epsilon)


@given(st.integers(2, 9), EPSILONS)
def test_targets_add_up_to_one(classes: int, epsilon: float) -> None:
    targets = debiased(torch.arange(classes), classes, epsilon)
    assert torch.allclose(targets.sum(1), torch.ones(classes), atol=1e-4)


def test_the_largest_epsilon_hardly_changes_anything() -> None:
    labels = torch.arange(N) % 3
    drawn = draws(b"secret", "label", 3, 30.0, RECORDS)
    assert torch.equal(answers(labels, drawn, 3, 30.0), labels)
    assert torch.allclose(debiased(labels, 3, 30.0), torch.eye(3)[labels])
