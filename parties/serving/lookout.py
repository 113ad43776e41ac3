"""A thread that looks again and again whether something of this party's has changed."""

import threading
from collections.abc import Callable
from typing import Self


class Lookout:
    """`with Lookout(name, look, every):` calls `look(False)` every so many seconds, and `look(True)` at once
    where `again` asks for it. What `look` raises ends the thread: it is to raise nothing."""

    def __init__(self, name: str, look: Callable[[bool], None], every: float) -> None:
        self._look, self._every = look, every
        self._stop, self._asked = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._asked.set()
        self._thread.join(self._every)

    def again(self) -> None:
        self._asked.set()

    def _work(self) -> None:
        while not self._stop.is_set():
            asked = self._asked.wait(self._every)
            self._asked.clear()
            if not self._stop.is_set():
                self._look(asked)
