"""Dates as features: trend and parts of the calendar."""

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from parties.columns.dates import PARTS, UNITS, Coded, Date, fit_date
from parties.columns.levels import MISSING, OTHER, RARE
from parties.columns.numbers import FARTHEST


def fitted(cells: list[float]) -> Date:
    found = fit_date("d", np.array(cells))
    assert found is not None
    return found


def seconds(*moment: int) -> float:
    return datetime(*moment, tzinfo=UTC).timestamp()  # type: ignore[misc, arg-type]


DAYS = [seconds(2024, 1, 1) + 86_400 * day for day in range(900)]


def test_days_without_a_time_have_no_time_of_day() -> None:
    assert fitted(DAYS).parts == ("year", "month", "week")
    assert fitted([day + 3_600 * (row % 24) for row, day in enumerate(DAYS)]).parts[-1] == "day"
    weekly = fitted(DAYS[::7])
    assert "week" not in weekly.parts, "all on one weekday"
    assert weekly.told == "trend, time of year, day of month"


def test_the_calendar_goes_round() -> None:
    date = fitted([day + 60.0 * (row % 1440) for row, day in enumerate(DAYS)])

    def parts(*moment: int) -> Any:
        return date.features(np.array([seconds(*moment)]))[0, 1:]

    monday, sunday = parts(2024, 7, 1), parts(2024, 7, 7)
    np.testing.assert_allclose(monday[4:6], [0, 1], atol=1e-9)
    assert np.abs(monday[4:6] - sunday[4:6]).max() < 0.8, "neighbours"
    np.testing.assert_allclose(parts(2024, 1, 1)[:2], [0, 1], atol=1e-9)
    np.testing.assert_allclose(parts(2024, 12, 31)[:2], [0, 1], atol=0.02)
    np.testing.assert_allclose(parts(2024, 2, 29)[2:4], parts(2023, 2, 28)[2:4], atol=0.02)
    np.testing.assert_allclose(parts(2024, 5, 5, 12)[6:], [0, -1], atol=1e-9)
    np.testing.assert_allclose(
        parts(1970, 1, 1)[4:6], parts(2026, 11, 19)[4:6], atol=1e-9, err_msg="Thursdays"
    )


def test_the_trend_is_against_the_training_rows() -> None:
    trend = fitted(DAYS).features(np.array([DAYS[0], DAYS[-1], DAYS[-1] + 400 * 86_400]))[:, 0]
    assert trend[0] == pytest.approx(-trend[1])
    assert trend[2] > trend[1]


def test_missing_dates_and_a_single_one() -> None:
    assert fit_date("d", np.array([np.nan, np.nan])) is None
    assert fit_date("d", np.array([DAYS[0]] * 5)) is None
    one = fitted([DAYS[0], np.nan, DAYS[0]])
    assert (one.values, one.flagged) == (0, True)
    assert one.features(np.array([DAYS[3], np.nan])).shape == (2, 0)
    some = fitted([*DAYS, np.nan])
    np.testing.assert_array_equal(some.features(np.array([np.nan])), np.zeros((1, some.values)))
    assert some.codes(np.array([np.nan])).tolist() == [[MISSING] * 3]


EVERY = Date("d", None, (), tuple(Coded(part, (*range(UNITS[part]),)) for part in PARTS), False)


@given(st.datetimes(datetime(1, 1, 1), datetime(9999, 12, 30)))
def test_codes_are_those_of_the_calendar(moment: datetime) -> None:
    """Read of the same moment by Python's own calendar, to the second and at the ends of each hour."""
    for at in (moment.replace(microsecond=0), moment.replace(minute=0, second=0, microsecond=0)):
        at = at.replace(tzinfo=UTC)
        found = EVERY.codes(np.array([(at - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds()]))[0]
        assert (found - OTHER - 1).tolist() == [at.month - 1, at.day - 1, at.weekday(), at.hour]


def test_rare_and_unseen_units_share_a_code() -> None:
    tuesday = seconds(2026, 11, 17)
    few = [tuesday + 604_800 * row for row in range(RARE)]
    date = fitted([*few, *(day + 86_400 for day in few), *(day + 2 * 86_400 for day in few[1:])])
    week = next(one for one in date.coded if one.part == "week")
    assert week == Coded("week", (1, 2))
    assert week.codes(tuesday + 86_400.0 * np.arange(-1, 4)).tolist() == [OTHER, 2, 3, OTHER, OTHER]
    assert [one.part for one in fitted(DAYS[:9]).coded] == [], "all are rare: one code tells nothing"
    assert fitted(DAYS[:9]).parts == ("year", "month", "week")
    assert [one.part for one in fitted(DAYS[:30]).coded] == [], "each day once, each weekday four times"
    assert fitted(DAYS).levels == (14, 33, 9)


@settings(deadline=None)
@given(
    cells=st.lists(st.floats(allow_infinity=False) | st.sampled_from(DAYS), min_size=1, max_size=40),
    later=st.lists(st.floats(allow_infinity=False), min_size=1, max_size=9),
)
def test_any_time_gives_finite_numbers(cells: list[float], later: list[float]) -> None:
    date = fit_date("d", np.array(cells))
    if date is not None:
        found = date.features(np.array([*cells, *later]))
        assert found.shape == (len(cells) + len(later), date.values)
        assert np.abs(found).max(initial=0) <= FARTHEST
        codes = date.codes(np.array([*cells, *later]))
        assert codes.dtype == np.int64
        assert codes.shape == (len(cells) + len(later), len(date.levels))
        assert ((codes >= MISSING) & (codes < date.levels)).all()
        assert ((codes == MISSING).any(1) <= np.isnan([*cells, *later])).all()
        assert all(len(np.unique(column)) > 1 for column in codes[: len(cells)].T)


@given(st.datetimes(datetime(1, 1, 1), datetime(9999, 12, 30)))
def test_a_day_later_is_the_next_weekday(moment: datetime) -> None:
    date = Date("d", None, ("week",), (), False)
    at = moment.replace(tzinfo=UTC)
    found = [date.features(np.array([one.timestamp()]))[0] for one in (at, at + timedelta(days=1))]
    angles = [np.arctan2(*each) for each in found]
    assert (angles[1] - angles[0]) % (2 * np.pi) == pytest.approx(2 * np.pi / 7)
    assert round(angles[0] / (2 * np.pi / 7)) % 7 == at.weekday()
