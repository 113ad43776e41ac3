"""Torch on one thread, for bits that do not depend on how many cores there are."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def single_threaded() -> Iterator[None]:
    """A sum in another order has other bits. Afterwards torch has as many threads as before: the process may
    be somebody's notebook."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
