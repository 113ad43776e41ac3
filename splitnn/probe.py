"""What the offline attacks train: small models on few rows, the same for the attack and for its baseline."""

import itertools
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # of scikit-learn
from torch import Tensor, nn
from torch.nn.utils import skip_init

from splitnn.randomness import uniform
from splitnn.threads import single_threaded


@contextmanager
def one_thread() -> Iterator[None]:
    """For the same bits everywhere; and for tables this small, threads only wait for one another."""
    with single_threaded(), threadpool_limits(1):
        yield


def standard(table: Tensor, known: Tensor) -> NDArray[np.float64]:
    """Each column of [n, d] with the mean 0 and the deviation 1 on the known rows; a constant one is 0."""
    values = table.numpy().astype(np.float64)
    own = values[known.numpy()]
    deviation = own.std(0)
    return np.asarray((values - own.mean(0)) / np.where(deviation > 1e-9, deviation, np.inf))


def perceptron(widths: Sequence[int], seed: bytes) -> nn.Sequential:
    """Linear layers of these widths, inputs first, with ReLU between them; the seed draws the weights."""
    layers: list[nn.Module] = []
    for depth, (inputs, outputs) in enumerate(itertools.pairwise(widths)):
        layer: nn.Linear = skip_init(nn.Linear, inputs, outputs)  # type: ignore[no-untyped-call]
        with torch.no_grad():
            for name, parameter in layer.named_parameters():
                drawn = uniform(seed, f"perceptron {depth} {name}", parameter.shape, 1 / math.sqrt(inputs))
                parameter.copy_(drawn)
        layers += [layer, nn.ReLU()]
    return nn.Sequential(*layers[:-1])
