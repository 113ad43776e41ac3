"""Labels that lie now and then: differential privacy of the labels, by randomised response.

Each label is kept with probability e^epsilon / (e^epsilon + K - 1), else it becomes one of the K - 1 others
(Warner 1965, "Randomized Response"; Kairouz et al. 2014, "Extremal Mechanisms for Local Differential
Privacy"). It is epsilon-differentially private for each label, and so is all that is computed from such
labels alone. The loss is corrected so that its mean over the lies is that of the true labels (Natarajan et
al. 2013, "Learning with Noisy Labels", lemma 1; Patrini et al. 2017, "Making Deep Neural Networks Robust to
Label Noise", theorem 1).

A record lies once and for ever: drawn again in another run, the lies would average out. So they are a
function of an own secret, the label's column, the number of classes, epsilon, and the record. Not of
the record alone: with one draw for two values of epsilon, or for two columns, the two answers together would
tell where it lied. Other values are other releases, and their epsilons add up.
"""

import hashlib
import math
from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

from splitnn.randomness import stream

MOST = 30.0
"""Of epsilon. Draws have 53 bits: beyond some 36 nothing would ever be changed."""


def draws(secret: bytes, column: str, classes: int, epsilon: float, records: Iterable[bytes]) -> Tensor:
    """What decides how each record answers: float64 [n, 2], uniform in [0, 1).

    secret: of the label holder, the same in every run. records: what names each record in every run. By
    keyed BLAKE2b (RFC 7693), a pseudo-random function.
    """
    key = stream(secret, f"randomised response {classes} {epsilon!r} {column}", 64)
    digests = b"".join(hashlib.blake2b(record, digest_size=16, key=key).digest() for record in records)
    words = np.frombuffer(digests, "<u8").reshape(-1, 2)
    return torch.from_numpy((words >> 11) * 2.0**-53)


def keep(epsilon: float, classes: int) -> float:
    """How probably a label is left as it is."""
    return 1 / (1 + (classes - 1) * math.exp(-epsilon))


def answers(labels: Tensor, drawn: Tensor, classes: int, epsilon: float) -> Tensor:
    """The labels with their lies. labels: 0 to classes - 1, [n] of any dtype. drawn: of `draws`, [n, 2]."""
    lies = drawn[:, 0] >= keep(epsilon, classes)
    steps = 1 + (drawn[:, 1] * (classes - 1)).long()  # to another class, each as probable
    return torch.where(lies, (labels.long() + steps) % classes, labels.long()).to(labels.dtype)


def debiased(labels: Tensor, classes: int, epsilon: float) -> Tensor:
    """Targets, one a class and float32 [n, classes], with which a loss that is linear in them is unbiased.

    Of the answers `labels` [n]. A row's sum is 1; some are negative.
    """
    kept = keep(epsilon, classes)
    other = (1 - kept) / (classes - 1)
    told = torch.nn.functional.one_hot(labels.long(), classes).double()
    return ((told - other) / (kept - other)).float()
