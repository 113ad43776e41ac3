"""Curves of the test rows: few points, the right ones, and none that is a single row's."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics

from parties.report import curves
from parties.report.curves import FEWEST, POINTS, ROWS


def scored(rows: int, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    score = random.random(rows)
    truth = (random.random(rows) < score).astype(int)
    truth[:2] = 0, 1
    return truth, score


@settings(deadline=None, max_examples=50)
@given(st.integers(2, 3000), st.integers(0, 99))
def test_curves_are_thin_and_within_their_axes(rows: int, seed: int) -> None:
    truth, score = scored(rows, seed)
    for curve in (curves.roc(truth, score), curves.precision(truth, score)):
        assert 1 <= len(curve.x) == len(curve.y) <= POINTS
        assert np.all((np.concatenate(curve) >= 0) & (np.concatenate(curve) <= 1))
        assert np.all(np.diff(curve.x) >= 0)
    lift = curves.lift(truth, score)
    assert lift.y[-1] == pytest.approx(1.0)
    bins = curves.calibration(truth, score)
    assert bins.rows.sum() == rows
    assert np.all((bins.low <= bins.y + 1e-9) & (bins.y <= bins.high + 1e-9))
    assert min(bins.rows) >= min(FEWEST, rows)


def test_a_thin_curve_has_the_area_of_the_whole() -> None:
    truth, score = scored(20_000)
    no, yes = curves.roc(truth, score)
    assert metrics.auc(no, yes) == pytest.approx(metrics.roc_auc_score(truth, score), abs=1e-3)


@settings(deadline=None, max_examples=50)
@given(st.integers(2, 2000), st.integers(0, 99))
def test_of_numbers_too(rows: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    truth = random.normal(size=rows)
    score = truth + random.normal(size=rows)
    bins = curves.predicted(truth, score)
    assert min(bins.rows) >= min(FEWEST, rows)
    assert np.all(bins.low <= bins.high)
    ends, counts = curves.residuals(truth, score)
    assert len(ends) == len(counts) + 1
    assert counts.sum() <= rows


def test_constant_scores_have_curves() -> None:
    truth, score = np.array([0, 1, 0, 1]), np.full(4, 0.5)
    assert curves.roc(truth, score).y.tolist() == [0.0, 1.0]
    assert curves.residuals(score, score).y.sum() == 4


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 5 * ROWS))
def test_so_many_rows_are_looked_at_and_no_more(rows: int) -> None:
    assert len(range(rows)[curves.sampled(rows)]) <= ROWS
