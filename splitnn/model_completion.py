"""Model completion: what a feature holder's trained bottom model tells it of labels that it was never told.

Training makes a bottom model's activations tell the label apart. Whoever knows a few labels can put a head
of its own on the bottom model, in place of the top that it does not have (Fu et al. 2022, "Label Inference
Attacks Against Vertical Federated Learning"). Its columns may tell as much by themselves, so
each attack has a baseline that differs in one thing, the weights that training across the cut has left:

| head | attack | baseline |
|---|---|---|
| linear (logistic, cross-validated) | on the activations | on the columns |
| network (two layers and the bottom model) | from the bottom's weights | from fresh weights |
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from splitnn.attacks import auc
from splitnn.dense import dense
from splitnn.features import Features
from splitnn.importance import activation_of
from splitnn.probe import one_thread, perceptron, standard
from splitnn.randomness import permutation, strong_generator
from splitnn.schedule import chunks
from splitnn.spread import DRAWS, GROUPS, Estimate, groups_of

KNOWN, LEFT = 2, GROUPS
"""Labels of each class, at least: that are known, and that are left to measure by."""
STRENGTHS: Final = (1e-3, 1e-2, 1e-1, 1.0, 10.0)
"""Of the linear head: the inverse of the penalty's weight."""
HIDDEN: Final = 64
STEPS: Final = 300
BATCH: Final = 64
RATE: Final = 1e-3


@dataclass(frozen=True)
class Completion:
    """AUC on users whose labels were not known (of several classes: the mean, each against the others).

    known: labels that the attacker had in each draw. attack, baseline: by head. gain: of the best head of
    the attack over the best one of the baseline.
    """

    known: int
    attack: dict[str, Estimate]
    baseline: dict[str, Estimate]
    gain: Estimate


@one_thread()
def complete(
    fresh: Callable[[bytes], nn.Module],
    weights: Mapping[str, Tensor],
    features: Features,
    labels: Tensor,
    known: int,
    seed: bytes,
) -> Completion:
    """Attack a trained bottom model. The same arguments give the same figures.

    fresh: a bottom model with initial weights from this seed; weights: the trained one's. features, labels
    (places among the classes, int64 [n]): of the users whose labels are in hand; known: so many of them are
    told to the attacker, the others tell how well it does. DRAWS such choices are made.
    Raises ValueError where a class has fewer than KNOWN + LEFT labels, or known leaves no room for these.
    """
    classes = labels.numpy()
    counts = np.bincount(classes)
    if (counts < KNOWN + LEFT).any() or len(counts) < 2:
        raise ValueError(f"two classes and {KNOWN + LEFT} labels of each are needed")
    if not KNOWN * len(counts) <= known <= len(labels) - LEFT * len(counts):
        most = len(labels) - LEFT * len(counts)
        raise ValueError(f"known labels must be {KNOWN * len(counts)} to {most} of these {len(labels)}")
    everybody = torch.arange(len(labels))
    trained = _with(fresh(seed), weights)
    activations = activation_of(trained.eval(), map(features.batch, chunks(everybody)))
    columns = dense(features, everybody).table
    group = groups_of(classes, seed)
    cells = {
        (side, head): np.full((DRAWS, GROUPS), np.nan)
        for side in ("attack", "baseline")
        for head in ("linear", "network")
    }
    for draw in range(DRAWS):
        told = drawn(classes, known, seed, draw)
        scores = {
            ("attack", "linear"): _linear(activations, classes, told),
            ("baseline", "linear"): _linear(columns, classes, told),
        }
        for side in ("attack", "baseline"):
            own = b"%s %d" % (seed, draw)
            bottom = _with(fresh(own), weights) if side == "attack" else fresh(own)
            scores[side, "network"] = _network(bottom, features, labels, told, own)
        rest = np.ones(len(labels), dtype=bool)
        rest[told.numpy()] = False
        for key, score in scores.items():
            for part in range(GROUPS):
                cells[key][draw, part] = _auc(classes, score, rest & (group == part))
    best = {
        side: max((cells[side, head] for head in ("linear", "network")), key=np.nanmean)
        for side in ("attack", "baseline")
    }
    attack, baseline = (
        {head: Estimate.of(cells[side, head]) for head in ("linear", "network")}
        for side in ("attack", "baseline")
    )
    return Completion(known, attack, baseline, Estimate.of(best["attack"] - best["baseline"]))


