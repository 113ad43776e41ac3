"""A fresh table while we serve: read when its file has changed, or at SIGHUP; one that does not do is told
of, and the rows before go on serving."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final, Self

from parties.errors import DataError, PartyError
from parties.excluded import told_of_excluded
from parties.serving.lookout import Lookout
from parties.serving.store import Store
from parties.sources.file_state import state_of
from parties.sources.source import Source
from psi import IdError

EVERY: Final = 1.0
"""Seconds from one look at the file to the next."""


class Fresh:
    """read: the store anew. put: the store in place of the one before. exclude_ids: a list that is watched,
    too."""

    def __init__(
        self,
        source: Source,
        before: Store,
        read: Callable[[], Store],
        put: Callable[[Store], None],
        say: Callable[[str], None],
        exclude_ids: Path | None = None,
    ) -> None:
        self._source, self._schema, self._read, self._put, self._say = source, before.schema, read, put, say
        self._exclude_ids = exclude_ids
        self._stamp = self._seen = self._state()

    def look(self, asked: bool = False) -> None:
        """What has changed is read when it was the same at two looks: at the first it may be under way.
        asked: read it now, whether it seems to have changed or not."""
        now = self._state()
        steady, self._seen = now == self._seen, now
        if now is None or not (asked or (steady and now != self._stamp)):
            return
        self._stamp = now
        try:
            store = self._read()
            if store.schema != self._schema:
                raise DataError(f"{self._source}: has columns of other kinds than the table before")
            if self._state() != now:
                raise DataError(f"{self._source}: was changed as it was read")
        except (PartyError, IdError) as error:
            self._say(f"{error}; the rows before go on serving")
        except Exception as error:
            self._say(
                f"{self._source}: cannot be read ({type(error).__name__}); the rows before go on serving"
            )
        else:
            self._put(store)
            self._say(f"{self._source}: {store.blank:,} rows read anew")
            if store.excluded is not None:
                self._say(told_of_excluded(store.excluded.facts()))

    def _state(self) -> object:
        """Of the table and the list of people to leave out; None where there is no table."""
        source = self._source.state()
        beside = None if self._exclude_ids is None else state_of(self._exclude_ids)
        return None if source is None else (source, beside)


class Rows:
    """Looks out for fresh rows of one version of the model after another; `with Rows(first):`."""

    def __init__(self, first: Fresh) -> None:
        self._lookout, self._lock, self._over = _over(first), threading.Lock(), False

    def __enter__(self) -> Self:
        self._lookout.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        with self._lock:
            self._over = True
            self._lookout.__exit__()

    def replace(self, fresh: Fresh) -> None:
        with self._lock:
            if not self._over:
                self._lookout.__exit__()
                self._lookout = _over(fresh)
                self._lookout.__enter__()

    def again(self) -> None:
        self._lookout.again()


def _over(fresh: Fresh) -> Lookout:
    return Lookout("fresh", fresh.look, EVERY)
