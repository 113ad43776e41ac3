"""Features that no model takes are refused."""

import pytest
import torch

from splitnn.features import Features
from splitnn.schedule import EVALUATION_ROWS

CODES = torch.tensor([[0], [2]])


@pytest.mark.parametrize(
    ("numeric", "categorical", "levels"),
    [
        (torch.zeros(2, 1, dtype=torch.float64), CODES, (3,)),
        (torch.zeros(2, 1), CODES.int(), (3,)),
        (torch.zeros(2), CODES, (3,)),
        (torch.zeros(3, 1), CODES, (3,)),
        (torch.zeros(2, 1), CODES, (3, 3)),
        (torch.zeros(2, 1), CODES, (2,)),
        (torch.zeros(2, 1), CODES - 1, (3,)),
        (torch.tensor([[0.0], [float("nan")]]), CODES, (3,)),
        (torch.tensor([[0.0], [float("inf")]]), CODES, (3,)),
    ],
)
def test_features_that_no_model_takes_are_refused(
    numeric: torch.Tensor, categorical: torch.Tensor, levels: tuple[int, ...]
) -> None:
    with pytest.raises(ValueError, match=r"feature|categorical|column 0 is not finite"):
        Features(numeric, categorical, levels)


def test_the_last_row_of_a_long_table_is_checked_too() -> None:
    numeric = torch.zeros(EVALUATION_ROWS + 1, 1)
    numeric[-1] = float("nan")
    with pytest.raises(ValueError, match="not finite"):
        Features(numeric, torch.zeros(EVALUATION_ROWS + 1, 0, dtype=torch.int64), ())


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_the_column_that_is_not_finite_is_named(value: float) -> None:
    numeric = torch.zeros(4, 3)
    numeric[2, 1] = value
    with pytest.raises(ValueError, match=r"^numeric column 1 is not finite"):
        Features(numeric, torch.zeros(4, 0, dtype=torch.int64), ())


def test_a_batch_takes_rows_by_entity_and_may_repeat_them() -> None:
    features = Features(torch.tensor([[1.0], [2.0]]), CODES, (3,))
    numeric, categorical = features.batch(torch.tensor([1, 0, 1]))
    assert numeric.tolist() == [[2.0], [1.0], [2.0]]
    assert categorical.tolist() == [[2], [0], [2]]
