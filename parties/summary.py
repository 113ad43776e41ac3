"""What a run leaves for people and machines to read: summary.json and report.txt (docs/summary.md)."""

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from parties.charges import beside
from parties.label_keys import told_of_delay

if TYPE_CHECKING:
    from parties.alignment import Alignment
    from parties.contract import Contract
    from parties.handshake import Meeting


def agreement(contract: "Contract", meeting: "Meeting") -> bytes:
    """agreement.json: what was agreed, and every party's signature."""
    content = {
        "run": meeting.run.hex(),
        "wire": meeting.version,
        "contract": json.loads(contract.canonical),
        "agreed": meeting.agreed.hex(),
        "signatures": {name: signature.hex() for name, signature in sorted(meeting.signatures.items())},
    }
    return as_json(content)


def psi_record(contract: "Contract", aligned: "Alignment") -> dict[str, Any]:
    """The alignment's part of summary.json: what was settled, under which caps, and what it took."""
    agreed, terms = contract.psi, aligned.terms
    return {
        "protocol": terms.protocol,
        "kind": terms.kind,
        "buckets": terms.buckets,
        "reused": aligned.reused,
        "sizes": dict(terms.sizes),
        "at_most": agreed.at_most,
        "largest_ratio": agreed.largest_ratio,
        "hide_sizes": agreed.hide_sizes,
        **aligned.cost._asdict(),
    }


def as_json(content: object) -> bytes:
    """For a file of its own."""
    return json.dumps(content, indent=2).encode() + b"\n"


@dataclass(frozen=True)
class Summary:
    """summary.json: documented in docs/summary.md; label-dependent fields at the label holder only."""

    run: str
    contract: str
    party: str
    role: str
    rows: int
    aligned: int
    examples: int
    funnel: dict[str, int]
    left_out: list[dict[str, str]]
    psi: dict[str, Any]
    training: dict[str, Any]
    parts: dict[str, dict[str, Any]]
    history: list[dict[str, Any]]
    metrics: dict[str, Any]
    contribution: dict[str, Any]
    leak: dict[str, Any]
    privacy: dict[str, Any]
    importance: dict[str, Any]
    drift: dict[str, Any]
    delay: dict[str, Any]
    excluded: dict[str, Any]

    def as_json(self) -> dict[str, Any]:
        content = asdict(self)
        for name in (
            "metrics",
            "contribution",
            "leak",
            "privacy",
            "importance",
            "drift",
            "delay",
            "excluded",
        ):
            if not content[name]:
                del content[name]
        return content


HEADLINES: dict[str, dict[str, str]] = {
    "binary": {"auc": "AUC", "log_loss": "log loss"},
    "multiclass": {"accuracy": "accuracy", "macro_f1": "macro F1", "log_loss": "log loss"},
    "multilabel": {"auc": "mean AUC", "log_loss": "mean log loss"},
    "regression": {"rmse": "RMSE", "mae": "MAE", "r2": "R2"},
}
"""The metrics of each task that the report shows, and what people call them."""


MODELS = {
    "test": "the federation",
    "test_calibrated": "the federation, calibrated",
    "test_unseen": "the federation, users that no earlier run was trained on",
    "alone": "this party alone, same rows",
    "alone_all_rows": "this party alone, all its rows",
    "pooled": "all columns pooled",
}
"""Whose metrics there are, for people."""


CALIBRATED = {"ece": "calibration error", "brier": "Brier score", "log_loss": "log loss"}
"""The metrics that calibration is for, and what people call them."""


