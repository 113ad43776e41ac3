"""What calibration does to the federation's scores on the test rows: mean of several seeds.

    python benchmarks/calibration.py [--data FOLDER] [--seeds 3] [--class-weight 4]

Each seed makes other tables, another split and another initialisation. --class-weight: how much a yes counts.
"""

import argparse
import statistics
import sys
import tempfile
from pathlib import Path

import torch

sys.path[0] = str(Path(__file__).parents[1])  # benchmarks/psi.py would hide the package psi

from benchmarks.aligned_data import Aligned, aligned
from protos.memory import together
from splitnn.calibration import CALIBRATIONS
from splitnn.exact import LabelHolderResult, feature_holder, label_holder
from splitnn.plan import Plan
from splitnn.tasks import Labels

METRICS = ("auc", "log_loss", "brier", "ece")


def trained(data: Aligned, labels: Labels, plan: Plan) -> LabelHolderResult:
    hub, *others = data.features
    seeds = {name: plan.seed + name.encode() for name in data.features}
    leading = label_holder(plan, data.rows, data.features[hub], labels, others, seeds[hub])
    parties = {
        name: feature_holder(plan, data.rows, data.features[name], hub, seeds[name]) for name in others
    }
    result = together({hub: leading, **parties}).results[hub]
    assert isinstance(result, LabelHolderResult)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument(
        "--data", type=Path, help="a folder with split.json and its CSV; else made-up companies"
    )
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--people", type=int, default=100_000, help="of the made-up population")
    parser.add_argument("--class-weight", type=float, default=1.0)
    given = parser.parse_args()
    torch.set_num_threads(1)
    found: dict[str, list[dict[str, float]]] = {}
    for seed in range(1, given.seeds + 1):
        with tempfile.TemporaryDirectory() as folder:
            data = aligned(Path(folder), given.data, seed, given.people)
        train, validation, test = (data.labels[part] for part in data.rows)
        labels = Labels(train, validation, test, weights=1 + (given.class_weight - 1) * train.double())
        result = trained(data, labels, Plan(seed.to_bytes(8, "big")))
        scores = {"none": result.scores}
        for name, method in CALIBRATIONS["binary"].items():
            calibration = method.fit("binary", result.validation_logits, validation)
            scores[name] = calibration.scores(result.logits)
        for name, calibrated in scores.items():
            found.setdefault(name, []).append(result.objective.metrics(test, calibrated))
    for name, runs in found.items():
        told = (f"{metric} {statistics.mean(run[metric] for run in runs):.4f}" for metric in METRICS)
        print(f"{name:<12}{'  '.join(told)}")


if __name__ == "__main__":
    main()
