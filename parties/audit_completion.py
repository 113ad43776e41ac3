"""`party audit completion`: what labels its own bottom model tells a feature holder that knows a few of them.

The attack of `splitnn.model_completion` on a finished run of this party. Nothing is sent anywhere.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from parties.audited import USERS, Audited, numbers, shown, state_of
from parties.errors import ConfigError, DataError
from parties.finished import Finished
from parties.known_users import Known, known_users
from parties.labels import classes
from splitnn.model_completion import KNOWN, LEFT, Completion, complete
from splitnn.randomness import permutation

if TYPE_CHECKING:
    import pandas as pd

LABELS: Final = 100
"""Known ones, as in Fu et al. 2022 for two classes."""
CLASSES: Final = 20
HEADS: Final = {
    ("attack", "linear"): "linear head on the bottom model's activations",
    ("attack", "network"): "network that begins with the bottom model",
    ("baseline", "linear"): "linear head on the raw columns",
    ("baseline", "network"): "the same network from fresh weights",
}


def completion(run: Finished, file: Path, label: str | None, known: int | None) -> Audited:
    """At a feature holder: how well its bottom model tells labels of which it knows a few.

    file: ids and labels of some users, a CSV or Parquet file; label: its column, if there are several. known:
    labels that are told to the attack, the others measure it; None: LABELS, or half if they are fewer.
    Raises ConfigError at the label holder, DataError and IdError for files that will not do.
    """
    config = run.config
    if config.role == "label holder":
        raise ConfigError(
            f"{config.path}: {config.name} holds the label, and completion asks what labels tell a feature "
            "holder: run it there; here, try `party audit inversion`"
        )
    found = known_users(file, config, run.data)
    column = _label(file, found, label)
    codes, _ = classes(column)
    rows, own = _common(run, found)
    values = codes[rows]
    counts = np.bincount(values, minlength=int(codes.max()) + 1)
    if counts.min() < KNOWN + LEFT:
        raise DataError(
            f"{file}: of {len(rows)} common users with a label, {counts.min()} are of the rarest of "
            f"{len(counts)} classes, and {KNOWN + LEFT} are needed: bring more labels, or leave the class out"
        )
    told = min(LABELS, len(rows) // 2) if known is None else known
    features, labels = run.features(own), torch.from_numpy(values)
    try:
        result = complete(
            lambda seed: run.bottom(seed, trained=False), run.half("bottom"), features, labels, told, run.run
        )
    except ValueError as error:
        raise DataError(f"{file}: {error}; set --known") from error
    verdict = _verdict(result)
    lines = [
        f"run {run.run.hex()[:12]}, {config.name}: {len(rows):,} common users have a label, of "
        f"{len(counts)} classes",
        f"{told} labels known, in 10 draws; AUC on the others, and its 95 % interval:",
        *(f"  {title:<50}{shown(getattr(result, side)[head])}" for (side, head), title in HEADS.items()),
        verdict,
    ]
    heads = {
        side: {head: numbers(each) for head, each in getattr(result, side).items()}
        for side in ("attack", "baseline")
    }
    record = {
        "run": run.run.hex(),
        "party": config.name,
        "users": len(rows),
        "classes": len(counts),
        "known": told,
        **heads,
        "gain": numbers(result.gain),
        "verdict": verdict,
    }
    return Audited(lines, record)


def _common(run: Finished, found: Known) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Of those users who are common to all parties, USERS at most: rows of the file and of the own table."""
    common = np.isin(found.own, run.rows)
    rows, own = found.rows[common], found.own[common]
    some = permutation(run.run, "audited", len(rows))[:USERS].numpy()
    return rows[some], own[some]


def _label(file: Path, found: Known, label: str | None) -> "pd.Series[Any]":
    names = [*found.columns]
    if label is None and len(names) == 1:
        [label] = names
    if label not in found.columns:
        raise DataError(
            f"{file}: name the label's column with --label: {', '.join(names) or 'there is none'}"
        )
    column: pd.Series[Any] = found.columns[label].to_pandas().rename(label)
    distinct = column.nunique()
    if not 2 <= distinct <= CLASSES:
        raise DataError(
            f"{file}: column {label!r} has {distinct} distinct values, and completion is for 2 to {CLASSES} "
            "classes; of numbers make classes, such as above and below the median"
        )
    return column


def _verdict(result: Completion) -> str:
    best, plain = (max(each.mean for each in side.values()) for side in (result.attack, result.baseline))
    gain, state = result.gain, state_of(result.gain)
    said = {
        "leaks": "the bottom model tells labels",
        "no leak": "the bottom model tells no more of labels than the columns do",
        "not decided": "bring more labels",
    }
    return (
        f"{state}: {said[state]}: AUC {best:.3f} with it, {plain:.3f} with raw columns alone, "
        f"{gain.mean:+.3f} (95 % interval {gain.low:+.3f} to {gain.high:+.3f})"
    )
