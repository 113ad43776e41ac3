"""How many a second: a token bucket (Turner 1986, "New directions in communications")."""

import threading
import time
from collections.abc import Callable


class TokenBucket:
    """`rate` a second, and at once no more than `burst`. clock: seconds."""

    def __init__(self, rate: float, burst: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.rate, self.burst, self._clock = rate, burst, clock
        self._lock = threading.Lock()
        self._left, self._at = burst, clock()

    def take(self, count: int) -> bool:
        """All of so many, or none of them."""
        with self._lock:
            now = self._clock()
            self._left = min(self.burst, self._left + self.rate * max(0.0, now - self._at))
            self._at = now
            if count > self._left:
                return False
            self._left -= count
            return True
