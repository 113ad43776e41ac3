"""Secret random orders."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray


def permutation(count: int, random: Callable[[int], bytes]) -> NDArray[np.int64]:
    """[count]: each order of 0 to count - 1 equally likely, as `random` is.

    By sorting 64-bit random numbers. Two equal ones would stay in their old order: they are drawn again.
    """
    while True:
        drawn = np.frombuffer(random(8 * count), "<u8")
        order = np.argsort(drawn)
        ranked = drawn[order]
        if not (ranked[1:] == ranked[:-1]).any():
            return order
