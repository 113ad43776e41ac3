"""A finished run with the table that it was made from, both read again."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from parties.config import Config
from parties.errors import DataError
from parties.id_kinds import written_as
from parties.model import Model, damaged, model
from parties.own import OwnData, own_data
from parties.phases import features_of
from parties.version_files import names
from splitnn.features import Features


@dataclass(frozen=True)
class Finished(Model):
    """rows: of the table, the i-th is the i-th common user."""

    data: OwnData
    rows: NDArray[np.int64]

    def features(self, rows: NDArray[np.int64]) -> Features:
        """Of these rows of the table."""
        return features_of(self.pipeline, self.data.table, rows)


def finished(config: Config, folder: Path) -> Finished:
    """Read a run of this party, with the table it was made from.

    Raises what `model` raises; DataError, IdError where the table cannot be used or is not the one of the
    run; StorageError for damaged files.
    """
    trained, data = model(config, folder), own_data(config)
    try:
        alignment = pd.read_parquet(folder / "alignment.parquet")
    except (OSError, ValueError) as error:
        raise damaged(folder) from error
    rows = _same_rows(config, folder, data, alignment, config.id_columns.get(trained.kind, ()))
    if data.excluded is not None and np.isin(rows, data.excluded.rows).any():
        raise DataError(
            f"{data.excluded.file}: lists people of the run in {folder}, whose columns and labels are not "
            "read any more; train again without them"
        )
    if data.labels is not None and names(folder) != data.labels.names:
        raise DataError(
            f"{config.source}: has other classes or targets than the run in {folder}; put the table (and "
            "data.exclude_ids) back that it was made with, or train again"
        )
    return Finished(**vars(trained), data=data, rows=rows)


def _same_rows(
    config: Config, folder: Path, data: OwnData, alignment: pd.DataFrame, columns: tuple[str, ...]
) -> NDArray[np.int64]:
    """The rows of the alignment, in which the table has the ids that it had in the run."""
    rows = alignment["row"].to_numpy(dtype=np.int64)
    table = data.table.ids
    there = len(rows) > 0 and rows.min() >= 0 and rows.max() < len(table) and {*columns} <= {*table}
    for own, kept in zip(columns, written_as(columns), strict=True):
        if there:
            now, then = (each.astype(str).to_numpy() for each in (table[own].iloc[rows], alignment[kept]))
            there = bool((now == then).all())
    if not there:
        raise DataError(
            f"{config.source}: is not the table of the run in {folder}, as other rows have its ids; "
            "put the table back that it was made from"
        )
    return rows
