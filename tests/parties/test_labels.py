"""Reading the label of each task, and weighing the examples."""

from datetime import date
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from parties.errors import DataError
from parties.labels import MOST_CLASSES, OwnLabels, classes, example_weights, list_of, numbers, yes_or_no
from splitnn.schedule import Split


def series(cells: list[Any]) -> "pd.Series[Any]":
    return pd.Series(cells, name="bought")


@pytest.mark.parametrize(
    ("cells", "positive"),
    [
        ([True, False, True], ()),
        (["1", "0", "1"], ()),
        (["TRUE", "False", "true"], ()),
        ([1.0, 0.0, 1.0], ()),
        ([1, 0, 1], ["1"]),
        (["1.0", "0", "1"], [1]),
        (["True", "False", "True"], [True]),
        (["yes", "no", " maybe"], ["yes", "maybe"]),
    ],
)
def test_yes_or_no(cells: list[object], positive: list[object]) -> None:
    values = yes_or_no(series(cells), positive)
    assert values.dtype == np.float32
    assert values.tolist() == [1, 0, 1]


@pytest.mark.parametrize(
    ("cells", "names", "codes"),
    [
        (["b", "a", " b"], ("a", "b"), [1, 0, 1]),
        (["10", "9", "9.0"], ("9", "10"), [1, 0, 0]),
        ([2.0, 1.0, 2.0], ("1", "2"), [1, 0, 1]),
        ([True, False, True], ("false", "true"), [1, 0, 1]),
        ([2**60, 2**60 + 1, 0], ("0", str(2**60), str(2**60 + 1)), [1, 2, 0]),
        (["x", "1", "x"], ("1", "x"), [1, 0, 1]),
    ],
)
def test_classes(cells: list[object], names: tuple[str, ...], codes: list[int]) -> None:
    values, found = classes(series(cells))
    assert found == names
    assert values.dtype == np.int64
    assert values.tolist() == codes


@settings(deadline=None, max_examples=50)
@given(st.lists(st.sampled_from(["shoes", "hats", "socks", "1", "07"]), min_size=2, max_size=30))
def test_each_row_keeps_its_class_in_whatever_order_the_file_is(cells: list[str]) -> None:
    if len(set(cells)) < 2:
        return
    values, names = classes(series(cells))
    assert [names[code] for code in values] == [cell if cell != "07" else "7" for cell in cells]
    assert classes(series(cells[::-1]))[1] == names


@pytest.mark.parametrize("cells", [["1.5", "-2", "1e3"], [1.5, -2.0, 1000.0], pd.array([1.5, -2, 1e3])])
def test_numbers(cells: list[object]) -> None:
    values = numbers(series(cells), counts=False)
    assert values.dtype == np.float64
    assert values.tolist() == [1.5, -2, 1000]


def count(column: "pd.Series[Any]") -> object:
    return numbers(column, counts=True)


def number(column: "pd.Series[Any]") -> object:
    return numbers(column, counts=False)


def oui(column: "pd.Series[Any]") -> object:
    return yes_or_no(column, ["oui"])


@pytest.mark.parametrize(
    ("read", "cells", "wanted"),
    [
        (yes_or_no, [1, None, 0, None], "2 empty cell(s), the first in row 2"),
        (yes_or_no, ["1", "0", " "], "1 empty cell(s), the first in row 3"),
        (yes_or_no, [None, None], "2 empty cell(s)"),
        (oui, ["oui", "NaN", "no"], "1 empty cell(s), the first in row 2"),
        (
            yes_or_no,
            ["yes", "no"],
            'data.positive, or agree on another model.task in run.toml, such as "mult',
        ),
        (yes_or_no, [0, 1, 2], 'data.positive, or agree on another model.task in run.toml, such as "regress'),
        (yes_or_no, ["1", "1"], "every row is a yes"),
        (oui, ["yes", "no"], "every row is a no"),
        (classes, ["a", None, "b"], "1 empty cell(s), the first in row 2"),
        (classes, ["a", " a", "a"], "every row is of one class"),
        (
            classes,
            [f"{i}.5" for i in range(MOST_CLASSES + 1)],
            "1,001 classes, of at most 1,000; for numbers, ",
        ),
        (number, ["1", "", "2"], "1 empty cell(s), the first in row 2"),
        (number, ["1", "NaN", "2"], "1 empty cell(s), the first in row 2"),
        (number, [1.0, np.nan, 2.0], "1 empty cell(s), the first in row 2"),
        (number, [1.0, np.inf, 2.0], "1 infinite or absurdly large cell(s), the first in row 2"),
        (number, ["1", "secret", "2"], "1 non-numeric cell(s), the first in row 2"),
        (number, [date(2020, 1, 1), date(2021, 1, 1)], "2 non-numeric cell(s)"),
        (number, pd.to_datetime(["2020-01-01", "2021-01-01"]), "holds times, not numbers"),
        (number, [7, 7.0, 7], "every row has one value"),
        (count, [3, -1, 0], "1 negative cell(s), the first in row 2; model.loss"),
        (example_weights, [1, -1], "1 negative cell(s), the first in row 2"),
        (example_weights, [0.0, 0.0], "every row weighs 0"),
        (example_weights, [1.0, None], "1 empty cell(s), the first in row 2"),
        (list_of, ["s1", None, "s2"], "1 empty cell(s), the first in row 2"),
        (list_of, ["s1", "s1", ""], "1 empty cell(s), the first in row 3"),
    ],
)
def test_what_does_not_fit_the_task(read: Any, cells: Any, wanted: str) -> None:
    with pytest.raises(DataError) as fault:
        read(series(cells))
    text = str(fault.value)
    assert wanted in text
    assert "'bought'" in text
    assert "secret" not in text
    assert "\n" not in text


