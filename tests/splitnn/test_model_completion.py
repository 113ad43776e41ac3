"""Model completion finds a leak where there is one, and says no where there is none."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from splitnn import model_completion
from splitnn.features import Features
from splitnn.model_completion import KNOWN, LEFT, Completion, complete, drawn

N = 400


class Bottom(nn.Module):
    """Trained, it tells the sign of a product of two columns; untrained, nothing."""

    def __init__(self, seed: bytes) -> None:
        super().__init__()
        random = torch.Generator().manual_seed(len(seed))
        self.mix = nn.Parameter(torch.randn(2, 2, generator=random) / 10)

    def forward(self, numeric: Tensor, categorical: Tensor) -> Tensor:
        product = (numeric[:, :1] * numeric[:, 1:2]).sign()
        return torch.cat((product, numeric[:, :1]), 1) @ (self.mix - 0.5).relu()


TELLS = {"mix": torch.tensor([[1.5, 0.0], [0.0, 1.5]])}
TELLS_NOT = {"mix": torch.tensor([[0.0, 0.0], [0.0, 1.5]])}


@pytest.fixture
def features(make: Any) -> Features:
    found: Features = make.features(N, 2, (3,), seed=5)
    return found


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_completion, "STEPS", 10)
    monkeypatch.setattr(model_completion, "STRENGTHS", (1e-2, 1.0))


def labels_of(features: Features, classes: int = 2) -> Tensor:
    product = features.numeric[:, 0] * features.numeric[:, 1]
    third = (features.numeric[:, 0] > 1).long() * (classes - 2)
    return torch.maximum((product > 0).long(), 2 * third)


def same(one: Completion, other: Completion) -> bool:
    return repr(one) == repr(other)


def test_a_bottom_model_that_tells_the_label_is_found(features: Features) -> None:
    found = complete(Bottom, TELLS, features, labels_of(features), 40, b"seed")
    assert found.known == 40
    assert found.attack["linear"].mean > 0.98
    assert found.baseline["linear"].high < 0.7  # a product of columns is not linear in them
    assert found.gain.low > 0.1
    torch.manual_seed(3)  # it draws from nothing but its seed
    assert same(found, complete(Bottom, TELLS, features, labels_of(features), 40, b"seed"))
    assert not same(found, complete(Bottom, TELLS, features, labels_of(features), 40, b"other"))


def test_one_that_tells_nothing_gains_nothing(features: Features) -> None:
    random = torch.Generator().manual_seed(2)
    labels = torch.randint(0, 2, (N,), generator=random)
    found = complete(Bottom, TELLS_NOT, features, labels, 40, b"seed")
    assert abs(found.attack["linear"].mean - 0.5) < 0.08
    assert found.gain.low < 0.01


def test_several_classes(features: Features) -> None:
    found = complete(Bottom, TELLS, features, labels_of(features, 3), 60, b"seed")
    assert found.attack["linear"].mean > 0.95
    assert found.gain.low > 0


@pytest.mark.parametrize("known", [3, N - 2 * LEFT + 1])
def test_too_few_labels_on_either_side(features: Features, known: int) -> None:
    with pytest.raises(ValueError, match=f"must be 4 to {N - 2 * LEFT} of these {N}"):
        complete(Bottom, TELLS, features, labels_of(features), known, b"seed")


def test_classes_that_are_too_rare(features: Features) -> None:
    labels = torch.zeros(N, dtype=torch.int64)
    for rare in (0, 11):
        labels[:rare] = 1
        with pytest.raises(ValueError, match="12 labels of each"):
            complete(Bottom, TELLS, features, labels, 40, b"seed")


@given(st.integers(0, 2**32), st.integers(0, 60), st.integers(0, 9))
@settings(max_examples=50)
def test_what_is_known_has_every_class_and_leaves_some(seed: int, more: int, draw: int) -> None:
    random = np.random.default_rng(seed)
    classes = np.concatenate([np.repeat([0, 1, 2], KNOWN + LEFT), random.integers(0, 3, 60)])
    known = 3 * KNOWN + more
    rows = drawn(classes, known, b"%d" % seed, draw).numpy()
    assert len(rows) == len({*rows}) == known
    assert np.bincount(classes[rows], minlength=3).min() >= KNOWN
    assert np.bincount(np.delete(classes, rows), minlength=3).min() >= LEFT


def test_rows_of_one_class_have_no_auc() -> None:
    rows = np.array([True, True, False])
    assert math.isnan(model_completion._auc(np.array([1, 1, 0]), np.ones((3, 2)), rows))
