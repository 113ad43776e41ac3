"""When the validation rows are scored, and early stopping."""

from fractions import Fraction

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from splitnn import stopping
from splitnn.plan import Plan
from splitnn.schedule import Split
from splitnn.stopping import epochs_between, is_judged, judge


def test_early_stopping_keeps_the_first_best_epoch() -> None:
    plan = Plan(b"", patience=2)
    better, worse = {"auc": 0.7}, {"auc": 0.6}
    assert judge(plan, [worse]) == (True, False)
    assert judge(plan, [worse, better]) == (True, False)
    assert judge(plan, [worse, better, better]) == (False, False)
    assert judge(plan, [worse, better, better, worse]) == (False, True)


def test_patience_counts_epochs_and_not_verdicts() -> None:
    unjudged, better, worse = {"train_loss": 1.0}, {"auc": 0.7}, {"auc": 0.6}
    history = [unjudged, unjudged, better, unjudged, unjudged, worse]
    assert judge(Plan(b"", patience=3), history) == (False, True)
    assert judge(Plan(b"", patience=4), history) == (False, False)
    assert judge(Plan(b"", patience=1), [*history, unjudged, unjudged, {"auc": 0.8}]) == (True, False)


def split(train: int, validation: int) -> Split:
    return Split(torch.empty(train), torch.empty(validation), torch.empty(1))


@given(train=st.integers(1, 10**6), validation=st.integers(1, 10**6), batch=st.integers(1, 10**5))
def test_validation_costs_under_a_twentieth_at_the_fewest_epochs(
    train: int, validation: int, batch: int
) -> None:
    every = epochs_between(Plan(b"", batch=batch), split(train, validation))
    steps = -(-train // batch)
    training = stopping.TRAINED_ROW * train + stopping.TRAINING_STEP * steps
    share = Fraction(stopping.VALIDATED_ROW * validation, training)
    assert share / every < Fraction(1, 20)
    assert every == 1 or share / (every - 1) >= Fraction(1, 20)


@pytest.mark.parametrize(
    ("every", "epochs", "judged"),
    [(1, 4, [1, 2, 3, 4]), (2, 5, [2, 4, 5]), (3, 6, [3, 6]), (9, 4, [4]), (None, 4, [2, 4])],
)
def test_the_last_epoch_is_always_judged(every: int | None, epochs: int, judged: list[int]) -> None:
    plan = Plan(b"", every=every, epochs=epochs, batch=1024)
    rows = split(70_000, 15_000)
    assert [epoch for epoch in range(1, epochs + 1) if is_judged(plan, rows, epoch)] == judged