SPLIT = Split(torch.tensor([0, 1, 2, 2]), torch.tensor([3]), torch.tensor([4]))
"""Of six rows in another order; one entity has two examples."""
ROWS = np.array([5, 4, 3, 2, 1])


def test_labels_follow_the_alignment_and_the_split() -> None:
    own = OwnLabels(np.arange(6), tuple("abcdef"), np.arange(6) / 10)
    labels = own.of(ROWS, SPLIT)
    assert (labels.train.tolist(), labels.validation.tolist(), labels.test.tolist()) == (
        [5, 4, 3, 3],
        [2],
        [1],
    )
    assert labels.weights is not None
    assert labels.weights.tolist() == [0.5, 0.4, 0.3, 0.3]
    assert labels.names == tuple("abcdef")
    assert OwnLabels(np.arange(6), tuple("abcdef")).of(ROWS, SPLIT).weights is None


def test_a_list_is_what_the_column_says_else_an_entity() -> None:
    values, groups = np.arange(6), list_of(series(["b", "a", "b", "c", "a", "c"]))
    assert OwnLabels(values).of(ROWS, SPLIT).lists == (None, None, 10)
    entities = Split(torch.tensor([0, 0, 1, 1]), torch.tensor([2]), torch.tensor([3]))
    of_entity = OwnLabels(values, ndcg_at=3).of(ROWS, SPLIT, entities).lists
    assert of_entity == (entities.validation, entities.test, 3)
    of_column = OwnLabels(values, lists=groups).of(ROWS, SPLIT, entities).lists
    assert of_column.validation is not None
    assert of_column.test is not None
    assert (of_column.validation.tolist(), of_column.test.tolist()) == ([groups[2]], [groups[1]])
    assert groups.tolist() == [0, 1, 0, 2, 1, 2]


def test_balanced_classes_weigh_the_same_in_training() -> None:
    own = OwnLabels(np.array([9, 9, 0, 1, 1, 1], np.float32), class_weights="balanced")
    weights = own.of(np.array([2, 3, 4, 5, 0]), Split(*SPLIT[:2], SPLIT.test)).weights
    assert weights is not None
    torch.testing.assert_close(
        weights / weights[0], torch.tensor([1, 1 / 3, 1 / 3, 1 / 3], dtype=torch.float64)
    )


def test_balanced_targets_have_as_much_yes_as_no() -> None:
    values = np.array([[1, 0], [0, 1], [0, 1], [0, 1]], np.float32)
    split = Split(torch.arange(4), torch.tensor([0]), torch.tensor([0]))
    weights = OwnLabels(values, ("a", "b"), class_weights="balanced").of(np.arange(4), split).weights
    assert weights is not None
    for target in (0, 1):
        yes = values[:, target] == 1
        assert weights[yes, target].sum() == pytest.approx(weights[~yes, target].sum())


def test_given_weights_of_classes_and_of_rows_multiply() -> None:
    own = OwnLabels(np.array([0, 1, 1, 0, 1]), ("a", "b"), np.arange(5.0), np.array([2.0, 3.0]))
    split = Split(torch.tensor([0, 1, 2]), torch.tensor([3]), torch.tensor([4]))
    weights = own.of(np.arange(5), split).weights
    assert weights is not None
    assert weights.tolist() == [0, 3, 6]
