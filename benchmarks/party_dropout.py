"""What party dropout costs with all present, and what it saves when a feature holder is absent: test AUC.

    python benchmarks/party_dropout.py [--data FOLDER] [--seeds 3] [--probabilities 0 .05 .1 .2 .3]

By the reference trainer in one process. `without X` is the federation's model, scored without X; in the row
`never` it is a federation that never had X. Each seed makes other tables, another split and another
initialisation.
"""

import argparse
import statistics
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import torch

sys.path[0] = str(Path(__file__).parents[1])  # benchmarks/psi.py would hide the package psi

from benchmarks.aligned_data import Aligned, aligned
from splitnn.plan import Plan
from splitnn.reference import ReferenceResult, train
from splitnn.tasks import Labels


def trained(data: Aligned, plan: Plan, without: str | None = None) -> ReferenceResult:
    parties = {name: columns for name, columns in data.features.items() if name != without}
    labels = Labels(*(data.labels[part] for part in data.rows))
    return train(plan, data.rows, parties, labels, {name: plan.seed + name.encode() for name in parties})


def aucs(data: Aligned, plan: Plan) -> dict[str, float]:
    result = trained(data, plan)
    scores = {"all present": result.scores}
    scores |= {f"without {name}": part for name, part in result.without.items()}
    return {name: result.objective.metrics(result.labels, part)["auc"] for name, part in scores.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument(
        "--data", type=Path, help="a folder with split.json and its CSV; else made-up companies"
    )
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--people", type=int, default=100_000, help="of the made-up population")
    parser.add_argument("--probabilities", type=float, nargs="+", default=[0.0, 0.05, 0.1, 0.2, 0.3])
    given = parser.parse_args()
    torch.set_num_threads(1)
    found: dict[str, dict[str, list[float]]] = {}
    for seed in range(1, given.seeds + 1):
        with tempfile.TemporaryDirectory() as folder:
            data = aligned(Path(folder), given.data, seed, given.people)
        plan = Plan(seed.to_bytes(8, "big"))
        for name in [*data.features][1:]:
            result = trained(data, plan, name)
            auc = result.objective.metrics(result.labels, result.scores)["auc"]
            found.setdefault("never", {}).setdefault(f"without {name}", []).append(auc)
        for probability in given.probabilities:
            for name, auc in aucs(data, replace(plan, party_dropout=probability)).items():
                found.setdefault(f"p = {probability:g}", {}).setdefault(name, []).append(auc)
        print(f"seed {seed} done", file=sys.stderr)
    for title, columns in found.items():
        told = (f"{name} {statistics.mean(auc):.4f}" for name, auc in columns.items())
        print(f"{title:<10}{'  '.join(told)}")


if __name__ == "__main__":
    main()
