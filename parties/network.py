"""A trained split network with all its parts in one process: for experiments, where one program has every
party's columns."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from parties.errors import DataError
from parties.features import Pipeline
from parties.phases import features_of
from parties.sources.source import Source
from parties.table import Table, read_table
from parties.target import Target
from splitnn.schedule import chunks
from splitnn.threads import single_threaded


@dataclass(frozen=True)
class Part:
    """What one party trained. bags: what separates the entries of its columns of lists."""

    pipeline: Pipeline
    bottom: nn.Module
    bags: Mapping[str, str]

    def table(self, source: Source) -> Table:
        """The columns that it was trained on. Raises DataError."""
        fitted = self.pipeline
        return read_table(source, (), bags=fitted.separators(self.bags), types=fitted.kinds, others=False)


@dataclass(frozen=True)
class Network:
    """parts: the label holder's first, then in the contract's order."""

    parts: Mapping[str, Part]
    top: nn.Module
    target: Target

    def scores(self, sources: Mapping[str, Source]) -> NDArray[Any]:
        """Of rows that are aligned by their places: [n], or [n, outputs] where the target has names. As
        `party predict` gives them, but for the last bits, which depend on the rows that are computed
        together. Raises DataError."""
        if absent := [name for name in self.parts if name not in sources]:
            raise DataError(f"rows to score: no table of {', '.join(absent)}")
        tables = {name: part.table(sources[name]) for name, part in self.parts.items()}
        lengths = {name: table.rows for name, table in tables.items()}
        if len({*lengths.values()}) > 1:
            counted = ", ".join(f"{name} {count:,}" for name, count in lengths.items())
            raise DataError(f"rows to score are aligned by their places, but there are of {counted}")
        count = next(iter(lengths.values()))
        features = {
            name: features_of(part.pipeline, tables[name], np.arange(count))
            for name, part in self.parts.items()
        }
        with single_threaded(), torch.no_grad():
            logits = [
                self._logits([features[name].batch(rows) for name in self.parts])
                for rows in chunks(torch.arange(count))
            ]
            return np.asarray(self.target.scores(torch.cat(logits)).numpy())

    def _logits(self, columns: list[tuple[Any, ...]]) -> Tensor:
        self.top.eval()
        bottoms = [part.bottom.eval() for part in self.parts.values()]
        logits: Tensor = self.top([bottom(*own) for bottom, own in zip(bottoms, columns, strict=True)])
        return logits
