"""The privacy ledger: what this party spent with each partner over all runs, and a budget that refuses more.

storage/<party>.privacy.sqlite, one table, append-only (triggers say so) and hash-chained (`parties.chain`).
An entry is canonical JSON. The first names the owner; each other one is a charge: of one run with one partner
by one mechanism, `reserved` before anything is released, and `spent` when the run is over and used less. A
run that is killed stays charged with what it reserved, one that ends by an error with what had left until
then; one that goes on is charged once.

What counts is the worst row: one that is in every run, and is released as often as any. Charges of Gaussian
noise add up as rho, and become an epsilon together (`splitnn.accountant`); pure epsilons add up; what is
drawn once and kept, the same answers in every run (`kept`), counts once. A run without noise is in it, and
adds nothing to the epsilon: no epsilon bounds it, which is said in words beside what the others add up to.
"""

import json
import os
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

from parties.chain import FIRST, canonical, link
from parties.errors import AccountError, BudgetError, StorageError
from splitnn.accountant import epsilon

CHAIN: Final = "privacy ledger"
FORMAT: Final = "vertical privacy ledger 1"
DELTA: Final = 1e-5
"""At which epsilons are shown where no budget says otherwise."""

SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS ledger
    (number INTEGER PRIMARY KEY, entry TEXT NOT NULL, link TEXT NOT NULL) STRICT;
