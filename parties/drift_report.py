"""`party drift`: a newer table of this party against the training rows of a version."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from parties.align import ids_of_source
from parties.config import Config
from parties.drift import ALERT, WATCH, Drift, Statistics
from parties.errors import ConfigError, DataError, StorageError
from parties.promoted import promoted_run
from parties.sources.source import Source
from parties.table import read_table
from parties.version_files import pipeline, read
from parties.versions import Version, find, folders

STATISTICS = "statistics.json"


def drift(
    config: Config, version: str | None, data: Source | None, watch: float = WATCH, alert: float = ALERT
) -> dict[str, Any]:
    """What `party drift --json` prints. version: by default the one that serves, else the newest. data: by
    default the configured table. Raises ConfigError, DataError, StorageError.

    The table is read as in training, its large columns mapped from files in the storage.
    """
    model = which(config, version)
    fitted, then = pipeline(model.folder), statistics(model.folder)
    own, source = config.party.data, data or config.source
    ids = next(iter(config.id_columns.values()))
    table = read_table(
        source,
        ids,
        scratch=config.party.storage,
        bags=fitted.separators(config.party.data.bags),
        types=fitted.kinds,
        others=False,
    )
    rows = np.arange(table.rows)
    if own.exclude_ids is not None:
        excluded = ids_of_source(replace(config, held=source), lambda *_: None).excluded
        assert excluded is not None
        rows = np.flatnonzero(excluded.takes_part(table.rows))
    now = then.again(fitted, table, rows)
    found = then.drift(now, watch, alert)
    return {
        "version": model.run.hex(),
        "data": str(source),
        "rows": {"training": then.rows, "now": now.rows},
        "thresholds": {"watch": watch, "alert": alert},
        **as_record(found),
    }


def as_record(found: Sequence[Drift]) -> dict[str, Any]:
    """As JSON has it."""
    states = [one.state for one in found]
    return {
        "columns": [one._asdict() for one in found],
        "alerts": states.count("alert"),
        "watched": states.count("watch"),
    }


def which(config: Config, version: str | None) -> Version:
    """The version of this name; else the one that serves; else the newest. Raises ConfigError."""
    if version is not None:
        return find(config, version)
    if run := promoted_run(config):
        return find(config, run.hex())
    found = [one for one in map(Version.read, folders(config)) if one.name == config.contract.name]
    if not found:
        raise ConfigError(f"no finished run of {config.contract.name} here to compare with; train one first")
    return max(found, key=lambda one: one.created)


def statistics(folder: Path) -> Statistics:
    """Of a version's training rows. Raises StorageError."""
    path = folder / STATISTICS
    if not path.exists():
        raise StorageError(f"{folder}: has no {STATISTICS}, as it is of an earlier release; train again")
    try:
        return Statistics.from_json(read(path))
    except DataError as error:
        raise StorageError(f"{path}: {error}") from error


def alerts(found: Mapping[str, Any]) -> list[str]:
    """A line for each column to look at, for the log."""
    return [
        f"drift: {one['state']}: column {one['name']!r}: PSI {one['psi']:.3f}"
        + ("" if one["ks"] is None else f", KS {one['ks']:.3f}")
        for one in found.get("columns", ())
        if one["state"] != "stable"
    ]


def text(found: Mapping[str, Any]) -> str:
    """For people."""
    rows = [("COLUMN", "KIND", "PSI", "BY CHANCE", "KS", "MISSING", "")]
    for content in found["columns"]:
        one = Drift(**content)
        missing = f"{one.missing[0]:.1%} -> {one.missing[1]:.1%}" if any(one.missing) else ""
        state = one.state if one.state != "stable" else ""
        ks = "-" if one.ks is None else f"{one.ks:.3f}"
        rows.append((one.name, one.kind, f"{one.psi:.3f}", f"{one.by_chance:.3f}", ks, missing, state))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
    limits, counted = found["thresholds"], found["rows"]
    return "\n".join(
        [
            f"{counted['now']:,} rows of {found['data']} against the {counted['training']:,} training rows "
            f"of {found['version'][:12]}",
            *lines,
            f"{found['alerts']} alert(s) (PSI above {limits['alert']:g}), {found['watched']} to watch (above "
            f"{limits['watch']:g})",
        ]
    )
