"""One page that lays two runs of a party side by side."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from parties.report import charts, curves
from parties.report.course import PARTS, by_epoch, words
from parties.report.curves import Curve
from parties.report.kept import Kept
from parties.report.page import page
from parties.report.parts import Cell, Figure, Section, Table, duration, number, size
from parties.storage import write
from parties.summary import MODELS
from parties.versions import Version, compare

NAMES = ("A", "B")
TOPICS = {
    "contract": ("Where the contracts differ", "The two contracts are the same."),
    "columns": ("Where your columns differ", "The same columns became features, in the same ways."),
}


def write_comparison(a: Path, b: Path, out: Path | None = None) -> Path:
    """a, b: folders of finished runs. out: by default a file in the working folder. Raises StorageError."""
    kept = Kept.read(a), Kept.read(b)
    found = compare(Version.read(a), Version.read(b))
    sections = [
        _head(kept),
        _metrics(kept, found["metrics"]),
        _table("What the model rests on", "importance", found["importance"]),
        *(_differing(topic, found[topic]) for topic in TOPICS),
        _costs(kept),
    ]
    place = out or Path(f"compare-{kept[0].run}-{kept[1].run}.html")
    write(place, page(f"Runs {kept[0].run} and {kept[1].run} at {kept[0].summary['party']}", sections))
    return place


Pair = tuple[Kept, Kept]


def _head(kept: Pair) -> Section:
    told: dict[str, Callable[[Kept], str]] = {
        "run": lambda one: one.run,
        "name": lambda one: one.name,
        "results written": lambda one: f"{one.ended:%Y-%m-%d %H:%M} UTC",
        "task": lambda one: one.task,
        "rows with a usable id": lambda one: number(one.summary["rows"]),
        "users in common": lambda one: number(one.summary["aligned"]),
        "epochs of training": lambda one: (
            f"{one.summary['training']['epochs']}; kept: epoch {one.summary['training']['best_epoch']}"
        ),
    }
    head: list[list[Cell]] = [[what, *(of(one) for one in kept)] for what, of in told.items()]
    return Section("", tables=[Table("the two runs", ("what", *NAMES), head)])


def _metrics(kept: Pair, found: Mapping[str, Sequence[Any]]) -> Section | None:
    """Of each model every metric, and both runs' curves in one chart."""
    rows: list[list[Cell]] = []
    for model, told in MODELS.items():
        for name, values in found.items():
            key, _, metric = name.partition(".")
            if key == model and "." not in metric:  # not of single targets: the runs' own pages have them
                rows.append([f"{told}: {words(kept[0].task, metric)}", *_both(values)])
    figures = [*_learning(kept), *_overlaid(kept)]
    if not rows and not figures:
        return None
    tables = [Table("metrics", ("on the test rows of each run", *NAMES, "B - A"), rows)] if rows else []
    return Section(
        "How good they are",
        "Each run has test rows of its own: small differences may be chance.",
        figures=figures,
        tables=tables,
    )


def _learning(kept: Pair) -> list[Figure]:
    history = [entry for one in kept if one.holds_label for entry in one.summary.get("history", [])]
    figures = []
    for key in dict.fromkeys(key for entry in history for key in entry):
        drawn = [(name, by_epoch(one, key)) for name, one in zip(NAMES, kept, strict=True)]
        drawn = [(name, curve) for name, curve in drawn if len(curve.x)]
        word = "training loss" if key == "train_loss" else f"validation {words(kept[0].task, key)}"
        figures.append(
            Figure(charts.lines(f"{word} of both runs", drawn, "epoch", word), f"{word}, by epoch")
        )
    return figures


def _overlaid(kept: Pair) -> list[Figure]:
    frames = [one.scores for one in kept]
    if {one.task for one in kept} != {"binary"}:
        return []
    pairs = []
    for name, frame in zip(NAMES, frames, strict=True):
        if frame is None or frame["label"].nunique() < 2:
            return []
        frame = frame[curves.sampled(len(frame))]
        pairs.append((name, frame["label"].to_numpy(), frame["score"].to_numpy(np.float64)))

    def drawn(curve: Callable[..., Curve]) -> list[tuple[str, Curve]]:
        return [(name, curve(truth, score)) for name, truth, score in pairs]

    def calibrated(truth: "np.ndarray[Any, Any]", score: curves.Floats) -> Curve:
        bins = curves.calibration(truth, score)
        return Curve(bins.x, bins.y)

    rates = "false positive rate", "true positive rate"
    return [
        Figure(charts.lines("ROC curves", drawn(curves.roc), *rates, diagonal=True, unit=True), "ROC"),
        Figure(
            charts.lines("precision and recall", drawn(curves.precision), "recall", "precision", unit=True),
            "Precision and recall",
        ),
        Figure(
            charts.lines(
                "calibration", drawn(calibrated), "mean score", "share of yes", diagonal=True, unit=True
            ),
            "Calibration",
        ),
        Figure(
            charts.lines("lift", drawn(curves.lift), "best-scored share of the rows", "lift", level=1.0),
            "Lift",
        ),
    ]


def _table(title: str, caption: str, found: Mapping[str, Sequence[Any]]) -> Section | None:
    rows = [
        [name.removesuffix(".mean").partition(".")[2].replace(".", ": "), *_both(values)]
        for name, values in sorted(found.items(), key=lambda item: item[0].startswith("columns."))
    ]
    return Section(title, tables=[Table(caption, ("importance", *NAMES, "B - A"), rows)]) if rows else None


def _both(values: Sequence[Any]) -> list[Cell]:
    a, b = values
    known = all(isinstance(one, int | float) for one in values)
    return [number(a), number(b), f"{b - a:+.4f}" if known else ""]


def _differing(topic: str, found: Mapping[str, Sequence[Any]]) -> Section:
    title, same = TOPICS[topic]
    if not found:
        return Section(title, same)
    rows = [
        [key, *("–" if value is None else str(value) for value in values)] for key, values in found.items()
    ]
    return Section(title, tables=[Table(topic, ("key", *NAMES), rows)])


def _costs(kept: Pair) -> Section | None:
    parts = [one.summary.get("parts", {}) for one in kept]
    rows = []
    for name in dict.fromkeys(name for of in parts for name in of):
        cells = [PARTS.get(name, name)]
        for key, told in (("seconds", duration), ("bytes_sent", size), ("bytes_received", size)):
            cells += [told(of[name][key]) if name in of else "–" for of in parts]
        rows.append(cells)
    head = ("part", "time A", "B", "bytes out A", "B", "bytes in A", "B")
    return Section("Time and traffic", tables=[Table("parts of the runs", head, rows)]) if rows else None