def report(summary: Mapping[str, Any]) -> str:
    """A page of text for people."""
    psi, training = summary["psi"], summary["training"]
    lines = [
        f"run        {summary['run'][:12]}   contract {summary['contract'][:12]}",
        f"party      {summary['party']} ({summary['role']})",
        f"rows       {summary['rows']:,} own, {summary['aligned']:,} common to all parties,"
        f" {summary['examples']:,} examples",
        f"alignment  {psi['protocol']} on {psi['kind']} ids: {psi['seconds']:.1f} s, {_traffic(psi)}",
        f"training   {training['schedule']}: {training['epochs']} epochs (best: {training['best_epoch']}),"
        f" {training['steps']:,} steps, {training['seconds']:.1f} s,"
        f" {training['rows_per_second']:,.0f} rows/s, {_traffic(training)}",
    ]
    if "delay" in summary:
        lines.append(f"delay      {told_of_delay(summary['delay'])}")
    if drift := summary.get("drift"):
        moved = (one for one in drift["columns"] if one["state"] != "stable")
        words = ", ".join(f"{one['name']} PSI {one['psi']:.3f}" for one in moved)
        counts = f"{drift['alerts']} alert(s), {drift['watched']} to watch"
        lines.append(f"drift      since run {drift['since'][:12]}: {counts}{words and f': {words}'}")
    found = dict(summary.get("metrics", {}))
    without = found.pop("test_without", {})
    judged = [(MODELS[key], metrics) for key, metrics in found.items()]
    judged += [(f"the federation without {name}", metrics) for name, metrics in without.items()]
    for name, metrics in judged:
        told = (f"{word} {metrics[metric]:.4f}" for metric, word in _shown(training["task"], metrics))
        lines.append(f"test       {'  '.join(told)}  {name}")
    if "test_calibrated" in found:
        before, after = found["test"], found["test_calibrated"]
        told = (f"{word} {before[metric]:.4f} -> {after[metric]:.4f}" for metric, word in CALIBRATED.items())
        lines.append(f"calibrated {'  '.join(told)}")
    lines += _contribution(summary)
    return "\n".join([*lines, *_leak(summary), *_privacy(summary), *_importance(summary)]) + "\n"


