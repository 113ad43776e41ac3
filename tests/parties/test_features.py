"""Feature pipelines: what holds for any table."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from parties.columns.levels import MISSING, OTHER, RARE, Categorical
from parties.columns.numbers import FARTHEST
from parties.errors import DataError
from parties.features import VERSION, Pipeline
from parties.sources.csv_file import CsvFile
from parties.table import Table


def table(
    numeric: dict[str, Any] | None = None,
    categorical: dict[str, Any] | None = None,
    kinds: dict[str, str] | None = None,
    scale: dict[str, str] | None = None,
) -> Table:
    """kinds: of columns of `numeric` that hold truth values or seconds."""
    rows = range(len(next(iter({**(numeric or {}), **(categorical or {})}.values()))))
    return Table(
        CsvFile(Path("t.csv")),
        pd.Series([f"u{row}" for row in rows]),
        pd.DataFrame(numeric or {}, index=rows, dtype=np.float64),
        pd.DataFrame(categorical or {}, index=rows, dtype="str"),
        pd.DataFrame(index=rows),
        None,
        kinds=kinds or {},
        scale=scale or {},
    )


def everything(whole: Table) -> NDArray[np.int64]:
    return np.arange(whole.rows)


TINY = st.sampled_from([0.0, 1.0, 2.0, 5e-324, 1e-308, 2e-308, -1e-308, 1e-30, 1e30])
CELL = st.none() | st.floats(-1e30, 1e30) | TINY
COLUMN = st.lists(CELL, min_size=1, max_size=60)


@settings(deadline=None, max_examples=200)
@given(
    cells=COLUMN | st.lists(TINY, min_size=100, max_size=200),
    later=st.lists(CELL, min_size=1, max_size=9),
    order=st.randoms(use_true_random=False),
    scale=st.sampled_from([{}, {"a": "standard"}, {"a": "quantile"}, {"a": "log"}]),
    kind=st.sampled_from(["number", "boolean", "date"]),
)
def test_any_numeric_column(
    cells: list[float | None],
    later: list[float | None],
    order: Any,
    scale: dict[str, str],
    kind: str,
) -> None:
    """Of any kind and scale: finite numbers for any cells, whatever the fit saw; and the same from a file."""
    kinds = {"a": kind}
    fitted = table({"a": cells, "b": list(range(len(cells)))}, None, kinds, scale)
    rows = everything(fitted)
    order.shuffle(rows)
    if len(rows) == 1:
        with pytest.raises(DataError, match="no column varies in the 1 training rows"):
            Pipeline.fit(fitted, rows)
        return
    pipeline = Pipeline.fit(fitted, rows)
    numbers, codes = pipeline.transform(fitted, rows)
    assert numbers.dtype == np.float32
    assert numbers.flags.c_contiguous
    assert numbers.shape == (len(rows), pipeline.width)
    assert codes.shape == (len(rows), len(pipeline.levels))
    assert kind == "date" or not pipeline.levels
    assert ((codes >= MISSING) & (codes < pipeline.levels)).all()
    assert np.abs(numbers).max() <= FARTHEST
    np.testing.assert_array_equal(numbers, pipeline.transform(fitted, everything(fitted))[0][rows])
    unseen = table({"a": later, "b": [0.0] * len(later)})
    found, coded = pipeline.transform(unseen, everything(unseen))
    assert np.isfinite(found).all()
    assert ((coded >= MISSING) & (coded < pipeline.levels)).all()
    again = Pipeline.from_json(pipeline.to_json())
    assert again == replace(pipeline, warnings=())
    np.testing.assert_array_equal(again.transform(fitted, rows)[0], numbers)
    np.testing.assert_array_equal(again.transform(fitted, rows)[1], codes)
    missing = table({"a": [None], "b": [None]})
    for one, other in zip(pipeline.missing(), pipeline.transform(missing, np.array([0])), strict=True):
        np.testing.assert_array_equal(one, other[0])


@settings(deadline=None, max_examples=60)
@given(values=st.lists(st.floats(-1e3, 1e3), min_size=30, max_size=60), shift=st.floats(-5, 5))
def test_standardised(values: list[float], shift: float) -> None:
    assume(np.std(values) > 1e-3)
    column = table({"a": np.array(values) + shift})
    numbers = Pipeline.fit(column, everything(column)).transform(column, everything(column))[0][:, 0]
    if np.abs(numbers).max() < FARTHEST:
        assert abs(numbers.mean()) < 1e-4
        assert abs(numbers.std() - 1) < 1e-4


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 999), factor=st.floats(1e-6, 1e6))
def test_the_unit_of_a_column_does_not_matter(seed: int, factor: float) -> None:
    """Minutes or seconds, euros or cents; linear and heavy-tailed columns alike."""
    random = np.random.default_rng(seed)
    for values in (random.normal(size=80), random.exponential(size=80), random.lognormal(2, 2, size=80)):
        one, other = table({"a": values}), table({"a": values * factor})
        rows = everything(one)
        np.testing.assert_allclose(
            Pipeline.fit(one, rows).transform(one, rows)[0],
            Pipeline.fit(other, rows).transform(other, rows)[0],
            atol=1e-4,
        )


def test_a_heavy_tail_is_tamed_and_keeps_its_order() -> None:
    values = np.concatenate([np.zeros(400), np.random.default_rng(0).lognormal(0, 3, 600)])
    column = table({"a": values})
    pipeline = Pipeline.fit(column, everything(column))
    numbers = pipeline.transform(column, everything(column))[0][:, 0]
    assert (np.diff(numbers[np.argsort(values)]) >= 0).all()
    assert np.abs(numbers).max() < 4
    assert abs(np.mean(((numbers - numbers.mean()) / numbers.std()) ** 3)) < 1
    assert len(np.unique(numbers)) > 500, "not binned: values between two knots stay apart"


def test_a_column_that_is_almost_constant_keeps_its_exceptions() -> None:
    column = table({"a": [0.0] * 999 + [1.0]})
    numbers = Pipeline.fit(column, everything(column)).transform(column, everything(column))[0][:, 0]
    assert numbers[-1] == FARTHEST
    assert abs(numbers[0]) < 0.1


def test_missing_values_are_the_mean_and_flagged_where_the_fit_saw_them() -> None:
    fitted = table({"seen": [1.0, None, 3.0, 5.0], "whole": [1.0, 2.0, 3.0, 5.0]})
    pipeline = Pipeline.fit(fitted, everything(fitted))
    later = table({"seen": [None, 3.0], "whole": [None, 2.0]})
    numbers = pipeline.transform(later, everything(later))[0]
    assert pipeline.width == 3
    np.testing.assert_allclose(numbers[0], [0, 0, 1])
    np.testing.assert_allclose(numbers[1, [0, 2]], [0, 0], atol=1e-6)


LEVELS = st.sampled_from(["a", "b", "c", "NA", "0", "ä", None])
LATER = st.lists(LEVELS | st.text(max_size=3), max_size=9)


@settings(deadline=None, max_examples=150)
@given(
    cells=st.lists(LEVELS, min_size=RARE, max_size=80),
    later=LATER,
)
def test_any_categorical_column(cells: list[str | None], later: list[str | None]) -> None:
    fitted = table({"n": list(range(len(cells)))}, {"k": cells})
    pipeline = Pipeline.fit(fitted, everything(fitted))
    if not pipeline.categorical:
        frequent = {cell for cell in cells if cells.count(cell) >= RARE or cell is None}
        rare = set(cells) - frequent
        assert len(frequent) + bool(rare) == 1
        return
    whole = table({"n": [0.0] * (len(cells) + len(later))}, {"k": [*cells, *later]})
    codes = Pipeline.from_json(pipeline.to_json()).transform(whole, everything(whole))[1]
    assert codes.dtype == np.int64
    assert codes.flags.c_contiguous
    names = pipeline.categorical[0].names
    assert pipeline.levels == (len(names) + 2,)
    counts = [cells.count(name) for name in names]
    assert counts == sorted(counts, reverse=True)
    for cell, code in zip([*cells, *later], codes[:, 0], strict=True):
        if cell is None:
            assert code == MISSING
        elif cells.count(cell) >= RARE:
            assert names[code - 2] == cell
        else:
            assert code == OTHER


def test_only_the_rows_of_the_fit_are_looked_at() -> None:
    """Of every kind and scale: whatever stands in the other rows, the pipeline is the same."""
    values, levels, days = [1.0, 2.0, 3.0, 4.0] * 10, ["x", "y"] * 20, [86_400.0 * row for row in range(40)]
    kinds = {"vip": "boolean", "since": "date"}
    scale = {"log": "log", "quantile": "quantile", "standard": "standard"}

    def whole(a: list[Any], k: list[Any], vip: list[Any], since: list[Any]) -> Table:
        numbers = [*values, *a]
        numeric = {"a": numbers, **dict.fromkeys(scale, numbers), "vip": [*[0.0, 1.0] * 20, *vip]}
        return table(numeric | {"since": [*days, *since]}, {"k": [*levels, *k]}, kinds, scale)

    rows = np.arange(40)
    one = Pipeline.fit(whole([1e9, None], ["z", "z"], [None, 1], [None, 1e12 + 0.5]), rows)
    assert one == Pipeline.fit(whole([-1e9, 0.0], [None, "x"], [0, 0], [-1e12, 3_600.0]), rows)
    assert len(one.ordered) + len(one.categorical) == 7


def test_constant_columns_are_left_out_with_a_warning() -> None:
    whole = table(
        {"varies": range(20), "same": [7.0] * 20, "empty": [None] * 20},
        {"one": ["x"] * 20, "none": [None] * 20, "two": ["x", "y"] * 10},
    )
    pipeline = Pipeline.fit(whole, everything(whole))
    assert [column.name for column in pipeline.numeric] == ["varies"]
    assert [column.name for column in pipeline.categorical] == ["two"]
    assert [warning.split("'")[1] for warning in pipeline.warnings] == ["same", "empty", "one", "none"]
    with pytest.raises(DataError, match="no column varies"):
        Pipeline.fit(whole, np.array([3]))


def test_a_table_without_a_column_of_the_fit() -> None:
    fitted = table({"a": range(20)}, {"k": ["x", "y"] * 10})
    pipeline = Pipeline.fit(fitted, everything(fitted))
    for later, name in ((table({"b": [1.0]}, {"k": ["x"]}), "a"), (table({"a": [1.0], "k": [2.0]}), "k")):
        with pytest.raises(DataError, match=f"no column '{name}'"):
            pipeline.transform(later, np.array([0]))


def test_a_damaged_or_newer_file() -> None:
    fitted = table({"a": range(20)})
    kept = json.loads(Pipeline.fit(fitted, everything(fitted)).to_json())
    dated = {"name": "d", "trend": None, "parts": ["week"], "coded": [], "flagged": True}
    assert Pipeline.from_json(json.dumps(kept | {"dates": [dated]})).dates
    wrong: list[dict[str, Any]] = [{"parts": ["minute"]}, {"coded": [{"part": "minute", "units": []}]}]
    wrong += [{"coded": [{"part": "week", "units": units}]} for units in ([7], [-1], [3, 1], [1, 1], None)]
    for text in (
        "",
        "{",
        "[]",
        "{}",
        "[" * 100_000,
        json.dumps({"version": VERSION}),
        json.dumps(kept | {"numeric": [{"name": "a"}]}),
        json.dumps(kept | {"dates": [{"name": "d"}]}),
        *(json.dumps(kept | {"dates": [dated | one]}) for one in wrong),
        json.dumps(kept | {"dates": None}),
    ):
        with pytest.raises(DataError, match="damaged"):
            Pipeline.from_json(text)
    with pytest.raises(DataError, match=f"version {VERSION + 1}"):
        Pipeline.from_json(json.dumps(kept | {"version": VERSION + 1}))


def test_a_column_with_too_many_levels_is_hashed_into_fixed_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("parties.columns.levels.LEVELS_AT_MOST", 50)
    names = [f"item {row % 60}" for row in range(60 * RARE)]
    fitted = table(categorical={"a": names, "b": ["x", "y"] * (30 * RARE)})
    pipeline = Pipeline.fit(fitted, everything(fitted))
    assert pipeline.levels == (51, 51, 4)
    assert "item" not in pipeline.to_json()
    later = table(categorical={"a": [*names[:60], None, "never seen"], "b": ["x"] * 62})
    codes = Pipeline.from_json(pipeline.to_json()).transform(later, everything(later))[1]
    assert codes.shape == (62, 3)
    assert (codes[60, :2] == MISSING).all()
    assert codes[:, :2].max() <= 50
    assert np.delete(codes, 60, 0).min() >= 1
    assert len(np.unique(codes[:60, :2], axis=0)) >= 58, "hardly two levels share both codes"
    assert codes[0, :2].tolist() == [29, 31]


def test_a_column_just_within_the_bound_keeps_its_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("parties.columns.levels.LEVELS_AT_MOST", 60)
    fitted = table(categorical={"a": [f"item {row % 60}" for row in range(60 * RARE)]})
    assert Pipeline.fit(fitted, everything(fitted)).levels == (62,)


def test_where_each_column_went(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("parties.columns.levels.LEVELS_AT_MOST", 50)
    rows = 60 * RARE
    fitted = table(
        {"age": list(range(rows)), "days": [None, *range(1, rows)], "same": [1.0] * rows},
        {"item": [f"item {row % 60}" for row in range(rows)], "city": ["x", "y"] * (30 * RARE)},
    )
    pipeline = Pipeline.fit(fitted, everything(fitted))
    pipeline = replace(pipeline, bags=(Categorical("seen", ("a",)), Categorical("read", (), 50)))
    assert pipeline.groups({}) == {
        "age": ((0,), (), ()),
        "days": ((1, 2), (), ()),
        "item": ((), (0, 1), ()),
        "city": ((), (2,), ()),
        "seen": ((), (), (0,)),
        "read": ((), (), (1, 2)),
    }
    named = pipeline.groups({"delivery": ["days", "same", "city", "read"], "gone": ["same"]})
    assert [*named] == ["delivery", "age", "item", "seen"]
    assert named["delivery"] == ((1, 2), (2,), (1, 2))


def test_a_scale_of_the_owners_choice() -> None:
    values = np.random.default_rng(2).lognormal(3, 1.5, 2_000)
    values[:200] = 0
    values[200:300] *= -1
    by = {}
    for scale in ("standard", "quantile", "log", ""):
        column = table({"a": values}, scale={"a": scale} if scale else {})
        pipeline = Pipeline.fit(column, everything(column))
        by[scale] = pipeline.transform(column, everything(column))[0][:, 0]
        assert (np.diff(by[scale][np.argsort(values)]) >= 0).all(), "order is kept"
    np.testing.assert_array_equal(by[""], by["quantile"])
    skewness = {scale: abs(np.mean(found.astype(float) ** 3)) for scale, found in by.items()}
    assert skewness["log"] < 1 < skewness["standard"]
    unit = np.quantile(np.abs(values[values != 0]), 0.1)
    log = np.sign(values) * np.log1p(np.abs(values) / unit)
    np.testing.assert_allclose(by["log"], (log - log.mean()) / log.std(), atol=1e-5)


def test_numbers_a_hair_apart_are_no_fault() -> None:
    for values in ([0.0, 1e-308] * 50, [1e-308, 2e-308, 1.0] * 50, [*np.zeros(99), 5e-324]):
        column = table({"a": values, "b": range(len(values))})
        assert np.isfinite(
            Pipeline.fit(column, everything(column)).transform(column, everything(column))[0]
        ).all()


def test_truth_values_and_dates_have_their_places() -> None:
    days = [86_400.0 * 37 * row for row in range(99)]
    fitted = table(
        {"since": [None, *days], "vip": [None, *[1.0, 0.0, 0.0] * 33], "age": range(100)},
        kinds={"since": "date", "vip": "boolean"},
    )
    pipeline = Pipeline.fit(fitted, everything(fitted))
    assert pipeline.kinds == {"vip": "boolean", "age": "number", "since": "date"}
    assert [column.told for column in pipeline.ordered] == [
        "standardised, flag where missing",
        "standardised",
        "trend, time of year, day of month, weekday, flag where missing",
    ]
    assert pipeline.groups({}) == {
        "vip": ((0, 9), (), ()),
        "age": ((1,), (), ()),
        "since": ((2, 3, 4, 5, 6, 7, 8, 10), (0,), ()),
    }
    numbers, codes = pipeline.transform(fitted, everything(fitted))
    assert numbers.shape == (100, 11)
    assert numbers[0, [0, *range(2, 9)]].tolist() == [0.0] * 8
    assert numbers[0, 9:].tolist() == [1.0, 1.0]
    assert not numbers[1:, 9:].any()
    assert len(np.unique(numbers[1:, 0])) == 2
    assert codes[0].tolist() == [MISSING] * len(pipeline.levels)
    both = replace(pipeline, categorical=(Categorical("k", ("x",)),))
    assert both.groups({})["since"] == (pipeline.groups({})["since"][0], (1,), ())
    assert both.levels == (3, *pipeline.levels)


def test_a_file_of_version_2_is_read() -> None:
    """As 0.2 wrote it: two columns of numbers, one of them with knots, a category and a bag."""
    kept = {
        "version": 2,
        "numeric": [
            {"name": "a", "knots": [], "scores": [], "mean": 2.0, "deviation": 4.0, "flagged": False},
            {
                "name": "b",
                "knots": [0.0, 9.0],
                "scores": [-1.0, 1.0],
                "mean": 0,
                "deviation": 1,
                "flagged": True,
            },
        ],
        "categorical": [{"name": "k", "names": ["x"], "buckets": 0}],
        "bags": [{"name": "s", "names": ["p"], "buckets": 0}],
    }
    pipeline = Pipeline.from_json(json.dumps(kept))
    numbers, codes = pipeline.transform(
        table({"a": [10.0, 2.0], "b": [4.5, None]}, {"k": ["x", "y"]}), np.arange(2)
    )
    np.testing.assert_array_equal(numbers, [[2, 0, 0], [0, 0, 1]])
    np.testing.assert_array_equal(codes, [[2], [OTHER]])
    assert pipeline.kinds == {"a": "number", "b": "number", "k": "category", "s": "bag"}
    assert Pipeline.from_json(pipeline.to_json()) == pipeline
    with pytest.raises(DataError, match="of version 1; train again"):
        Pipeline.from_json(json.dumps(kept | {"version": 1}))
