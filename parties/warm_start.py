"""Training that begins where an earlier run ended: by its weights and its features, and when not.

`training.warm_start` in the contract names the run, so all parties begin with parts of one version or do not
meet at all. Each has checked its own part before anybody is met.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
from torch import Tensor

from parties.config import Config
from parties.drift import Statistics
from parties.drift_report import STATISTICS, statistics
from parties.errors import ConfigError
from parties.features import Pipeline
from parties.own import OwnData
from parties.own_model import local_of
from parties.table import Table
from parties.version_files import names, pipeline, weights
from parties.versions import Version, find
from splitnn.errors import TrainingError
from splitnn.models import bottom_model, top_model
from splitnn.plan import Plan


@dataclass(frozen=True)
class WarmStart:
    """run: the earlier one's id. pipeline: its columns and how they become features, in place of one fitted
    anew: so that each number means what it did. weights: as `splitnn.local.Local.warm`. statistics: of its
    training rows; None where it is of a release that kept none."""

    run: bytes
    pipeline: Pipeline
    weights: Mapping[str, Tensor]
    statistics: Statistics | None = None

    @classmethod
    def of(cls, config: Config, plan: Plan, data: OwnData) -> "WarmStart | None":
        """None where the contract asks for none. Raises ConfigError where the version is not here, or is one
        of other parties, another network or other classes; DataError where the table lacks a column of it;
        StorageError for damaged files."""
        run = config.contract.training.warm_start
        if run is None:
            return None
        at = f"{config.party.contract}: training.warm_start"
        try:
            version = find(config, run)
        except ConfigError as error:
            raise ConfigError(f"{at}: {error}") from error
        _refuse_another(config, version, at)
        folder = version.folder
        counted = statistics(folder) if (folder / STATISTICS).exists() else None
        found = cls(version.run, pipeline(folder), weights(folder), counted)
        found.pipeline.transform(data.table, NO_ROWS)
        found.pipeline.bagged(data.table, NO_ROWS)
        local = replace(local_of(config), warm=found.weights)
        width, levels, bags = found.pipeline.width, found.pipeline.levels, found.pipeline.bag_levels
        try:
            bottom_model(plan, width, levels, b"trial", local, bags)
            if data.labels is not None:
                if names(folder) != data.labels.names:
                    raise ConfigError(f"{at}: that run's classes or targets are others than your labels'")
                outputs = max(1, len(data.labels.names))
                top_model(plan, len(config.contract.parties), b"trial", outputs, local)
        except TrainingError as error:
            raise ConfigError(
                f"{at}: {error}; agree on the model of that run, or on no warm start"
            ) from error
        return found

    def told(self, table: Table) -> Iterator[str]:
        """A line for people, with the columns that have no part in it."""
        without = sorted({*table.kinds} - {*self.pipeline.kinds})
        beside = f"; without a part in it: {', '.join(without)}" if without else ""
        yield f"warm start from run {self.run.hex()[:12]}: its weights, and features as it made them{beside}"


NO_ROWS = np.zeros(0, dtype=np.int64)


def _refuse_another(config: Config, version: Version, at: str) -> None:
    ours, theirs = config.contract, version.contract
    if (ours.names, ours.label_holder) != (theirs.names, theirs.label_holder):
        raise ConfigError(
            f"{at}: that run was of {', '.join(theirs.names)} with {theirs.label_holder} as its label "
            "holder; its weights fit no others"
        )
    if ours.privacy.label_epsilon is not None and theirs.privacy.label_epsilon is None:
        raise ConfigError(
            f"{at}: that run was trained on true labels, which its weights tell of, and "
            "privacy.label_epsilon does not cover that; start from a run with label_epsilon, or from none"
        )
