"""A fresh table, or list of people to leave out, while we serve: read when its file has changed, the table
also at SIGHUP. One that does not do is told of, and what was before goes on serving; it is tried again."""

import threading
from collections.abc import Callable
from typing import Final, Self

from parties.errors import DataError, PartyError
from parties.excluded import told_of_excluded
from parties.serving.lookout import Lookout
from parties.serving.store import Store
from parties.sources.file_state import state_of
from parties.sources.source import Source
from psi import IdError

EVERY: Final = 1.0
"""Seconds from one look at the files to the next."""
LONGEST: Final = 64
"""Looks until what failed is tried again; at first 2, then ever twice as many."""


class Fresh:
    """before: the store that is served. read: the store anew. put: the store in place of the one before.
    exclude: the same rows, less those of `data.exclude_ids` as it is now; the list is watched by itself."""

    def __init__(
        self,
        source: Source,
        before: Store,
        read: Callable[[], Store],
        put: Callable[[Store], None],
        say: Callable[[str], None],
        exclude: Callable[[Store], Store] | None = None,
    ) -> None:
        self._source, self._read, self._put, self._say = source, read, put, say
        self._exclude, self._store = exclude, before
        self._table, self._list = _Watched(source.state, before.state), None
        if exclude is not None and (excluded := before.excluded) is not None:
            self._list = _Watched(lambda: state_of(excluded.file), excluded.state)

    def look(self, asked: bool = False) -> None:
        """asked: read the table now, whether it seems to have changed or not, and the list if it failed."""
        listed = self._list
        if listed is not None and listed.due(asked and listed.owed):
            self._try(listed, self._excluding, "data.exclude_ids", "the people left out before stay so")
        if self._table.due(asked):
            self._try(self._table, self._anew, self._source, "the rows before go on serving")

    def _try(self, watched: "_Watched", make: Callable[[], Store], what: object, otherwise: str) -> None:
        try:
            store = make()
        except (PartyError, IdError) as error:
            line = f"{error}; {otherwise}"
        except Exception as error:
            line = f"{what}: cannot be read ({type(error).__name__}); {otherwise}"
        else:
            self._store = store
            self._put(store)
            if watched is self._table:
                watched.done(store.state)
                self._say(f"{self._source}: {store.blank:,} rows read anew")
            if self._list is not None and store.excluded is not None:
                self._list.done(store.excluded.state)
                self._say(told_of_excluded(store.excluded.facts()))
            return
        if watched.failed(line):
            self._say(line)

    def _excluding(self) -> Store:
        assert self._exclude is not None
        return self._exclude(self._store)

    def _anew(self) -> Store:
        store = self._read()
        if store.schema != self._store.schema:
            raise DataError(f"{self._source}: has columns of other kinds than the table before")
        if self._source.state() != store.state:
            raise DataError(f"{self._source}: was changed as it was read")
        return store


class _Watched:
    """Is it time to read it? state: of now. held: of what is served, from before that was read.

    What has changed is read when it was the same at two looks: at the first it may be under way. What failed
    is read again after ever longer pauses: not all that is mended shows.
    """

    def __init__(self, state: Callable[[], object], held: object) -> None:
        self._state = state
        self._seen = self._tried = held
        self._said, self._pause, self._rest = "", 1, 0

    def due(self, asked: bool) -> bool:
        now = self._state()
        steady, self._seen = now == self._seen, now
        self._rest -= 1
        again = self.owed and self._rest <= 0
        if not (asked or (steady and (again or now != self._tried))):
            return False
        self._tried = now
        return True

    def done(self, held: object) -> None:
        self._tried, self._said, self._pause, self._rest = held, "", 1, 0

    def failed(self, line: str) -> bool:
        """Is this news?"""
        self._pause = min(2 * self._pause, LONGEST)
        self._rest = self._pause
        before, self._said = self._said, line
        return line != before

    @property
    def owed(self) -> bool:
        """Did it fail when it was last read?"""
        return self._said != ""


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
