"""Noise on the gradients at the cut, so that they tell less of the labels: `max_norm` and `iso`.

Both are of Li et al. 2022, "Label Leakage and Protection in Two-party Split Learning" (ICLR, section 4.1).
They know no label, and so fit every task; `splitnn.marvell` is the third. Strength 0 is the identity, to the
bit. gradient: [b, d] float32. noise: independent standard normals, [b, 1] for max_norm, else [b, d].
"""

import math

import torch
from torch import Tensor


def max_norm(gradient: Tensor, strength: float, noise: Tensor) -> Tensor:
    """Each row as long, in the mean square, as the batch's longest: the row g times 1 + s e, e normal, one
    number a row, s = strength * sqrt(max |g|^2 / |g|^2 - 1). Its direction stays. A row of zeros stays.

    Strength 1 is the paper's: then E |row|^2 = max |g|^2 for every row that is not 0.
    """
    if not strength:
        return gradient
    rows = gradient.double()
    squares = rows.square().sum(1, keepdim=True)
    missing = (squares.max() - squares).sqrt() * strength
    lengths = squares.sqrt()
    unit = torch.where(lengths > 0, rows / lengths, 0.0)
    return gradient + (missing * noise * unit).float()


def iso(gradient: Tensor, strength: float, noise: Tensor) -> Tensor:
    """Every row plus noise of the same length in all directions: strength * max |g| in the mean square."""
    if not strength:
        return gradient
    longest = torch.linalg.vector_norm(gradient, dim=1, dtype=torch.float64).max()
    deviation: Tensor = strength * longest / math.sqrt(gradient.shape[1])
    return gradient + deviation.float() * noise
