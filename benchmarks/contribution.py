"""What each feature holder brings, by training without it and by its absence: lifts of test AUC.

    python benchmarks/contribution.py --json [--data online_shoppers] [--seeds 3] [--restarts 3]

By the reference trainer in one process; each seed makes other tables and another split. By partner (`all`:
the label holder is alone), and by way: the `lift`, the ends `low` and `high` of its 95 % interval over the
test users, medians over seeds; `seeds`: the standard deviation of the lift between seeds. `retrained` also
has `weights`, that between `--restarts` trainings which differ in their initial weights and dropout only: no
interval over users covers it. `absent` is of a network with `--party-dropout`. seconds: of one training, of
all further ones (without each partner in turn), and of a run's intervals.
"""

import json
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

sys.path[0] = str(Path(__file__).parents[1])  # benchmarks/psi.py would hide the package psi

from benchmarks.aligned_data import Aligned, aligned, comparing, over_seeds
from splitnn.lift import Lift, lifts
from splitnn.plan import Plan
from splitnn.reference import ReferenceResult, train
from splitnn.tasks import Labels

ALL = "all"


def trained(data: Aligned, plan: Plan, without: Sequence[str], restart: int) -> ReferenceResult:
    parties = {name: columns for name, columns in data.features.items() if name not in without}
    labels = Labels(*(data.labels[part] for part in data.rows))
    seeds = {name: plan.seed + bytes([restart]) + name.encode() for name in parties}
    return train(plan, data.rows, parties, labels, seeds)


def auc_lifts(result: ReferenceResult, without: dict[str, torch.Tensor], seed: bytes) -> dict[str, Lift]:
    found = lifts("binary", result.labels, result.scores, without, (), seed)
    return {name: metrics["auc"] for name, metrics in found.items()}


def measured(
    source: Path | None, seed: int, people: int, probability: float, restarts: int
) -> dict[str, Any]:
    """By way and partner the lift of one seed; `weights` of all restarts, and seconds."""
    with tempfile.TemporaryDirectory() as folder:
        data = aligned(Path(folder), source, seed, people)
    plan = Plan(seed.to_bytes(8, "big"))
    partners = [*data.features][1:]
    left_out = {name: [name] for name in partners} | {ALL: partners}
    began = time.perf_counter()
    able = trained(data, replace(plan, party_dropout=probability), (), 0)
    took, further = [time.perf_counter() - began], []
    found: dict[str, Any] = {"absent": auc_lifts(able, able.without, plan.seed)}
    runs = []
    for restart in range(restarts):
        began = time.perf_counter()
        whole = trained(data, plan, (), restart)
        took.append(time.perf_counter() - began)
        without = {}
        for name, out in left_out.items():
            began = time.perf_counter()
            without[name] = trained(data, plan, out, restart).scores
            if name != ALL:
                further.append((time.perf_counter() - began) * len(partners))
        began = time.perf_counter()
        runs.append(auc_lifts(whole, without, plan.seed))
        intervals = time.perf_counter() - began
    found["retrained"] = runs[0]
    found["weights"] = {
        name: statistics.stdev(run[name].lift for run in runs) if restarts > 1 else 0.0 for name in left_out
    }
    found["seconds"] = {
        "training": statistics.median(took),
        "further": statistics.median(further),
        "intervals": intervals,
    }
    found["rows"] = len(whole.labels)
    return found


def main() -> None:
    parser = comparing(str(__doc__))
    parser.add_argument("--restarts", type=int, default=3)
    given = parser.parse_args()
    runs = over_seeds(
        given, lambda *which: measured(*which, given.people, given.party_dropout, given.restarts)
    )

    def medians(way: str, name: str) -> dict[str, float]:
        each = [run[way][name] for run in runs]
        told = {key: statistics.median(getattr(one, key) for one in each) for key in ("lift", "low", "high")}
        told["seeds"] = statistics.stdev(one.lift for one in each) if len(each) > 1 else 0.0
        if way == "retrained":
            told["weights"] = statistics.median(run["weights"][name] for run in runs)
        return {key: round(value, 4) for key, value in told.items()}

    found = {
        "data": given.data,
        "seeds": given.seeds,
        "restarts": given.restarts,
        "party_dropout": given.party_dropout,
        "test_rows": round(statistics.mean(run["rows"] for run in runs)),
        **{way: {name: medians(way, name) for name in runs[0][way]} for way in ("retrained", "absent")},
        "seconds": {
            key: round(statistics.median(run["seconds"][key] for run in runs), 1)
            for key in runs[0]["seconds"]
        },
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