CREATE TRIGGER IF NOT EXISTS no_update BEFORE UPDATE ON ledger BEGIN SELECT RAISE(ABORT, 'append-only'); END;
CREATE TRIGGER IF NOT EXISTS no_delete BEFORE DELETE ON ledger BEGIN SELECT RAISE(ABORT, 'append-only'); END;
"""


@dataclass(frozen=True)
class Budget:
    """With one partner, over all runs. Raises ValueError for one that is none."""

    epsilon: float
    delta: float = DELTA

    def __post_init__(self) -> None:
        if not 0 < self.epsilon < float("inf"):
            raise ValueError(f"a budget's epsilon must be above 0 and finite, not {self.epsilon:g}")
        if not 0 < self.delta < 1:
            raise ValueError(f"a budget's delta must be above 0 and below 1, not {self.delta:g}")


@dataclass(frozen=True)
class Charge:
    """Of one run with one partner by one mechanism. Raises ValueError for negative numbers.

    partner: the fingerprint of its key; name: what run.toml calls it. run: hex. mechanism: `embedding`, ...
    rows: involved. releases: of each row, the most. rho: of Gaussian noise; pure: epsilon of any other;
    None, either: there is no bound. kept: names what was drawn once for all runs; empty: nothing was. One
    draw used at two strengths would tell what it hides: such charges add up, and the draws must differ.
    """

    partner: str
    name: str
    run: str
    mechanism: str
    rows: int
    releases: int
    rho: float | None = 0.0
    pure: float | None = 0.0
    kept: str = ""

    def __post_init__(self) -> None:
        spent = [number for number in (self.rho, self.pure) if number is not None]
        if any(not 0 <= number < float("inf") for number in spent) or min(self.rows, self.releases) < 0:
            raise ValueError("a charge of less than nothing, or of no number")

    @property
    def bounded(self) -> bool:
        """Does an epsilon say what it tells at most?"""
        return (self.rho is not None and self.pure is not None) or not self.releases

    @property
    def of(self) -> tuple[str, str, str]:
        return self.partner, self.run, self.mechanism


class Total(NamedTuple):
    """With one partner. rows, releases: the most of a run; of all runs. epsilon: of the runs with noise.
    unbounded: runs without it, which no epsilon bounds."""

    name: str
    runs: int
    rows: int
    releases: int
    epsilon: float
    unbounded: int


def path_of(storage: Path, owner: str) -> Path:
    return storage / f"{owner}.privacy.sqlite"


class Ledger:
    """owner: this party's name; key: its key's fingerprint. clock: seconds since 1970.

    Raises AccountError for a ledger of another owner, and for one that is not as it was written; StorageError
    where it cannot be used.
    """

    def __init__(self, storage: Path, owner: str, key: str, clock: Callable[[], float] | None = None) -> None:
        self.path, self._clock = path_of(storage, owner), clock or time.time
        with self._open() as database:
            if not self._entries(database):
                self._append(database, {"format": FORMAT, "owner": owner, "key": key})
            first = self._entries(database)[0]
            if (first.get("format"), first.get("owner"), first.get("key")) != (FORMAT, owner, key):
                raise AccountError(
                    f"{self.path} is the ledger of {first.get('owner')!r} with another key, or of another "
                    "version; a new key of your own begins a new ledger: move the file away"
                )

    def reserve(self, charge: Charge, budget: Budget | None = None) -> Total:
        """Charge a run with the most that it may spend, before it releases anything; what that makes in all.

        A run that is charged already is charged the larger of both. Raises BudgetError, and nothing is
        charged, where the total would be above the budget, and where the run has none to be held against it.
        """
        with self._open() as database:
            charges = _charges(self._entries(database))
            before = next((one for one in charges if one.of == charge.of), None)
            now = charge if before is None else larger(before, charge)
            total = total_with(charges, now, budget)
            if now != before:
                self._append(database, {"charge": "reserved", **asdict(now)})
            return total

    def settle(self, charge: Charge) -> None:
        """The run is over and has spent this. Raises AccountError where nothing was reserved for it."""
        with self._open() as database:
            charges = _charges(self._entries(database))
            if charge.of not in {one.of for one in charges}:
                raise AccountError(f"{self.path}: run {charge.run[:12]} ends without having begun")
            if charge not in charges:
                self._append(database, {"charge": "spent", **asdict(charge)})

    def totals(self, delta: float = DELTA) -> dict[str, Total]:
        """By partner's key."""
        with self._open() as database:
            charges = _charges(self._entries(database))
        return {one.partner: total_of(charges, one.partner, delta) for one in charges}

    def charges(self) -> list[Charge]:
        """What counts, in the order in which it was first charged."""
        with self._open() as database:
            return _charges(self._entries(database))

    @property
    def head(self) -> bytes:
        """The last link: who notes it can tell later whether the ledger was cut or made anew."""
        with self._open() as database:
            return self._head(database)

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        """A transaction that no other process shares."""
        try:
            if not self.path.exists():
                self.path.parent.mkdir(parents=True, exist_ok=True)
                file = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW, 0o600)
                os.fsync(file)
                os.close(file)
            database = sqlite3.connect(self.path, timeout=30, isolation_level=None)
            try:
                database.executescript(SCHEMA)
                database.execute("BEGIN IMMEDIATE")
                yield database
                database.execute("COMMIT")
            finally:
                database.close()
        except sqlite3.OperationalError as error:
            raise StorageError(f"cannot use {self.path}: {error}") from error
        except sqlite3.DatabaseError as error:
            raise AccountError(f"{self.path} is damaged ({error}): restore it from a copy") from error
        except OSError as error:
            raise StorageError(f"cannot use {self.path}: {error.strerror}") from error

    def _entries(self, database: sqlite3.Connection) -> list[dict[str, Any]]:
        before, entries = FIRST, []
        rows = database.execute("SELECT number, entry, link FROM ledger ORDER BY number").fetchall()
        for place, (number, entry, found) in enumerate(rows, 1):
            before = link(CHAIN, before, entry.encode())
            if number != place or found != before.hex():
                raise AccountError(f"{self.path}, entry {place}: the ledger was changed from here on")
            entries.append(json.loads(entry))
        return entries

    def _head(self, database: sqlite3.Connection) -> bytes:
        found = database.execute("SELECT link FROM ledger ORDER BY number DESC LIMIT 1").fetchone()
        return bytes.fromhex(found[0]) if found else FIRST

    def _append(self, database: sqlite3.Connection, entry: dict[str, Any]) -> None:
        body = canonical({"time": round(self._clock(), 3)} | entry)
        head = link(CHAIN, self._head(database), body)
        database.execute("INSERT INTO ledger (entry, link) VALUES (?, ?)", (body.decode(), head.hex()))


