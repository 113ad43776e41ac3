"""The label holder's judgement of a warm start by users on whom no earlier run was trained.

Each run splits its users anew, so those that it tests may have been trained on where it starts from, and
flatter it. Who that was, the label holder knows by itself: from the alignments and seeds of the earlier runs.
"""

from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

import psi
from parties.config import Config
from parties.errors import ConfigError, StorageError
from parties.id_kinds import written_as
from parties.phases import Outcome, Prepared, plan_of
from parties.versions import Version, find
from splitnn.errors import TrainingError
from splitnn.exact import LabelHolderResult
from splitnn.schedule import split_rows

USERS = b"vertical seen users v1"
"""Key of the digests by which users are the same in whatever spelling; they stay here."""


def metrics_of_unseen(prepared: Prepared, outcome: Outcome) -> dict[str, Any]:
    """`test_unseen` of the metrics, with how many `rows` these are; {} for a run that starts from none, where
    an earlier one is not here any more, and where such users leave nothing to judge by."""
    trained, examples = outcome.trained, outcome.examples
    if prepared.warm is None or not isinstance(trained, LabelHolderResult):
        return {}
    tested = prepared.data.table.ids.iloc[examples.rows[examples.split.test.numpy()]]
    try:
        mask = torch.from_numpy(unseen(prepared.config, outcome.aligned.terms.kind, tested))
        lists = trained.objective.lists.test
        found = trained.objective.metrics(
            trained.labels[mask], trained.scores[mask], None if lists is None else lists[mask]
        )
    except (ConfigError, StorageError, TrainingError):
        return {}
    return {"test_unseen": {"rows": int(mask.sum()), **found}}


def unseen(config: Config, kind: str, ids: pd.DataFrame) -> NDArray[np.bool_]:
    """Of these rows' users, were they in no training or validation part of the runs that this one starts
    from? kind: of id. Raises ConfigError, StorageError where one of them is gone, damaged, of other ids."""
    found, run = np.ones(len(ids), dtype=bool), config.contract.training.warm_start
    users = _digests(config, kind, ids[[*config.id_columns[kind]]])
    while run is not None:
        version = find(config, run)
        found &= ~np.isin(users, _trained_on(config, kind, version))
        run = version.contract.training.warm_start
    return found


def _trained_on(config: Config, kind: str, version: Version) -> NDArray[np.uint64]:
    path, contract = version.folder / "alignment.parquet", version.contract
    try:
        if version.summary["psi"]["kind"] != kind:
            raise KeyError(kind)
        aligned = pd.read_parquet(path, columns=written_as(config.id_columns[kind]))
    except (OSError, ValueError, LookupError) as error:
        raise StorageError(f"{path}: damaged, or of other ids; restore it from a copy") from error
    evaluation, seed = contract.evaluation, plan_of(contract).seed
    split = split_rows(len(aligned), evaluation.validation, evaluation.test, seed)
    return _digests(config, kind, aligned.iloc[torch.cat((split.train, split.validation)).numpy()])


def _digests(config: Config, kind: str, ids: pd.DataFrame) -> NDArray[np.uint64]:
    """[rows], of the user of each: eight bytes, by which two of a million are alike with probability 3e-8."""
    types = next(one.columns for one in config.contract.ids if one.name == kind)
    read = psi.normalise([[ids[name] for name in ids]], [*map(str, ids)], types, USERS)
    halves = np.ascontiguousarray(read.digests).view("<u8")[:, 0]
    found = np.zeros(len(ids), np.uint64)
    found[read.rows] = halves
    found[read.repeats] = halves[read.repeated]
    return found
