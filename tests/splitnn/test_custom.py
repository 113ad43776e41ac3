"""Classes of the user's: what they may draw from, and what is refused before any data is used."""

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn

from splitnn.custom import Custom, check_module, check_rows_alone
from splitnn.errors import TrainingError
from splitnn.local import DEFAULTS, Local
from splitnn.placement import Placement

HERE = __name__


class Drawing(nn.Module):
    """Returns what it draws."""

    def __init__(self, numeric: int, levels: Sequence[int], cut: int) -> None:
        super().__init__()
        self.out = nn.Linear(numeric, cut)

    def forward(self, numeric: Tensor, categorical: Tensor) -> Tensor:
        return self.out(numeric) * 0 + torch.rand(len(numeric), self.out.out_features)


class Narrow(nn.Module):
    """Returns one column too few."""

    def __init__(self, numeric: int, levels: Sequence[int], cut: int) -> None:
        super().__init__()
        self.out = nn.Linear(numeric, cut - 1)

    def forward(self, numeric: Tensor, categorical: Tensor) -> Tensor:
        return self.out(numeric)


class Frozen(Narrow):
    """Nothing to train."""

    def forward(self, numeric: Tensor, categorical: Tensor) -> Tensor:
        return torch.zeros(len(numeric), self.out.out_features + 1)


class OfTheBatch(Narrow):
    """Batch norm."""

    def __init__(self, numeric: int, levels: Sequence[int], cut: int) -> None:
        super().__init__(numeric, levels, cut)
        self.out = nn.Sequential(nn.Linear(numeric, cut), nn.BatchNorm1d(cut))


class OfTheRow(Narrow):
    """Layer norm, and a draw."""

    def __init__(self, numeric: int, levels: Sequence[int], cut: int) -> None:
        super().__init__(numeric, levels, cut)
        self.out = nn.Sequential(nn.Linear(numeric, cut), nn.LayerNorm(cut), nn.Dropout())


class Failing(Narrow):
    """Quotes the data in its error."""

    def forward(self, numeric: Tensor, categorical: Tensor) -> Tensor:
        raise RuntimeError(f"secret {numeric[0].tolist()}")


class Tied(Narrow):
    """Two names for one tensor, which cannot be kept apart on disk."""

    def __init__(self, numeric: int, levels: Sequence[int], cut: int) -> None:
        super().__init__(numeric, levels, cut)
        self.out = nn.Linear(numeric, cut)
        self.again = self.out


class Infinite(Narrow):
    """Divides by zero."""

    def forward(self, numeric: Tensor, categorical: Tensor) -> Tensor:
        return torch.cat((self.out(numeric), self.out(numeric)[:, :1]), 1) / 0


def made(name: str, seed: bytes = b"seed", local: Local = DEFAULTS) -> Custom:
    return Custom("bottom", f"{HERE}:{name}", (3, (), 4), 4, seed, Placement(local))


def inputs(rows: int = 5) -> tuple[Tensor, Tensor]:
    return torch.ones(rows, 3), torch.zeros(rows, 0, dtype=torch.int64)


def test_what_it_draws_depends_on_its_seed_and_nothing_else() -> None:
    torch.manual_seed(1)
    one = made("Drawing")
    expected = [one(*inputs()), one(*inputs())]
    torch.manual_seed(2)
    outer = torch.get_rng_state()
    again, other = made("Drawing"), made("Drawing", b"other")
    drawn = [again(*inputs()), other(*inputs()), again(*inputs())]
    assert torch.equal(torch.get_rng_state(), outer)
    assert torch.equal(drawn[0], expected[0])
    assert torch.equal(drawn[2], expected[1])
    assert not torch.equal(drawn[1], expected[0])
    assert not torch.equal(expected[0], expected[1])
    assert torch.equal(one.module.out.weight, again.module.out.weight)
    assert not torch.equal(one.module.out.weight, other.module.out.weight)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("Narrow", r"returns \[5, 3\] instead of \[5, 4\]"),
        ("Frozen", "no weights to train"),
        ("Infinite", "NaN or infinity"),
        ("Tied", "fails with RuntimeError"),
        ("Failing", "fails with RuntimeError"),
        ("Absent", "fails with AttributeError: .*Absent"),
        ("inputs", "not a class of"),
    ],
)
def test_what_cannot_be_trained_is_refused(name: str, says: str) -> None:
    with pytest.raises(TrainingError, match=f"^bottom model {HERE}:{name} .*{says}") as refusal:
        check_module(module := made(name), module.title, inputs())
    assert "\n" not in str(refusal.value)
    assert "secret" not in str(refusal.value)


def test_a_module_that_is_not_there_or_takes_other_arguments() -> None:
    with pytest.raises(TrainingError, match="no_such_module"):
        Custom("top", "no_such_module:Top", (), 1, b"", Placement(DEFAULTS))
    with pytest.raises(TrainingError, match=r"TypeError.*missing"):
        Custom("top", f"{HERE}:Drawing", (), 1, b"", Placement(DEFAULTS))


def test_a_model_that_can_be_trained_passes() -> None:
    check_module(made("Drawing"), "bottom", inputs())
    check_module(made("Drawing", local=Local(precision="bf16")), "bottom", inputs())


def test_a_row_that_shows_in_others_of_its_batch_is_found() -> None:
    with pytest.raises(TrainingError, match="depends on the other rows of its batch, as with batch norm"):
        check_rows_alone(made("OfTheBatch"), inputs())
    module = made("OfTheRow")
    before = module.generator.get_state()
    check_rows_alone(module, inputs())
    assert torch.equal(module.generator.get_state(), before)
