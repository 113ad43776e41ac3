"""What ran: who, under what, on how many rows, for how long, and how training went."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from parties.report import charts
from parties.report.curves import Curve, thinned
from parties.report.kept import Kept
from parties.report.parts import Bar, Facts, Figure, Section, Table, Tiles, bars, duration, number, size
from parties.summary import CALIBRATED, HEADLINES, MODELS, WAYS, may_be_chance

FUNNEL = {
    "table": "rows of your table",
    "usable": "with a usable id",
    "aligned": "users whom all parties have",
    "examples": "examples: rows of the label holder that belong to them",
    "train": "of these, to train",
    "validation": "of these, to choose the best epoch by",
    "test": "of these, to judge the result by",
}
WORDS = CALIBRATED | {"auc": "AUC", "pr_auc": "PR AUC", "ks": "KS", "gauc": "GAUC", "mae": "MAE"}
"""What people call metrics, beside the first ones of their task."""
PARTS = {
    "handshake": "handshake",
    "alignment": "alignment",
    "columns": "columns to features",
    "training": "training, with validation",
    "evaluation": "evaluation and importance",
    "contribution": "training without each partner, to compare",
    "baselines": "training alone, to compare",
}


def head(kept: Kept) -> Section:
    summary, training = kept.summary, kept.summary["training"]
    tiles = []
    metrics = summary.get("metrics", {})
    metric, word = next(iter(HEADLINES.get(kept.task, {}).items()), ("", ""))
    for key in ("test", "alone", "alone_all_rows"):
        if metric in metrics.get(key, {}):
            tiles.append((f"{word}, {MODELS[key]}", number(metrics[key][metric])))
    tiles += [
        ("users in common", number(summary["aligned"])),
        (f"epochs of training; kept: epoch {training['best_epoch']}", number(training["epochs"])),
        ("training", duration(training["seconds"])),
    ]
    facts = [
        *brought(summary.get("contribution", {}), metric, word),
        ("party", f"{summary['party']} ({summary['role']})"),
        ("run", str(summary["run"])),
        ("contract", str(summary.get("contract", ""))),
        ("results written", f"{kept.ended:%Y-%m-%d %H:%M} UTC"),
        ("task", f"{kept.task}, loss {training.get('loss', '')}".removesuffix(", loss ")),
    ]
    if resumed := training.get("resumed"):
        facts.append(("went on", f"with an earlier attempt, after epoch {resumed}"))
    if warm := training.get("warm_start"):
        facts.append(("began with", f"the weights of run {str(warm)[:12]}"))
    if delay := summary.get("delay"):
        facts.append(
            (
                "labels as of",
                f"{delay['as_of']}; {delay['immature']:,} rows too young, {delay['late']:,} late",
            )
        )
    return Section("", facts=[Tiles(tiles), Facts(facts)])


CHANCE = "may be chance: the interval includes 0"


def brought(record: Mapping[str, Any], metric: str, word: str) -> Iterator[tuple[str, str]]:
    """What all partners together bring of this metric, and whether that may be chance."""
    lifts = record.get("lifts", [])
    everybody = {name for entry in lifts for name in entry["partners"]}
    for entry in lifts:
        if {*entry["partners"]} == everybody and metric in entry["metrics"]:
            one = entry["metrics"][metric]
            doubt = f"; {CHANCE}" if may_be_chance(one) else ""
            between = f"{signed(one['low'])} to {signed(one['high'])}"
            yield (
                f"what partners bring ({WAYS.get(entry['way'], entry['way'])})",
                f"{word} {signed(one['lift'])}, {record['level']:.0%} interval {between}{doubt}",
            )


def agreed(kept: Kept) -> Section | None:
    """The contract."""
    contract = kept.contract
    if not contract:
        return None
    holder = contract.get("label_holder")
    rows = [
        [name, "label holder" if name == holder else "feature holder", str(member.get("key", ""))]
        for name, member in contract.get("parties", {}).items()
    ]
    rest = {key: value for key, value in contract.items() if key not in ("parties", "label_holder", "name")}
    return Section(
        "What was agreed",
        "Every party signed the same contract before anything else was said.",
        [Facts([*flat(rest)], folded="All that the contract says")],
        tables=[Table("parties", ("party", "role", "pinned key"), rows)],
    )


def flat(table: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, str]]:
    """Dotted names and values as text."""
    for key, value in table.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{before}{key}.")
        elif isinstance(value, list):
            yield f"{before}{key}", ", ".join(map(str, value)) or "none"
        else:
            yield (
                f"{before}{key}",
                "none"
                if value is None
                else str(value).lower()
                if value is True or value is False
                else str(value),
            )


def funnel(kept: Kept) -> Section:
    summary, psi = kept.summary, kept.summary["psi"]
    counted = summary.get("funnel") or {
        "usable": summary["rows"],
        "aligned": summary["aligned"],
        **({"examples": summary["examples"]} if "examples" in summary else {}),
    }
    keys = [key for key in FUNNEL if key in counted]
    drawn = bars([float(counted[key]) for key in keys], [f"{counted[key]:,}" for key in keys])
    found = [
        ("protocol", f"{psi.get('protocol')} on {psi.get('kind')} ids"),
        ("took", f"{duration(psi['seconds'])}, {traffic(psi)}"),
    ]
    if excluded := summary.get("excluded"):
        found.append(("take no part, as they withdrew", f"{excluded['rows']:,} of these rows"))
    if sizes := psi.get("sizes"):
        told = ", ".join(f"{name} {ids:,}" for name, ids in sizes.items())
        found.append(("ids brought, as far as told here", told))
    return Section(
        "From your table to the training rows",
        "Only users whom all parties have take part.",
        [Facts(found)],
        tables=[
            Table(
                "rows", ("step", "rows"), [[FUNNEL[key], bar] for key, bar in zip(keys, drawn, strict=True)]
            )
        ],
    )


def columns(kept: Kept) -> Section | None:
    """This party's own."""
    pipeline, left_out = kept.pipeline, kept.summary.get("left_out", [])
    if pipeline is None:
        return None
    became = {one.name: one.told for one in pipeline.ordered}
    became |= {one.name: one.told for one in (*pipeline.categorical, *pipeline.bags)}
    used = [[name, kind, became[name]] for name, kind in pipeline.kinds.items()]
    tables = [Table("columns that take part", ("column", "kind", "becomes"), used)]
    if left_out:
        unused = [[one["column"], one["why"]] for one in left_out]
        tables.append(Table("columns left out", ("left out", "why"), unused))
    note = "As the training rows had them. No other party is told their names."
    return Section("Your columns", note, tables=tables)


