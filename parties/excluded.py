"""People who withdrew their consent: `data.exclude_ids` names a file of their ids, in this party's own form.

Each row of the table that has one of these ids, of any kind, takes no part: as if its ids stood nowhere.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

import psi
from parties.config import Config
from parties.errors import DataError
from parties.id_kinds import digest_key
from parties.sources.file_state import State, digest_of, state_of
from parties.storage import write
from parties.summary import as_json

RECORD: Final = "excluded.json"
"""In the folder of each result: as `Excluded.facts` tells it."""

NOBODY: Final = ": none of them is in the table; are they written in the same way, in the same encoding?"


@dataclass(frozen=True)
class Excluded:
    """What was left out. sha256: of the file, as it was `at` that time; state: of it, from just before.
    listed: rows of it with an id.

    rows: of the table, [n] int64, rising. digests: by kind of id, [m, 16], whether the table has them or not.
    """

    file: Path
    sha256: str
    state: State | None
    at: datetime
    listed: int
    rows: NDArray[np.int64]
    digests: Mapping[str, NDArray[np.uint8]]

    def takes_part(self, rows: int) -> NDArray[np.bool_]:
        """Of each row of a table of so many."""
        there = np.ones(rows, np.bool_)
        there[self.rows] = False
        return there

    def silent(self, kind: str, before: psi.Ids, left: psi.Ids) -> NDArray[np.uint8]:
        """[m, 16]: who is not to be told of by an id of this kind: the listed ones, and those whose rows are
        left out by an id of another kind. before, left: of the table, with and without these rows."""
        listed = self.digests.get(kind, np.empty((0, 16), np.uint8))
        return np.concatenate(
            (listed, before.digests[~np.isin(_as_one(before.digests), _as_one(left.digests))])
        )

    def facts(self) -> dict[str, Any]:
        """No id is in it."""
        return {
            "file": str(self.file),
            "sha256": self.sha256,
            "at": self.at.isoformat(timespec="seconds"),
            "listed": self.listed,
            "rows": len(self.rows),
        }


def told_of_excluded(facts: Mapping[str, Any]) -> str:
    """A line for people."""
    nobody = NOBODY if facts["listed"] and not facts["rows"] else ""
    return (
        f"{facts['rows']:,} rows take no part, as they have one of the {facts['listed']:,} ids of "
        f"{facts['file']} (SHA-256 {facts['sha256'][:12]}){nobody}"
    )


def keep_record(folder: Path, excluded: Excluded | None) -> None:
    """Raises StorageError."""
    if excluded is not None:
        write(folder / RECORD, as_json(excluded.facts()))


def find_excluded(config: Config, file: Path, ids: Mapping[str, psi.Ids]) -> Excluded:
    """ids: all of the table's, by kind. Raises DataError, IdError."""
    state, at, sha256 = state_of(file), datetime.now(UTC), digest_of(file)
    listed, found = _read(config, file)
    if digest_of(file) != sha256:
        raise DataError(f"{file}: has changed while it was read; start again")
    rows = np.unique(np.concatenate([_rows(ids[kind], digests) for kind, digests in found.items()]))
    return Excluded(file, sha256, state, at, listed, rows, found)


def left_of(ids: psi.Ids, takes_part: NDArray[np.bool_]) -> psi.Ids:
    """What `psi.normalise` gives where only these rows take part; ids: where all do."""
    rows = np.concatenate((ids.rows, ids.repeats))
    whose = np.concatenate((np.arange(len(ids.rows)), ids.repeated))
    order = np.argsort(rows)
    order = order[takes_part[rows[order]]]
    rows, whose = rows[order], whose[order]
    _, first, of = np.unique(whose, return_index=True, return_inverse=True)
    place = np.empty(len(first), np.int64)
    place[np.argsort(first)] = np.arange(len(first))
    later = np.ones(len(rows), np.bool_)
    later[first] = False
    return replace(
        ids,
        digests=ids.digests[whose[~later]],
        rows=rows[~later],
        duplicate=int(later.sum()),
        repeats=rows[later],
        repeated=place[of[later]],
    )


def _read(config: Config, file: Path) -> tuple[int, dict[str, NDArray[np.uint8]]]:
    """How many rows have an id; and the digests of each kind of which the file has the columns."""
    source = config.newer(file)
    there = {*source.schema().names}
    held = {kind: names for kind, names in config.id_columns.items() if {*names} <= there}
    if not held:
        wanted = " or ".join(", ".join(names) for names in config.id_columns.values())
        raise DataError(f"{file}: has no column {wanted}: the ids must stand there under that name")
    used = {name for names in held.values() for name in names}
    for kind, names in config.id_columns.items():  # what is a part of no other id is meant as one of this
        if kind not in held and (parts := there & {*names} - used):
            raise DataError(
                f"{file}: has column {min(parts)}, but not {', '.join(n for n in names if n not in there)}, "
                f"which make an id ({kind}) together; add the rest, or remove the column"
            )

    def cells(names: Sequence[str]) -> Iterator[list[Any]]:
        for batch in source.batches(names, False):  # a list may be empty
            yield [batch[name] for name in names]

    types = {kind.name: kind.columns for kind in config.contract.ids}
    found, listed = {}, 0
    try:
        for kind, names in held.items():
            key = digest_key(config.contract.digest, kind)
            ids = psi.normalise(cells(names), names, types[kind], key)
            found[kind] = ids.digests
            listed = max(listed, len(ids.rows) + ids.duplicate)
    except psi.IdError as error:
        raise psi.IdError(f"{file}: {error}") from error
    return listed, found


def _rows(ids: psi.Ids, excluded: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Of the table, first and later ones."""
    out = np.isin(_as_one(ids.digests), _as_one(excluded))
    return np.concatenate((ids.rows[out], ids.repeats[out[ids.repeated]]))


def _as_one(digests: NDArray[np.uint8]) -> NDArray[np.void]:
    return np.ascontiguousarray(digests).view("V16").reshape(-1)
