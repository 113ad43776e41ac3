"""What the gradients tell of the labels, and what it costs to tell less: leak and test AUC of each defence.

    python benchmarks/leakage.py [--data online_shoppers] [--seeds 5] [--defences marvell iso] [--json]

By the reference trainer in one process, on the demo's made-up tables or a set under PARTY_DATA. Each seed
makes other tables, another split, another initialisation and other noise. `norm_leak` and `cosine_leak` are
the 95 % quantile over the batches of an epoch, of the feature holder that learns most, and of the epoch
that tells most; `..._rows` is an attacker's who takes each row's mean score over all epochs. All are means
over the seeds; of `gate`, over those whose training it did not end: `stopped` is the share that it did.
"""

import argparse
import json
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

sys.path[0] = str(Path(__file__).parents[1])  # benchmarks/psi.py would hide the package psi

from benchmarks.aligned_data import GENERATED, Aligned, aligned, source_of
from splitnn import outgoing
from splitnn.errors import LeakError
from splitnn.label_defence import LabelDefence
from splitnn.plan import Plan
from splitnn.randomised_response import draws
from splitnn.reference import train
from splitnn.tasks import Labels

STRENGTHS: dict[str, tuple[float, ...]] = {
    "none": (0.0,),
    "marvell": (0.25, 1.0, 4.0, 16.0, 64.0),
    "iso": (0.58, 1.0, 2.5, 4.0),
    "max_norm": (1.0,),
    "label_dp": (1.0, 3.0, 8.0),
    "gate": (0.8, 0.7, 0.6),
}
"""Of `gate` the bounds: marvell, which it may raise from 1/4 to 64."""
LEAKS = ("norm_leak", "cosine_leak", "norm_leak_rows", "cosine_leak_rows")


def defence_of(name: str, strength: float) -> LabelDefence:
    if name == "label_dp":
        return LabelDefence(epsilon=strength)
    if name == "gate":
        return LabelDefence("marvell", 0.25, max_strength=64.0, max_leak=strength)
    return LabelDefence(name, strength)


def trained(data: Aligned, seed: int, defence: LabelDefence, batch: int, epochs: int) -> dict[str, float]:
    plan = Plan(seed.to_bytes(8, "big"), batch=batch, epochs=epochs, importance="none", label_defence=defence)
    parts = [data.labels[part] for part in data.rows]
    told = [
        draws(plan.seed, "label", 2, defence.epsilon, (b"%d" % row for row in part.tolist()))
        for part in (data.rows.train, data.rows.validation)
    ]
    labels = Labels(*parts, draws=(told[0], told[1]))
    seeds = {name: plan.seed + name.encode() for name in data.features}
    try:
        result = train(plan, data.rows, data.features, labels, seeds)
    except LeakError:
        return {"stopped": 1.0}
    found = {leak: max(entry.get(leak, 0.5) for entry in result.history) for leak in LEAKS}
    found["test_auc"] = result.objective.metrics(result.labels, result.scores)["auc"]
    found["raised_to"] = result.history[-1].get("label_defence_strength", defence.strength)
    return found | {"epochs": float(result.epochs), "stopped": 0.0}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", default=GENERATED, help="online_shoppers, or another set under PARTY_DATA")
    parser.add_argument("--defences", nargs="+", choices=[*STRENGTHS], default=[*STRENGTHS])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--people", type=int, default=100_000, help="of the made-up population")
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--epochs", type=int, default=50, help="at most")
    parser.add_argument("--json", action="store_true", help="one line of JSON for each defence and strength")
    given = parser.parse_args()
    torch.set_num_threads(1)
    outgoing.EVERY = 1  # an attacker looks at every batch
    source, tables = source_of(given.data), []
    for seed in range(1, given.seeds + 1):
        with tempfile.TemporaryDirectory() as folder:
            tables.append(aligned(Path(folder), source, seed, given.people))
    for name in given.defences:
        for strength in STRENGTHS[name]:
            defence = defence_of(name, strength)
            runs = [
                trained(data, seed, defence, given.batch, given.epochs) for seed, data in enumerate(tables, 1)
            ]
            result: dict[str, Any] = {"data": given.data, "defence": name, "strength": strength}
            for key in dict.fromkeys(key for run in runs for key in run):  # what was stopped has no figures
                result[key] = round(statistics.mean(run[key] for run in runs if key in run), 4)
            result["seeds"] = given.seeds
            told = json.dumps(result) if given.json else "  ".join(f"{k} {v}" for k, v in result.items())
            print(told, flush=True)


if __name__ == "__main__":
    main()
