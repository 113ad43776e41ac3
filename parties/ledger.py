"""The privacy ledger: what this party spent with each partner over all runs, and a budget that refuses more.

storage/<party>.privacy.sqlite, one table, append-only (triggers say so) and hash-chained (`parties.chain`).
An entry is canonical JSON. The first names the owner; each other one is a charge (`parties.charges`): of one
run with one partner by one mechanism, `reserved` before anything is released, and `spent` when the run is
over and used less. A run that is killed stays charged with what it reserved, one that ends by an error with
what had left until then; one that goes on is charged once.

No file is a new account. A file is whole from its beginning on: one without any entry has lost them.
"""

import json
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from parties.chain import FIRST, canonical, link
from parties.charges import DELTA, Budget, Charge, Total, larger, total_of, total_with
from parties.errors import AccountError, StorageError
from parties.storage import write

CHAIN: Final = "privacy ledger"
FORMAT: Final = "vertical privacy ledger 1"

SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS ledger
    (number INTEGER PRIMARY KEY, entry TEXT NOT NULL, link TEXT NOT NULL) STRICT;
CREATE TRIGGER IF NOT EXISTS no_update BEFORE UPDATE ON ledger BEGIN SELECT RAISE(ABORT, 'append-only'); END;
CREATE TRIGGER IF NOT EXISTS no_delete BEFORE DELETE ON ledger BEGIN SELECT RAISE(ABORT, 'append-only'); END;
"""


def path_of(storage: Path, owner: str) -> Path:
    return storage / f"{owner}.privacy.sqlite"


class Ledger:
    """owner: this party's name; key: its key's fingerprint. clock: seconds since 1970.

    Raises AccountError for a ledger of another owner, and for one that is not as it was written; StorageError
    where it cannot be used.
    """

    def __init__(self, storage: Path, owner: str, key: str, clock: Callable[[], float] | None = None) -> None:
        self.path, self._clock = path_of(storage, owner), clock or time.time
        self._first = {"format": FORMAT, "owner": owner, "key": key}
        self.charges()

    def reserve(self, charge: Charge, budget: Budget | None = None) -> Total:
        """Charge a run with the most that it may spend, before it releases anything; what that makes in all.
        The first charge of all makes the file: whoever charges holds the storage's lock.

        A run that is charged already is charged the larger of both. Raises BudgetError, and nothing is
        charged, where the total would be above the budget, and where the run has none to be held against it.
        """
        if not self._exists():
            self._begin()
        with self._open() as database:
            charges = self._charges(database)
            before = next((one for one in charges if one.of == charge.of), None)
            now = charge if before is None else larger(before, charge)
            total = total_with(charges, now, budget)
            if now != before:
                self._append(database, {"charge": "reserved", **asdict(now)})
            return total

    def settle(self, charge: Charge) -> None:
        """The run is over and has spent this. Raises AccountError where nothing was reserved for it."""
        with self._open() as database:
            charges = self._charges(database)
            if charge.of not in {one.of for one in charges}:
                raise AccountError(
                    f"{self.path}: run {charge.run[:12]} ends without having begun: the file was replaced "
                    "meanwhile; restore it from a copy"
                )
            if charge not in charges:
                self._append(database, {"charge": "spent", **asdict(charge)})

    def totals(self, delta: float = DELTA) -> dict[str, Total]:
        """By partner's key."""
        charges = self.charges()
        return {one.partner: total_of(charges, one.partner, delta) for one in charges}

    def charges(self) -> list[Charge]:
        """What counts, in the order in which it was first charged."""
        if not self._exists():
            return []
        with self._open() as database:
            return self._charges(database)

    @property
    def head(self) -> bytes:
        """The last link: who notes it can tell later whether the ledger was cut or made anew."""
        if not self._exists():
            return FIRST
        with self._open() as database:
            return _head(database)

    def _exists(self) -> bool:
        try:
            return self.path.exists()
        except OSError as error:
            raise StorageError(f"cannot use {self.path}: {error.strerror}") from error

    def _begin(self) -> None:
        """The file appears with its first entry, or not at all."""
        with closing(sqlite3.connect(":memory:")) as database:
            database.executescript(SCHEMA)
            self._append(database, self._first)
            database.commit()
            write(self.path, database.serialize())

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        """A transaction that no other process shares."""
        try:
            where = f"file:{quote(str(self.path.absolute()))}?mode=rw"  # what is gone is not made anew
            with closing(sqlite3.connect(where, uri=True, timeout=30, isolation_level=None)) as database:
                database.executescript(SCHEMA)
                database.execute("BEGIN IMMEDIATE")
                yield database
                database.execute("COMMIT")
        except sqlite3.DatabaseError as error:
            code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
            if isinstance(error, sqlite3.OperationalError) and code != sqlite3.SQLITE_ERROR:
                raise StorageError(f"cannot use {self.path}: {error}") from error
            raise AccountError(f"{self.path} is damaged ({error}): restore it from a copy") from error

    def _charges(self, database: sqlite3.Connection) -> list[Charge]:
        """What counts of each run, partner and mechanism: the last word on it."""
        first, *others = self._entries(database)
        if any(first.get(key) != value for key, value in self._first.items()):
            raise AccountError(
                f"{self.path} is the ledger of {first.get('owner')!r} with another key, or of another "
                "version; a new key of your own begins a new ledger: move the file away"
            )
        last: dict[tuple[str, str, str], Charge] = {}
        for place, entry in enumerate(others, 2):
            try:
                charge = Charge(**{k: v for k, v in entry.items() if k not in ("charge", "time")})
            except (TypeError, ValueError) as error:
                raise self._changed(place) from error
            last[charge.of] = charge
        return [*last.values()]

    def _entries(self, database: sqlite3.Connection) -> list[dict[str, Any]]:
        """At least one."""
        before, entries = FIRST, []
        rows = database.execute("SELECT number, entry, link FROM ledger ORDER BY number").fetchall()
        for place, (number, entry, found) in enumerate(rows, 1):
            try:
                before = link(CHAIN, before, entry.encode())
                whole = number == place and found == before.hex()
                told = json.loads(entry) if whole else None
            except (ValueError, AttributeError, RecursionError) as error:
                raise self._changed(place) from error
            if not isinstance(told, dict):
                raise self._changed(place)
            entries.append(told)
        if not entries:
            raise AccountError(
                f"{self.path} is empty, and an account never is: restore it from a copy; to begin a new "
                "account, move the file away"
            )
        return entries

    def _changed(self, place: int) -> AccountError:
        return AccountError(
            f"{self.path}, entry {place}: the ledger was changed from here on: restore it from a copy"
        )

    def _append(self, database: sqlite3.Connection, entry: dict[str, Any]) -> None:
        body = canonical({"time": round(self._clock(), 3)} | entry)
        head = link(CHAIN, _head(database), body)
        database.execute("INSERT INTO ledger (entry, link) VALUES (?, ?)", (body.decode(), head.hex()))


def _head(database: sqlite3.Connection) -> bytes:
    found = database.execute("SELECT link FROM ledger ORDER BY number DESC LIMIT 1").fetchone()
    return bytes.fromhex(found[0]) if found else FIRST
