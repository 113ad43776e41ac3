"""Feature inversion: what is told is found, column by column, and nothing is found where nothing is told."""

import math
from typing import Any

import pytest
import torch

from splitnn import feature_inversion
from splitnn.dense import Dense, dense
from splitnn.feature_inversion import LEAST, decode, invert

N = 300
NAMES = ["told", "half", "not", "level"]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feature_inversion, "STEPS", 100)


@pytest.fixture
def columns(make: Any) -> Dense:
    return dense(make.features(N, 3, (3,), seed=3), torch.arange(N))


def noise(width: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(N, width, generator=torch.Generator().manual_seed(seed))


def test_of_each_column_what_is_told(columns: Dense) -> None:
    table = columns.table
    activations = torch.cat((3 * table[:, :1] + 1, table[:, 1:2] + noise(1), table[:, 3:4], noise(2, 2)), 1)
    found = dict(zip(NAMES, invert(activations, columns, NAMES, 150, b"seed"), strict=True))
    assert [one.name for one in found.values()] == NAMES
    assert found["told"].told.low > 0.95
    assert 0.3 < found["half"].told.mean < 0.6  # a signal as strong as its noise: 1/2 at best
    assert found["not"].gain.high < 0.05
    assert 0.2 < found["level"].told.mean < 0.8  # of three levels one is told
    assert all(one.baseline is None and one.gain == one.told for one in found.values())
    torch.manual_seed(3)
    again = invert(activations, columns, NAMES, 150, b"seed")
    assert repr(again) == repr([*found.values()])


def test_what_the_attacker_knows_anyway_is_no_leak(columns: Dense) -> None:
    own = torch.cat((columns.table[:, :1], noise(2)), 1)
    told, *_, level = invert(columns.table[:, [0, 3, 4]], columns, NAMES, 150, b"seed", own)
    assert told.baseline is not None
    assert told.told.mean > 0.95
    assert told.gain.low < 0.01
    assert level.baseline is not None
    assert level.baseline.mean < 0.05
    assert level.gain.low > 0.5


def test_a_network_finds_what_is_not_linear(columns: Dense, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feature_inversion, "STEPS", 500)
    source = columns.table[:, 1:2]
    truth = source.abs().double().numpy()
    decoded = decode(source, truth, torch.arange(200), [[0]], b"seed")[200:]
    assert ((decoded - truth[200:]) ** 2).mean() < 0.1 * truth[200:].var()


def test_a_constant_column_has_no_r2() -> None:
    [found] = invert(noise(2), Dense(torch.ones(N, 1), [[0]]), ["one"], 100, b"seed")
    assert all(map(math.isnan, found.told))


@pytest.mark.parametrize("known", [LEAST - 1, N - LEAST + 1])
def test_too_few_users_on_either_side(columns: Dense, known: int) -> None:
    with pytest.raises(ValueError, match=f"at least {LEAST}"):
        invert(noise(2), columns, NAMES, known, b"seed")
