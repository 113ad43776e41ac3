"""What a partner answered lately, so that it need not be asked again."""

import threading
import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray


class EmbeddingCache:
    """At most `rows` embeddings of `width` numbers, each for `seconds`; the oldest goes first.

    users: of the alignment, 4 bytes each. clock: seconds. All numpy: a look-up of a whole request is a few
    microseconds.
    """

    def __init__(
        self,
        users: int,
        width: int,
        rows: int,
        seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._seconds, self._clock = seconds, clock
        self._on = rows > 0 and seconds > 0
        rows = min(rows, users) if self._on else 0
        self._lock = threading.Lock()
        self._slot = np.full(users if self._on else 0, -1, np.int32)
        self._user = np.full(rows, -1, np.int64)
        self._values = np.zeros((rows, width), np.float32)
        self._until = np.full(rows, -np.inf)
        self._next, self._width = 0, width

    def get(self, users: NDArray[np.int64]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """[n, width], and which of them were there [n]; the others' rows are zeros."""
        found = np.zeros((len(users), self._width), np.float32)
        if not self._on:
            return found, np.zeros(len(users), np.bool_)
        with self._lock:
            slots = self._slot[users]
            there = slots >= 0
            there[there] = self._until[slots[there]] > self._clock()
            found[there] = self._values[slots[there]]
        return found, there

    def drop(self, users: NDArray[np.int64]) -> None:
        if not self._on:
            return
        with self._lock:
            slots = self._slot[users]
            self._user[slots[slots >= 0]] = -1
            self._slot[users] = -1

    def put(self, users: NDArray[np.int64], embeddings: NDArray[np.float32]) -> None:
        """users: [n], none twice. embeddings: [n, width]."""
        if not self._on:
            return
        room = len(self._user)
        users, embeddings = users[-room:], embeddings[-room:]
        with self._lock:
            before = self._slot[users]
            self._user[before[before >= 0]] = -1
            slots = (self._next + np.arange(len(users))) % room
            gone = self._user[slots]
            self._slot[gone[gone >= 0]] = -1
            self._user[slots], self._slot[users] = users, slots
            self._values[slots], self._until[slots] = embeddings, self._clock() + self._seconds
            self._next = (self._next + len(users)) % room
