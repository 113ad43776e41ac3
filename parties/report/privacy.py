"""What the run told the others, and what was done against it."""

import numpy as np

from parties.report import charts
from parties.report.curves import thinned
from parties.report.kept import Kept
from parties.report.parts import Bar, Facts, Figure, Section, Table, Verdict, bars, number, size
from parties.summary import told_by_gradients

ATTACKS = {
    "norm": "by the gradient's length, in a batch",
    "cosine": "by its direction, in a batch",
    "norm_rows": "by its length, over the epochs so far",
    "cosine_rows": "by its direction, over the epochs so far",
}
KINDS = {
    "the contract, certificates, signatures and fresh keys": ("hello", "hellos", "agree", "agreed"),
    "how many ids you bring, or the most that is allowed, if sizes are hidden": ("offer",),
    "which protocol and kind of id, and how many ids you and the receiver bring": ("terms",),
    "a checksum of these terms: agreed": ("confirm",),
    "that all have agreed to the terms: empty": ("go",),
    "how many ids you bring, or what they are filled up to": ("count",),
    "random numbers that masks are made from; of no id": ("vole opening", "vole reply", "vole trees"),
    "masked or blinded ids, to find the common ones": (
        *("blinded", "evaluated", "hint", "masked store", "masked", "masked twice"),
    ),
    "which ids all have, in tags that only who has the id can read": ("tags",),
    "which of the ids are common": ("common",),
    "a blinded checksum of the common ids, to compare": ("result", "result twice"),
    "HASHES OF IDS: WHO GUESSES AN ID FINDS IT": ("hashes",),
    "how far an earlier attempt got": ("kept buckets", "finished buckets", "first bucket"),
    "a fresh key between feature holders": ("pair key",),
    "a checksum of the common ids, by which feature holders catch a hub that lies": ("result digest",),
    "a hash of the common ids in their order": ("aligned",),
    "how many rows each common user has": ("examples",),
    "vectors computed from your columns, for the training rows": ("activation",),
    "vectors computed from your columns, for the validation rows": ("validation",),
    "vectors computed from your columns, for the test rows": ("test",),
    "gradients, computed from the labels": ("gradient",),
    "whether an epoch was better, and when to stop": ("verdict",),
    "that a chunk was scored: empty": ("scored",),
    "vectors of test rows with a group of columns shuffled": ("importance",),
    "how many groups of columns you have": ("groups",),
    "how much each of their groups matters": ("drop",),
    "that a training without the other party is over: empty": ("trained without",),
    "that results are whole": ("kept", "all kept"),
}
"""In words what messages of these kinds are; docs/threat-model.md says what each tells."""
WORDS = {kind: told for told, kinds in KINDS.items() for kind in kinds}


def leak(kept: Kept) -> Section | None:
    """The leak meter."""
    record = kept.summary.get("leak")
    if not record:
        return None
    epochs = record.get("epochs", [])
    drawn = []
    for attack in ATTACKS:
        told = [(epoch, entry[attack]) for epoch, entry in enumerate(epochs, 1) if attack in entry]
        if told:
            x, y = np.array(told, dtype=np.float64).T
            drawn.append((attack.replace("_rows", ", over epochs"), thinned(x, y)))
    figures = []
    if drawn:
        svg = charts.lines(
            "AUC of attacks on the gradients, by epoch", drawn, "epoch", "AUC of the attack", level=0.5
        )
        figures.append(Figure(svg, "How well attacks guess labels from the gradients. Dotted: not at all."))
    rows = [[what, number(record[attack])] for attack, what in ATTACKS.items() if attack in record]
    tables = (
        [Table("attacks", ("attack", "AUC in the worst epoch (.5 tells nothing, 1 all)"), rows)]
        if rows
        else []
    )
    facts = [("defence", "none" if record["defence"] == "none" else str(record["defence"]))]
    for key, word in (
        ("strength", "its strength"),
        ("epsilon", "labels that lie, epsilon"),
        ("bound", "bound on what a gradient may tell"),
        ("sum_kl", "sum of KL over the epochs"),
    ):
        if record.get(key) is not None:
            facts.append((word, f"{record[key]:g}"))
    told_of = told_by_gradients(record)
    return Section(
        "What gradients tell of the labels",
        "Your own run, attacked: what the feature holder that learns most could have guessed.",
        [Facts(facts)],
        figures,
        tables,
        verdict=told_of and Verdict(*told_of),
    )


def account(kept: Kept) -> Section | None:
    """The privacy ledger's part."""
    record = kept.summary.get("privacy")
    if not record:
        return None
    rows = []
    for name, spent in record.get("partners", {}).items():
        epsilon = "no bound" if spent["epsilon"] is None else f"{spent['epsilon']:.3f}"
        runs = f"{spent['runs']:,}" + (
            f" ({spent['unbounded']:,} without bound)" if spent["unbounded"] else ""
        )
        rows.append(
            [name, spent["mechanism"], epsilon, f"{spent['total']:.3f}", runs, f"{spent['releases']:,}"]
        )
    budget = "none" if record.get("budget") is None else f"{record['budget']:g}"
    head = ("partner", "of your", "epsilon of this run", "of all runs", "runs", "releases of a row")
    return Section(
        "Privacy that was spent",
        "Differential privacy, by the ledger of this party. A smaller epsilon tells less.",
        [Facts([("delta", f"{record['delta']:g}"), ("budget", budget)])],
        tables=[Table("partners", head, rows)] if rows else (),
    )


def left(kept: Kept) -> Section | None:
    """What left this company, by the egress log."""
    if kept.sent is None:
        return None
    attempts, sent = kept.sent
    entries = [
        (peer, kind, messages, bytes_)
        for peer, kinds in sorted(sent.items())
        for kind, (messages, bytes_) in sorted(kinds.items(), key=lambda item: -item[1][1])
    ]
    drawn = bars([float(entry[3]) for entry in entries], [size(entry[3]) for entry in entries])
    rows: list[list[str | Bar]] = [
        [peer, WORDS.get(kind, "not known to this page"), kind, f"{messages:,}", bar]
        for (peer, kind, messages, _), bar in zip(entries, drawn, strict=True)
    ]
    total = sum(entry[3] for entry in entries)
    never = "a raw id, a row, a column or its name, a model's weights" + (
        ", a label, a prediction" if kept.holds_label else ""
    )
    return Section(
        "What left this company",
        "Every message of this run, by the log that is written before a message leaves (audit.jsonl).",
        [
            Facts(
                [
                    ("attempts at the run", str(attempts)),
                    ("messages", f"{sum(entry[2] for entry in entries):,}"),
                    ("bytes", f"{total:,}"),
                    ("never", never),
                ]
            )
        ],
        tables=[Table("messages", ("to", "what", "kind", "messages", "bytes"), rows)],
    )