def drawn(classes: NDArray[np.int64], known: int, seed: bytes, draw: int) -> Tensor:
    """Rows whose labels the attacker knows: at random, but KNOWN of every class, and LEFT of it are not."""
    order = permutation(seed, f"known {draw}", len(classes)).numpy()
    of_class = [order[classes[order] == one] for one in np.unique(classes)]
    first = np.concatenate([rows[:KNOWN] for rows in of_class])
    last = np.concatenate([rows[-LEFT:] for rows in of_class])
    free = order[~np.isin(order, np.concatenate((first, last)))]
    return torch.from_numpy(np.concatenate((first, free[: known - len(first)])))


def _with(module: nn.Module, weights: Mapping[str, Tensor]) -> nn.Module:
    module.load_state_dict(weights)
    return module


def _linear(table: Tensor, classes: NDArray[np.int64], told: Tensor) -> NDArray[np.float64]:
    """Scores [n, classes] of a logistic regression on the told rows."""
    inputs, known, truth = standard(table, told), told.numpy(), classes[told.numpy()]
    inputs = inputs @ np.linalg.svd(inputs[known], full_matrices=False)[2].T  # where the weights can only be

    def fitted(strength: float, rows: NDArray[np.int64]) -> LogisticRegression:
        return LogisticRegression(C=strength, solver="newton-cholesky").fit(inputs[known[rows]], truth[rows])

    def lost(strength: float) -> float:
        folds = StratifiedKFold(min(5, int(np.bincount(truth).min()))).split(truth, truth)
        each = []
        for fit, held in folds:
            model = fitted(strength, fit)
            right = model.predict_proba(inputs[known[held]])[np.arange(len(held)), truth[held]]
            each.append(-np.log(np.maximum(right, 1e-12)).mean())
        return float(np.mean(each))

    strength = min(STRENGTHS, key=lost)
    return np.asarray(fitted(strength, np.arange(len(known))).predict_proba(inputs), dtype=np.float64)


def _network(
    bottom: nn.Module, features: Features, labels: Tensor, told: Tensor, seed: bytes
) -> NDArray[np.float64]:
    """Scores [n, classes] of a head and the bottom model under it, both trained on the told rows."""
    with torch.no_grad():
        width = bottom.eval()(*features.batch(told[:1])).shape[1]
    head = perceptron((width, HIDDEN, int(labels.max()) + 1), seed)
    random = strong_generator(seed, "batches")
    network = nn.ModuleList([bottom, head]).train()
    optimizer = torch.optim.Adam(network.parameters(), RATE)
    for _ in range(STEPS):
        batch = told[torch.randint(len(told), (min(BATCH, len(told)),), generator=random)]
        loss = cross_entropy(head(bottom(*features.batch(batch))), labels[batch])
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    network.eval()
    with torch.no_grad():
        logits = [head(bottom(*features.batch(rows))) for rows in chunks(torch.arange(len(labels)))]
    return torch.cat(logits).double().softmax(1).numpy()


def _auc(classes: NDArray[np.int64], scores: NDArray[np.float64], rows: NDArray[np.bool_]) -> float:
    """Each class against the others, the mean; NaN where these rows are of one class."""
    truth = torch.from_numpy(classes[rows])
    each = [
        auc(torch.from_numpy(score), truth == one, sure=False) for one, score in enumerate(scores[rows].T)
    ]
    return float(np.mean([area.value for area in each if area is not None] or [np.nan]))