def _charges(entries: Iterable[dict[str, Any]]) -> list[Charge]:
    """What counts of each run, partner and mechanism: the last word on it."""
    last: dict[tuple[str, str, str], Charge] = {}
    for entry in entries:
        if "charge" in entry:
            try:
                charge = Charge(**{k: v for k, v in entry.items() if k not in ("charge", "time")})
            except (TypeError, ValueError) as error:
                raise AccountError("an entry of the privacy ledger is no charge: it was changed") from error
            last[charge.of] = charge
    return [*last.values()]


def larger(one: Charge, other: Charge) -> Charge:
    """Of two of the same run, partner and mechanism: what covers both."""

    def most(a: float | None, b: float | None) -> float | None:
        return None if a is None or b is None else max(a, b)

    return Charge(
        other.partner,
        other.name,
        other.run,
        other.mechanism,
        max(one.rows, other.rows),
        max(one.releases, other.releases),
        most(one.rho, other.rho),
        most(one.pure, other.pure),
        other.kept,
    )


def total_of(charges: Iterable[Charge], partner: str, delta: float) -> Total:
    """Of all charges with the partner."""
    own = [charge for charge in charges if charge.partner == partner]
    rho, pure, kept = 0.0, 0.0, set[tuple[str, float]]()
    for charge in own:
        if charge.rho is None or charge.pure is None:
            continue
        rho += charge.rho
        if charge.kept:
            kept.add((charge.kept, charge.pure))
        else:
            pure += charge.pure
    spent = pure + sum(strength for _, strength in kept) + epsilon(rho, delta)
    return Total(
        own[-1].name if own else "",
        len({charge.run for charge in own}),
        max((charge.rows for charge in own), default=0),
        sum(charge.releases for charge in own),
        spent,
        len({charge.run for charge in own if not charge.bounded}),
    )


def total_with(charges: Iterable[Charge], now: Charge, budget: Budget | None) -> Total:
    """With its partner, with this charge in place of what its run was charged before. Raises BudgetError."""
    charges = [*charges]
    others = [one for one in charges if one.of != now.of]
    total = total_of([*others, now], now.partner, budget.delta if budget else DELTA)
    if budget is not None and not now.bounded:
        raise BudgetError(f"the run has no noise, and no budget with {now.name} holds without: agree on some")
    if budget is not None and total.epsilon > budget.epsilon:
        spent = total_of(charges, now.partner, budget.delta).epsilon
        raise BudgetError(
            f"the run would bring what is spent with {now.name} from {spent:.3f} to {total.epsilon:.3f}, "
            f"over the budget of epsilon {budget.epsilon:g} at delta {budget.delta:g}: agree on more noise "
            "or fewer epochs, or raise the budget, in run.toml, then `party run --afresh`"
        )
    return total


def text(totals: dict[str, Total], delta: float) -> str:
    """For people: a partner a line; its key's first digits where another key had the same name."""
    if not totals:
        return "nothing was charged yet"
    lines = [f"{'partner':<24}{'runs':>6}{'rows':>12}{'releases':>10}{'epsilon':>12}  (at delta {delta:g})"]
    names = Counter(total.name for total in totals.values())

    def shown(key: str, name: str) -> str:
        return name if names[name] == 1 else f"{name} ({key.removeprefix('sha256:')[:8]})"

    lines += [
        f"{shown(key, total.name):<24}{total.runs:>6}{total.rows:>12}{total.releases:>10}"
        f"{total.epsilon:>12.3f}" + beside(total.unbounded)
        for key, total in sorted(totals.items())
    ]
    return "\n".join(lines)


def beside(unbounded: int) -> str:
    """What is to be said beside an epsilon, of so many runs that are not in it."""
    return f" and {unbounded} run(s) without noise, which no epsilon bounds" if unbounded else ""
