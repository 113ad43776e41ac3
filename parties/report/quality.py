"""How good the model is, by the test rows, and what that rests on."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from parties.report import charts, curves
from parties.report.course import CHANCE, signed, words
from parties.report.curves import FEWEST, Curve, Floats
from parties.report.kept import Kept
from parties.report.parts import Bar, Cell, Figure, Key, Section, Table, bars, number
from parties.summary import HEADLINES, MODELS, WAYS, may_be_chance

if TYPE_CHECKING:
    import pandas as pd


def metrics(kept: Kept) -> Section | None:
    """What each model reaches on the test rows, with the curves of the federation."""
    found: dict[str, Any] = dict(kept.summary.get("metrics", {}))
    if not found:
        return None
    without = found.pop("test_without", {})
    models = {MODELS.get(key, key): value for key, value in found.items()}
    models |= {f"the federation without {name}": value for name, value in without.items()}
    own = [key for key in found["test"] if "." not in key] if "test" in found else []
    rows: list[list[Cell]] = [
        [model, *(number(value.get(key)) for key in own)] for model, value in models.items()
    ]
    head = ("on the test rows", *(words(kept.task, key) for key in own))
    figures, tables = _curves(kept)
    return Section(
        "How good it is",
        "By rows that no model was trained on, nor chosen by.",
        figures=figures,
        tables=[Table("metrics of each model", head, rows), *tables],
    )


def _curves(kept: Kept) -> tuple[list[Figure], list[Table]]:
    frame = kept.scores
    if frame is None or not len(frame):
        return [], []
    frame = frame[curves.sampled(len(frame))]
    of_task = {
        "binary": _binary,
        "multiclass": _multiclass,
        "multilabel": _multilabel,
        "regression": _regression,
    }
    return of_task[kept.task](frame)


def _binary(frame: "pd.DataFrame") -> tuple[list[Figure], list[Table]]:
    truth, score = frame["label"].to_numpy(), frame["score"].to_numpy(np.float64)
    if truth.min() == truth.max():
        return [], []
    rate = float(truth.mean())
    return [
        Figure(
            charts.lines(
                "ROC curve of the test rows",
                [("", curves.roc(truth, score))],
                "false positive rate",
                "true positive rate",
                diagonal=True,
                unit=True,
            ),
            "ROC: how many of the yes are found, for how many of the no. Dotted: guessing.",
        ),
        Figure(
            charts.lines(
                "precision and recall of the test rows",
                [("", curves.precision(truth, score))],
                "recall",
                "precision",
                level=rate,
                unit=True,
            ),
            f"Precision and recall. Dotted: guessing, as {rate:.1%} of the rows are a yes.",
        ),
        _reliability(truth, score, "score", "share of yes"),
        Figure(
            charts.lines(
                "lift of the best-scored rows",
                [("", curves.lift(truth, score))],
                "best-scored share of the rows",
                "lift",
                level=1.0,
            ),
            "Lift: how many times as many are a yes among the best-scored rows as among all.",
        ),
    ], []


def _reliability(truth: "np.ndarray[Any, Any]", score: Floats, x: str, y: str) -> Figure:
    bins = curves.calibration(truth, score)
    svg = charts.binned(f"calibration of the {x} on the test rows", bins, f"mean {x}", y, unit=True)
    return Figure(
        svg,
        f"Calibration: {len(bins.rows)} equal parts of the rows by {x}, with 95 % intervals. On the dotted "
        f"line a {x} is the {y} that it says.",
    )


def _multiclass(frame: "pd.DataFrame") -> tuple[list[Figure], list[Table]]:
    names = [name.removeprefix("score.") for name in frame.columns if name.startswith("score.")]
    label = frame["label"].astype(str).to_numpy()
    scores = np.column_stack([frame[f"score.{name}"].to_numpy(np.float64) for name in names])
    chosen = np.array(names)[scores.argmax(1)]
    counts = {name: int((label == name).sum()) for name in names}
    shown = sorted(names, key=lambda name: -counts[name])[: charts.LINES]
    figures, rows = _one_against_rest(
        {name: ((label == name).astype(int), scores[:, names.index(name)]) for name in shown}, "class"
    )
    right = (chosen == label).astype(int)
    figures.append(_reliability(right, scores.max(1), "score of the likeliest class", "share that is right"))
    guessed = [
        [name, *(f"{int(((label == name) & (chosen == other)).sum()):,}" for other in shown)]
        for name in shown
    ]
    tables = [Table("ROC by class", ("class", "test rows", "AUC against the rest"), rows)]
    tables.append(Table("classes and guesses", ("true class, guessed as", *shown), guessed))
    return figures, tables


def _multilabel(frame: "pd.DataFrame") -> tuple[list[Figure], list[Table]]:
    names = [name.removeprefix("score.") for name in frame.columns if name.startswith("score.")]
    pairs = {
        name: (frame[f"label.{name}"].to_numpy().astype(int), frame[f"score.{name}"].to_numpy(np.float64))
        for name in names[: charts.LINES]
    }
    figures, rows = _one_against_rest(pairs, "target")
    return figures, [Table("ROC by target", ("target", "rows that are a yes", "AUC"), rows)]


def _one_against_rest(
    pairs: Mapping[str, tuple["np.ndarray[Any, Any]", Floats]], what: str
) -> tuple[list[Figure], list[list[Cell]]]:
    """ROC and precision of each; and their rows in a table, whose keys say which line is whose."""
    from sklearn.metrics import roc_auc_score

    told = {name: pair for name, pair in pairs.items() if 0 < pair[0].sum() < len(pair[0])}

    def drawn(curve: Callable[..., Curve]) -> list[tuple[str, Curve]]:
        return [(f"{what} {place}", curve(*pair)) for place, pair in enumerate(told.values(), 1)]

    rows: list[list[Cell]] = [
        [Key(name, line), f"{int(truth.sum()):,}", number(float(roc_auc_score(truth, score)))]
        for line, (name, (truth, score)) in enumerate(told.items())
    ]
    which = f"The table says which {what} is which; at most {charts.LINES} are drawn."
    return [
        Figure(
            charts.lines(
                f"ROC curve of each {what}",
                drawn(curves.roc),
                "false positive rate",
                "true positive rate",
                diagonal=True,
                unit=True,
            ),
            f"ROC of each {what} against the rest. {which}",
        ),
        Figure(
            charts.lines(
                f"precision and recall of each {what}",
                drawn(curves.precision),
                "recall",
                "precision",
                unit=True,
            ),
            f"Precision and recall of each {what}.",
        ),
    ], rows


def _regression(frame: "pd.DataFrame") -> tuple[list[Figure], list[Table]]:
    truth, score = (frame[name].to_numpy(np.float64) for name in ("label", "score"))
    bins = curves.predicted(truth, score)
    return [
        Figure(
            charts.binned("predicted against true numbers", bins, "mean prediction", "true number"),
            f"Predicted and true: {len(bins.rows)} equal parts of the rows by prediction; the mean of the "
            "true numbers, and where the middle 80 % of them are.",
        ),
        Figure(
            charts.histogram(
                "errors of the predictions",
                curves.residuals(truth, score),
                "prediction - true number",
                "rows",
            ),
            f"Errors, the middle 98 % of them. {FEWEST} rows or more a bar on average.",
        ),
    ], []


FEW = 500
"""Test users, below which the page says that they are few."""


def contribution(kept: Kept) -> Section | None:
    """What the partners bring."""
    record = kept.summary.get("contribution")
    if not record:
        return None
    everybody = {name for entry in record["lifts"] for name in entry["partners"]}
    few = record["users"] < FEW
    figures = []
    rows: list[list[Cell]] = []
    for at, (metric, word) in enumerate(HEADLINES.get(kept.task, {}).items()):
        drawn = []
        for entry in record["lifts"]:
            one = entry["metrics"].get(metric)
            if one is None:
                continue
            all_of_them = len(everybody) > 1 and {*entry["partners"]} == everybody
            who = "all partners" if all_of_them else " and ".join(entry["partners"])
            way = WAYS.get(entry["way"], entry["way"])
            drawn.append((f"{who}: {entry['way']}", one["lift"], one["low"], one["high"]))
            between = f"{signed(one['low'])} to {signed(one['high'])}"
            between += f" – {CHANCE}" if may_be_chance(one) else ""
            compared = [number(one["without"]), number(one["with"])]
            rows.append([f"{who} ({way})", word, *compared, signed(one["lift"]), between])
        if drawn and at == 0:
            svg = charts.intervals(f"lift in {word} that partners bring", drawn, f"lift in {word}")
            figures.append(Figure(svg, f"Lift in {word}, with {record['level']:.0%} intervals."))
    head = ("partner", "metric", "without", "with", "lift", f"{record['level']:.0%} interval")
    tables = [Table("lifts", head, rows)]
    if leaks := record.get("leak"):
        attacked: list[list[Cell]] = [
            [name, *(number(leak.get(attack)) for attack in ("norm", "cosine"))]
            for name, leak in leaks.items()
        ]
        tables.append(
            Table("leaks", ("its training's gradients under attack, AUC", "norm", "cosine"), attacked)
        )
    return Section(
        "What the partners bring",
        f"How much better the federation is with them than without, on {record['rows']:,} test rows of "
        f"{record['users']:,} users. Above 0 is better, of a loss too."
        + (" These are few test users: intervals are wide, and small lifts cannot be told." if few else ""),
        figures=figures,
        tables=tables,
    )


def importance(kept: Kept) -> Section | None:
    record = kept.summary.get("importance")
    if not record:
        return None
    metric = words(kept.task, record["metric"])
    change = (
        f"the part of itself by which {metric} grows" if record["relative"] else f"how far {metric} falls"
    )
    tables = []
    if parties := record.get("parties"):
        tables.append(Table("by party", ("party", change, "deviation"), _drops(parties)))
    for party, drops in record.get("columns", {}).items():
        own = party == kept.summary["party"]
        title = f"groups of {party}" if own else f"groups of {party}, by its own numbers"
        tables.append(Table(title, (title, change, "deviation"), _drops(drops)))
    return Section(
        "What the model rests on",
        f"Measured on the test rows: {change} when the values of a party, or of a group of its columns, are "
        "shuffled among them. The mean of five times.",
        tables=tables,
    )


def _drops(drops: Mapping[str, Mapping[str, float | None]]) -> list[list[Cell]]:
    ranked = sorted(drops.items(), key=lambda item: item[1]["mean"] or 0.0, reverse=True)
    means = [drop["mean"] for _, drop in ranked]
    drawn: list[Bar] = bars([mean or 0.0 for mean in means], [number(mean) for mean in means])
    return [[name, bar, number(drop["deviation"])] for (name, drop), bar in zip(ranked, drawn, strict=True)]


def drift(kept: Kept) -> Section | None:
    record = kept.summary.get("drift")
    if not record:
        return None
    ranked = sorted(record["columns"], key=lambda one: -one["psi"])
    drawn = bars([one["psi"] for one in ranked], [f"{one['psi']:.3f}" for one in ranked])
    rows = [
        [one["name"], bar, number(one.get("ks"), 3), one["state"]]
        for one, bar in zip(ranked, drawn, strict=True)
    ]
    return Section(
        "How far your columns have moved",
        f"Since run {str(record['since'])[:12]}, by its training rows: {record['alerts']} alert(s), "
        f"{record['watched']} to watch.",
        tables=[Table("columns", ("column", "PSI (population stability)", "KS", "state"), rows)],
    )
