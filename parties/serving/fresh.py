"""A fresh table while we serve: read when its file has changed, or at SIGHUP; one that does not do is told
of, and the rows before go on serving."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final

from parties.errors import DataError, PartyError
from parties.serving.store import Store
from psi import IdError

EVERY: Final = 1.0
"""Seconds from one look at the file to the next."""

Stamp = tuple[int, int, int] | None


def stamp_of(file: Path) -> Stamp:
    """None where it is not there."""
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


class Fresh:
    """`with Fresh(...):` while it serves. read: the store anew. put: the store in place of the one before."""

    def __init__(
        self,
        file: Path,
        before: Store,
        read: Callable[[], Store],
        put: Callable[[Store], None],
        say: Callable[[str], None],
        every: float = EVERY,
    ) -> None:
        self._file, self._schema, self._read, self._put, self._say = file, before.schema, read, put, say
        self._every, self._stop, self._asked = every, threading.Event(), threading.Event()
        self._stamp = self._seen = stamp_of(file)
        self._thread = threading.Thread(target=self._look, name="fresh", daemon=True)

    def __enter__(self) -> "Fresh":
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._asked.set()
        self._thread.join(self._every)

    def again(self) -> None:
        """Read it at the next look, whether it seems to have changed or not."""
        self._asked.set()

    def _look(self) -> None:
        while not self._stop.is_set():
            asked = self._asked.wait(self._every)
            self._asked.clear()
            if not self._stop.is_set():
                self.look(asked)

    def look(self, asked: bool = False) -> None:
        """What has changed is read when it was the same at two looks: at the first it may be under way."""
        now = stamp_of(self._file)
        steady, self._seen = now == self._seen, now
        if now is None or not (asked or (steady and now != self._stamp)):
            return
        self._stamp = now
        try:
            store = self._read()
            if store.schema != self._schema:
                raise DataError(f"{self._file}: has columns of other kinds than the table before")
            if stamp_of(self._file) != now:
                raise DataError(f"{self._file}: was changed as it was read")
        except (PartyError, IdError) as error:
            self._say(f"{error}; the rows before go on serving")
        except Exception as error:
            self._say(f"{self._file}: cannot be read ({type(error).__name__}); the rows before go on serving")
        else:
            self._put(store)
            self._say(f"{self._file}: {store.blank:,} rows read anew")


class Rows:
    """The look-out that there is, of one version of the model after another; `with Rows(first):`."""

    def __init__(self, first: Fresh) -> None:
        self._fresh, self._lock, self._over = first, threading.Lock(), False

    def __enter__(self) -> "Rows":
        self._fresh.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        with self._lock:
            self._over = True
            self._fresh.__exit__()

    def replace(self, fresh: Fresh) -> None:
        with self._lock:
            if not self._over:
                self._fresh.__exit__()
                self._fresh = fresh
                fresh.__enter__()

    def again(self) -> None:
        self._fresh.again()