def learning(kept: Kept) -> Section | None:
    history = kept.summary.get("history", [])
    best = kept.summary["training"]["best_epoch"]
    if not history:
        return None
    if not kept.holds_label:
        judged = [(epoch, entry["improved"]) for epoch, entry in enumerate(history, 1) if "improved" in entry]
        better = ", ".join(str(epoch) for epoch, improved in judged if improved)
        facts = [
            ("epochs", str(len(history))),
            ("judged by the label holder", str(len(judged))),
            ("better than all before", f"epoch {better}" if better else "none"),
            ("kept", f"the weights of epoch {best}"),
        ]
        note = (
            "Losses and scores stay with the label holder: here is which epochs it found better, which says "
            "that training got on, not how good the model is. That, and what you bring, only it can say."
        )
        return Section("How training went", note, [Facts(facts)])
    drawn = []
    for key in dict.fromkeys(key for entry in history for key in entry):
        word = "training loss" if key == "train_loss" else f"validation {words(kept.task, key)}"
        what = f"{word} by epoch, from {{:.4f}} to {{:.4f}}; epoch {best} was kept"
        curve = by_epoch(kept, key)
        svg = charts.lines(what.format(curve.y[0], curve.y[-1]), [("", curve)], "epoch", word, mark=best)
        drawn.append(Figure(svg, f"{word[0].upper()}{word[1:]} by epoch; dashed: the epoch that was kept."))
    return Section("How training went", "", figures=drawn)


def by_epoch(kept: Kept, key: str) -> Curve:
    """What the history says under this key, where it does."""
    told = [
        (epoch, entry[key]) for epoch, entry in enumerate(kept.summary.get("history", []), 1) if key in entry
    ]
    x, y = np.array(told, dtype=np.float64).reshape(-1, 2).T
    return thinned(x, y)


def signed(value: float | None) -> str:
    return "?" if value is None else f"{value:+.4f}"


def words(task: str, metric: str) -> str:
    return (WORDS | HEADLINES.get(task, {})).get(metric, metric.replace("_", " "))


def costs(kept: Kept) -> Section | None:
    parts = kept.summary.get("parts", {})
    if not parts:
        return None
    rows: list[list[str | Bar]] = []
    keys = ("seconds", "bytes_sent", "bytes_received")
    columns = [
        bars([float(cost[key]) for cost in parts.values()], [write(cost[key]) for cost in parts.values()])
        for key, write in zip(keys, (duration, size, size), strict=True)
    ]
    for name, *cells in zip(parts, *columns, strict=True):
        rows.append([PARTS.get(name, name), *cells])
    total = [sum(cost[key] for cost in parts.values()) for key in keys]
    rows.append(["together", duration(total[0]), size(int(total[1])), size(int(total[2]))])
    note = "Of the last attempt at the run, at this party. Waiting for the others is part of the time."
    table = Table("parts of the run", ("part", "time", "bytes out", "bytes in"), rows)
    training = kept.summary["training"]
    speed = [
        ("training speed", f"{training['rows_per_second']:,.0f} rows a second, {training['steps']:,} steps")
    ]
    return Section("Time and traffic", note, [Facts(speed)], tables=[table])


def traffic(cost: Mapping[str, Any]) -> str:
    return f"{size(cost['bytes_sent'])} out, {size(cost['bytes_received'])} in"
