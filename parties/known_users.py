"""A file of what somebody knows of some users, matched with this party's own table by id."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

import psi
from parties.config import Config
from parties.errors import DataError
from parties.id_kinds import digest_key
from parties.own import OwnData
from parties.sources.files import source_of
from parties.sources.source import read_columns


class Known(NamedTuple):
    """rows: of the file; own: of this party's table, the (first) row of the same user. Both int64 [n].

    columns: of the file, beside those of ids. ids: the columns of ids, of any kind.
    """

    rows: NDArray[np.int64]
    own: NDArray[np.int64]
    columns: dict[str, Any]
    ids: tuple[str, ...]


def known_users(file: Path, config: Config, data: OwnData) -> Known:
    """Users of the file whom this party knows, by the first kind of id of which the file has the columns, as
    `data.id` of party.toml names them. Raises DataError, IdError."""
    columns = read_columns(source_of(file), (), True)
    kinds = {kind.name: kind.columns for kind in config.contract.ids}
    held = {kind: names for kind, names in config.id_columns.items() if {*names} <= {*columns}}
    if not held:
        wanted = " or ".join(", ".join(names) for names in config.id_columns.values())
        raise DataError(f"{file}: has no column {wanted}: its users' ids must stand there under that name")
    kind, names = next(iter(held.items()))
    try:
        key = digest_key(config.contract.digest, kind)
        theirs = psi.normalise([[columns[name] for name in names]], names, kinds[kind], key)
    except psi.IdError as error:
        raise psi.IdError(f"{file}: {error}") from error
    both = _frame(theirs, "file").merge(_frame(data.ids[kind], "own"), on=["high", "low"])
    both = both.sort_values("file")
    ids = tuple(name for names in config.id_columns.values() for name in names if name in columns)
    others = {name: column for name, column in columns.items() if name not in ids}
    return Known(both["file"].to_numpy(), both["own"].to_numpy(), others, ids)


def _frame(ids: psi.Ids, called: str) -> pd.DataFrame:
    words = np.ascontiguousarray(ids.digests).view("<u8").reshape(-1, 2)
    return pd.DataFrame({"high": words[:, 0], "low": words[:, 1], called: ids.rows})
