"""Feature inversion: what the activations of a party tell of the columns that they were made from.

The label holder gets one activation a user. Whoever knows a party's columns of some users (a leak, or a
purchase) can train a decoder from activations to columns on these, and apply it to all the others (the
attack of Fredrikson et al. 2015, "Model Inversion Attacks", with the decoder of Dosovitskiy and Brox 2016,
"Inverting Visual Representations with Convolutional Networks", in place of a search).

R2 of a column: 1 - squared error / squared error of the mean, over users that the decoder was not trained
on. 1: the column is told; 0: no better than its mean. A column of levels counts with one number a level, and
a value with its flag for missing, so that every column has one R2.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import mse_loss

from splitnn.dense import Dense
from splitnn.probe import one_thread, perceptron, standard
from splitnn.randomness import permutation, strong_generator
from splitnn.spread import DRAWS, GROUPS, Estimate, groups_of

LEAST: Final = 20
"""Known rows, and rows to measure by."""
PENALTIES: Final = tuple(10.0**power for power in range(-3, 5))
"""Of the linear decoder's weights, in units of a known row."""
HIDDEN: Final = 128
STEPS: Final = 600
JUDGED: Final = 50
"""Steps from one look at the held-out rows to the next: the best network of them is kept."""
BATCH: Final = 64
RATE: Final = 1e-3


@dataclass(frozen=True)
class Column:
    """What is told of one column. baseline: by what the attacker has of its own; None where it has nothing
    but the mean, which is 0. gain: over the baseline, or over the mean where that is better."""

    name: str
    told: Estimate
    baseline: Estimate | None
    gain: Estimate


@one_thread()
def invert(
    activations: Tensor,
    columns: Dense,
    names: Sequence[str],
    known: int,
    seed: bytes,
    own: Tensor | None = None,
) -> list[Column]:
    """Attack activations, float32 [n, cut]. The same arguments give the same figures.

    columns: of the same rows, as numbers; names: of its groups. known: rows that the decoder is trained on;
    DRAWS such choices are made, and the others tell how well it does. own: what the attacker knows of these
    rows without the activations, [n, d].
    Raises ValueError for fewer than LEAST rows on either side.
    """
    if not LEAST <= known <= len(activations) - LEAST:
        raise ValueError(f"known must be at least {LEAST}, and leave as many of {len(activations)} rows")
    truth = columns.table.numpy().astype(np.float64)
    group = groups_of(np.zeros(len(truth), dtype=np.int64), seed)
    sources: Mapping[str, Tensor] = {"told": activations} | ({} if own is None else {"baseline": own})
    cells = {source: np.full((len(names), DRAWS, GROUPS), np.nan) for source in sources}
    for draw in range(DRAWS):
        order = permutation(seed, f"known {draw}", len(truth))
        known_rows, rest = order[:known], np.ones(len(truth), dtype=bool)
        rest[known_rows.numpy()] = False
        guess = truth[known_rows.numpy()].mean(0)
        for source, table in sources.items():
            decoded = decode(table, truth, known_rows, columns.groups, b"%s %d" % (seed, draw))
            for place, span in enumerate(columns.groups):
                error = ((decoded[:, span] - truth[:, span]) ** 2).sum(1)
                spread = ((guess[span] - truth[:, span]) ** 2).sum(1)
                cells[source][place, draw] = _r2(error, spread, rest, group)
    found = []
    for place, name in enumerate(names):
        told = cells["told"][place]
        other = cells["baseline"][place] if own is not None else np.zeros_like(told)
        better = other if np.nanmean(other) > 0 else np.zeros_like(told)
        baseline = Estimate.of(other) if own is not None else None
        found.append(Column(name, Estimate.of(told), baseline, Estimate.of(told - better)))
    return found


def decode(
    table: Tensor, truth: NDArray[np.float64], known: Tensor, groups: Sequence[list[int]], seed: bytes
) -> NDArray[np.float64]:
    """[n, d] from the table [n, v]: of each group of columns by the decoder, linear or network, that does
    better on a fifth of the known rows; the other four fifths are what both are trained on."""
    held, fit = known[: len(known) // 5], known[len(known) // 5 :]
    inputs, target = standard(table, fit), standard(torch.from_numpy(truth), fit)
    decoders = [_linear(inputs, target, fit.numpy(), held.numpy())]
    decoders.append(_network(inputs, target, fit, held, seed))
    decoded = np.empty_like(truth)
    own = truth[fit.numpy()]
    mean, deviation = own.mean(0), own.std(0)
    back = [each * deviation + mean for each in decoders]
    for span in groups:
        lost = [((one[held.numpy()][:, span] - truth[held.numpy()][:, span]) ** 2).mean() for one in back]
        decoded[:, span] = back[int(np.argmin(lost))][:, span]
    return decoded


def _linear(
    inputs: NDArray[np.float64], target: NDArray[np.float64], fit: NDArray[np.int64], held: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Ridge regression; of the penalties the best on the held-out rows."""
    left, singular, right = np.linalg.svd(inputs[fit], full_matrices=False)
    turned = left.T @ target[fit]

    def decoded(penalty: float) -> NDArray[np.float64]:
        shrunk = singular / (singular**2 + penalty * len(fit))
        found: NDArray[np.float64] = inputs @ (right.T @ (shrunk[:, None] * turned))
        return found

    def lost(penalty: float) -> float:
        return float(((decoded(penalty)[held] - target[held]) ** 2).mean())

    return decoded(min(PENALTIES, key=lost))


def _network(
    inputs: NDArray[np.float64], target: NDArray[np.float64], fit: Tensor, held: Tensor, seed: bytes
) -> NDArray[np.float64]:
    """Two hidden layers; of the weights at every so many steps the best on the held-out rows."""
    source, wanted = (torch.from_numpy(table).float() for table in (inputs, target))
    network = perceptron((source.shape[1], HIDDEN, HIDDEN, wanted.shape[1]), seed)
    optimizer, random = torch.optim.Adam(network.parameters(), RATE), strong_generator(seed, "batches")
    best, least = network(source).detach(), float("inf")
    for step in range(1, STEPS + 1):
        batch = fit[torch.randint(len(fit), (min(BATCH, len(fit)),), generator=random)]
        loss = mse_loss(network(source[batch]), wanted[batch])
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        if step % JUDGED == 0:
            with torch.no_grad():
                lost = mse_loss(network(source[held]), wanted[held]).item()
                if lost < least:
                    best, least = network(source), lost
    found: NDArray[np.float64] = best.double().numpy()
    return found


def _r2(
    error: NDArray[np.float64],
    spread: NDArray[np.float64],
    rest: NDArray[np.bool_],
    group: NDArray[np.int64],
) -> list[float]:
    """Of each group of users, so that their mean is the R2 of all: that, and how far the group moves it (the
    ratio's linear part). NaN for a group of which none is left, and for a column that is constant."""
    whole, varies = float(error[rest].mean()), float(spread[rest].mean())
    found = []
    for part in range(GROUPS):
        rows = rest & (group == part)
        if not rows.any() or not varies:
            found.append(float("nan"))
            continue
        moved = (whole / varies) * spread[rows].mean() - error[rows].mean()
        found.append(float(1 - whole / varies + moved / varies))
    return found
