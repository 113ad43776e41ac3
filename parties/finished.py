"""A finished run, read again from what it has left in this party's own folder."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import safetensors.torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from torch import Tensor, nn

from parties.config import Config
from parties.difference import first_difference
from parties.errors import ConfigError, DataError, StorageError
from parties.features import Pipeline
from parties.id_kinds import written_as
from parties.own import OwnData, own_data
from parties.own_model import local_of
from parties.phases import features_of, plan_of
from splitnn.features import Features
from splitnn.models import bottom_model
from splitnn.plan import Plan


@dataclass(frozen=True)
class Finished:
    """run: its id. rows: of the table, the i-th is the i-th common user. pipeline, weights: as trained; the
    weights are those of the bottom model."""

    config: Config
    folder: Path
    run: bytes
    data: OwnData
    plan: Plan
    rows: NDArray[np.int64]
    pipeline: Pipeline
    weights: Mapping[str, Tensor]

    def bottom(self, seed: bytes, trained: bool = True) -> nn.Module:
        """The bottom model; not trained: with initial weights from this seed. Raises ConfigError where it is
        not the one of the run."""
        shape = self.pipeline.width, self.pipeline.levels, seed, local_of(self.config)
        module = bottom_model(self.plan, *shape, self.pipeline.bag_levels)
        if trained:
            try:
                module.load_state_dict(self.weights)
            except RuntimeError:
                raise ConfigError(
                    f"{self.config.path}: model.bottom is not what {self.folder} was trained with; "
                    "put it back"
                ) from None
        return module

    def features(self, rows: NDArray[np.int64]) -> Features:
        """Of these rows of the table."""
        return features_of(self.pipeline, self.data.table, rows)

    def tensors(self, name: str) -> dict[str, Tensor]:
        """A file of the folder. Raises StorageError for one that is damaged or not there."""
        return _tensors(self.folder / name)


def finished(config: Config, folder: Path) -> Finished:
    """Read a run of this party, with the table it was made from.

    Raises ConfigError where the folder holds no finished run of it, or one of another contract; DataError,
    IdError where the table cannot be used or is not the one of the run; StorageError for damaged files.
    """
    if not (folder / "summary.json").is_file():
        raise ConfigError(
            f"{folder}: holds no finished run; give a run's folder, the one of its summary.json"
        )
    read = partial(_json, folder)
    summary, agreed = read("summary.json"), read("agreement.json")
    if summary.get("party") != config.name:
        raise ConfigError(f"{folder}: is not a run of {config.name}; give the folder of its own")
    if agreed.get("contract") != json.loads(config.contract.canonical):
        theirs = json.dumps(agreed.get("contract")).encode()
        difference = first_difference(config.contract.canonical, theirs, "the run")
        raise ConfigError(f"{config.party.contract}: {difference}; give the run.toml of the run in {folder}")
    data = own_data(config)
    try:
        alignment = pd.read_parquet(folder / "alignment.parquet")
        pipeline = Pipeline.from_json((folder / "pipeline.json").read_text())
        run, kind = bytes.fromhex(agreed["run"]), summary["psi"]["kind"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _damaged(folder) from error
    rows = _same_rows(config, folder, data, alignment, config.id_columns.get(kind, ()))
    weights = {
        name.removeprefix("bottom."): tensor
        for name, tensor in _tensors(folder / "model.safetensors").items()
        if name.startswith("bottom.")
    }
    return Finished(config, folder, run, data, plan_of(config.contract), rows, pipeline, weights)


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
            f"{config.party.data.file}: is not the table of the run in {folder}, as other rows have its ids; "
            "put the table back that it was made from"
        )
    return rows


def _json(folder: Path, name: str) -> dict[str, Any]:
    try:
        content = json.loads((folder / name).read_text())
        return dict(content)
    except (OSError, ValueError, TypeError) as error:
        raise _damaged(folder) from error


def _tensors(path: Path) -> dict[str, Tensor]:
    try:
        return safetensors.torch.load_file(path)
    except (OSError, SafetensorError) as error:
        raise _damaged(path) from error


def _damaged(path: Path) -> StorageError:
    return StorageError(f"{path}: damaged, or not all there; restore it from a copy, or run again")
