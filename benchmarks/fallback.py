"""How good a score is when a feature holder is absent, beside a model that never had it: test AUC.

    python benchmarks/fallback.py --json [--data online_shoppers] [--party-dropout 0.3] [--seeds 5]

By the reference trainer in one process; each seed makes other tables, another split and another
initialisation. auc: all present, auc_never_dropped: by a model without party dropout; medians over seeds.
absent: by the absent feature holder the test AUC of the federation's model without it, that of a federation
which never had it (`never`), and the median difference of the two. worst: the least of these differences. A
score's calibration by temperature is a rising function of its logit, so it changes no AUC.
"""

import json
import statistics
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path[0] = str(Path(__file__).parents[1])  # benchmarks/psi.py would hide the package psi

from benchmarks.aligned_data import Aligned, aligned, comparing, over_seeds
from splitnn.plan import Plan
from splitnn.reference import ReferenceResult, train
from splitnn.tasks import Labels


def trained(data: Aligned, plan: Plan, without: str | None = None) -> ReferenceResult:
    parties = {name: columns for name, columns in data.features.items() if name != without}
    labels = Labels(*(data.labels[part] for part in data.rows))
    return train(plan, data.rows, parties, labels, {name: plan.seed + name.encode() for name in parties})


def auc(result: ReferenceResult, without: str | None = None) -> float:
    scores = result.scores if without is None else result.without[without]
    return float(result.objective.metrics(result.labels, scores)["auc"])


def measured(source: Path | None, seed: int, people: int, probability: float) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        data = aligned(Path(folder), source, seed, people)
    plan = Plan(seed.to_bytes(8, "big"))
    result = trained(data, replace(plan, party_dropout=probability))
    absent = {name: (auc(result, name), auc(trained(data, plan, name))) for name in [*data.features][1:]}
    return {"auc": auc(result), "auc_never_dropped": auc(trained(data, plan)), "absent": absent}


def main() -> None:
    given = comparing(str(__doc__)).parse_args()
    runs = over_seeds(given, lambda *which: measured(*which, given.people, given.party_dropout))

    def median(of: Any) -> float:
        return round(statistics.median(of(run) for run in runs), 4)

    absent = {
        name: {
            "auc": median(lambda run, name=name: run["absent"][name][0]),
            "never": median(lambda run, name=name: run["absent"][name][1]),
            "difference": median(lambda run, name=name: run["absent"][name][0] - run["absent"][name][1]),
        }
        for name in runs[0]["absent"]
    }
    found = {
        "data": given.data,
        "party_dropout": given.party_dropout,
        "seeds": given.seeds,
        "auc": median(lambda run: run["auc"]),
        "auc_never_dropped": median(lambda run: run["auc_never_dropped"]),
        "absent": absent,
        "worst": min(one["difference"] for one in absent.values()),
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