def _shown(task: str, metrics: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Those of them that a report shows, and what people call them."""
    shown = HEADLINES[task] | {"gauc": "GAUC"}
    shown |= {metric: metric.upper() for metric in metrics if metric.startswith("ndcg@")}
    yield from ((metric, word) for metric, word in shown.items() if metric in metrics)


WAYS = {"retrained": "trained without", "absent": "one network, absent"}
"""In which ways a partner is left out, for people."""


def may_be_chance(lift: Mapping[str, float | None]) -> bool:
    """Whether the interval of a lift of `contribution` includes 0; False where there is no interval."""
    low, high = lift["low"], lift["high"]
    return low is not None and high is not None and low <= 0 <= high


def _contribution(summary: Mapping[str, Any]) -> Iterator[str]:
    """The lift of each partner, and of all together."""
    record = summary.get("contribution")
    if not record:
        return
    of = "rows" if record["users"] == record["rows"] else "users"
    yield (
        f"lift       of partners, and {record['level']:.0%} intervals over the {record[of]:,} test {of} "
        "(docs/contribution.md)"
    )
    for entry in record["lifts"]:
        told = []
        for metric, word in _shown(summary["training"]["task"], entry["metrics"]):
            one = entry["metrics"][metric]
            low, high = ("?" if end is None else f"{end:+.4f}" for end in (one["low"], one["high"]))
            doubt = ": includes 0, may be chance" if may_be_chance(one) else ""
            told.append(f"{word} {one['lift']:+.4f} ({low} to {high}{doubt})")
        yield f"           {'  '.join(told)}  {' and '.join(entry['partners'])} ({WAYS[entry['way']]})"


LEAKS = {
    "": "of a batch's rows, in the worst epoch",
    "_rows": "of each row's mean over the epochs so far, in the worst epoch",
}
"""What the report says of the attacks' AUC."""


TOLD = {
    0.9: (
        "much",
        "A feature holder could have told nearly every label of the training rows from what it was sent.",
    ),
    0.6: ("some", "A feature holder could have guessed labels of the training rows from what it was sent."),
    0.0: ("little", "A feature holder could have told little of the labels from what it was sent."),
}
"""From which AUC of an attack on: how much of the labels that is, and so in words."""


def told_by_gradients(record: Mapping[str, Any]) -> tuple[str, str] | None:
    """Of `leak`, by the attack that tells most: how much, and that in a sentence. None: not measured."""
    found = [
        record[attack + suffix]
        for attack in ("norm", "cosine")
        for suffix in LEAKS
        if attack + suffix in record
    ]
    return next(told for least, told in TOLD.items() if max(found) >= least) if found else None


def _leak(summary: Mapping[str, Any]) -> Iterator[str]:
    """How well attacks on the gradients told the labels, and what was done against them."""
    record = summary.get("leak")
    if not record:
        return
    title = "leak"
    for suffix, what in LEAKS.items():
        told = [
            f"{attack} attack {record[attack + suffix]:.4f}"
            for attack in ("norm", "cosine")
            if attack + suffix in record
        ]
        if told:
            yield f"{title:<10} AUC by gradients (0.5: nothing): {'  '.join(told)}  {what}"
            title = ""
    if told_of := told_by_gradients(record):
        yield f"{'':<10} {told_of[1]}"
    if record["bound"] is not None:
        yield (
            f"{'bound':<10} AUC {record['bound']:g}, of 20 batches pooled; the figures above, of the worst "
            "single batches and of means over epochs, may be higher"
        )
    defence = [] if record["defence"] == "none" else [record["defence"]]
    defence += [f"strength {record['strength']:g}"] if record["strength"] is not None else []
    defence += [f"labels that lie, epsilon {record['epsilon']:g}"] if record["epsilon"] is not None else []
    defence += [_guess(record["sum_kl"])] if "sum_kl" in record else []
    yield f"defence    {', '.join(defence) or 'none'}; docs/label-privacy.md says what each costs"


def _guess(sum_kl: float) -> str:
    """What the sum of KL says: theorem 2 of `splitnn.marvell`'s paper, over all epochs."""
    least = 0.5 - math.sqrt(sum_kl) / 4
    what = f"a guess errs at least {least:.3f} of the time" if least > 0 else "bounds nothing"
    return f"sum of KL {sum_kl:.4g} ({what})"


def _privacy(summary: Mapping[str, Any]) -> Iterator[str]:
    """What was spent with each partner."""
    record = summary.get("privacy")
    if not record:
        return
    for name, spent in record["partners"].items():
        of_run = "without bound" if spent["epsilon"] is None else f"{spent['epsilon']:.3f}"
        of = "" if record["budget"] is None else f" of {record['budget']:g}"
        yield (
            f"privacy    {spent['mechanism']} with {name}: epsilon {of_run}, "
            f"in {spent['runs'] - spent['unbounded']} run(s) {spent['total']:.3f}{of}"
            f"{beside(spent['unbounded'])}; "
            f"delta {record['delta']:g}, {spent['releases']:,} release(s) of a row"
        )


def _importance(summary: Mapping[str, Any]) -> Iterator[str]:
    """Parties, then each party's groups, the most important first."""
    record = summary.get("importance")
    if not record:
        return
    metric = HEADLINES[summary["training"]["task"]].get(record["metric"], record["metric"])
    change = f"by which part of it {metric} grows" if record["relative"] else f"how far {metric} falls"
    yield f"importance {change} when these values are shuffled among the test rows: mean, deviation"
    for title, drops in [("", record.get("parties", {})), *record.get("columns", {}).items()]:
        ranked = sorted(drops.items(), key=lambda item: item[1]["mean"] or 0.0, reverse=True)
        for name, drop in ranked:
            mean, deviation = drop["mean"], drop["deviation"]
            told = "not measurable" if mean is None else f"{mean:.4f}  {deviation:.4f}"
            yield f"           {told:>16}  {title + ': ' if title else ''}{name}"


def _traffic(cost: Mapping[str, Any]) -> str:
    return f"{cost['bytes_sent'] / 1e6:.1f} MB out, {cost['bytes_received'] / 1e6:.1f} MB in"
