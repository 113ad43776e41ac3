"""What it costs that activations tell less: test AUC of secure sums and of noise, and what noise claims.

    python benchmarks/embeddings.py [--data online_shoppers] [--seeds 5] [--json]

By the reference trainer in one process, on the demo's made-up tables or a set under PARTY_DATA. `sum` and
`secure-sum` differ by rounding alone: `auc_less_sum` is how much less than `sum` a choice has, the mean over
the seeds, `auc_off_sum` the most by which a seed is off, either way. Of noise: `epsilon` of all releases of a
row in training, as a run charges it; `epsilon_found` is what the best test between two rows as far apart as
the clip allows bounds it by from below, 99.9 % sure (Nasr et al. 2021, "Adversary Instantiation").
"""

import argparse
import json
import math
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

sys.path[0] = str(Path(__file__).parents[1])  # benchmarks/psi.py would hide the package psi

from benchmarks.aligned_data import GENERATED, Aligned, aligned, source_of
from splitnn.accountant import epsilon
from splitnn.embedding_dp import EmbeddingDP
from splitnn.plan import Plan
from splitnn.reference import train
from splitnn.releases import planned, releases
from splitnn.secure_sum import SECURE_SUM
from splitnn.tasks import Labels

DELTA = 1e-5
TRIES = 100_000
"""Canaries of each row."""
CHOICES: dict[str, tuple[str, EmbeddingDP]] = {
    "sum": ("sum", EmbeddingDP()),
    "secure-sum": (SECURE_SUM, EmbeddingDP()),
    **{f"sigma {sigma:g}": ("sum", EmbeddingDP(1.0, sigma)) for sigma in (0.0, 1.0, 4.0, 16.0)},
}


def trained(data: Aligned, seed: int, choice: str, batch: int, epochs: int) -> dict[str, float]:
    fusion, noise = CHOICES[choice]
    plan = Plan(
        seed.to_bytes(8, "big"),
        batch=batch,
        epochs=epochs,
        fusion=fusion,
        importance="none",
        embedding=noise,
    )
    labels = Labels(*(data.labels[part] for part in data.rows))
    seeds = {name: plan.seed + name.encode() for name in data.features}
    result = train(plan, data.rows, data.features, labels, seeds)
    often = releases(data.rows, planned(plan, data.rows, result.epochs))
    auc = result.objective.metrics(result.labels, result.scores)["auc"]
    return {"test_auc": auc, "releases": float(often)}


def found(noise: EmbeddingDP, often: int) -> float:
    """A lower bound of the epsilon of so many releases: for it, two rows are told apart by their mean."""
    scores = []
    for sign in (-1.0, 1.0):
        row = torch.full((TRIES, 1), sign * (noise.clip or 0.0))
        names = (f"canary {sign} {release}" for release in range(often))
        scores.append(torch.stack([noise.release(row, b"seed", name)[:, 0] for name in names]).mean(0))
    thresholds = torch.quantile(torch.cat(scores), torch.linspace(0.01, 0.99, 99))
    slack = math.sqrt(
        math.log(4 * len(thresholds) / 1e-3) / (2 * TRIES)
    )  # Hoeffding, for all of them at once
    best = 0.0
    for threshold in thresholds:
        false, true = ((score > threshold).double().mean().item() for score in scores)
        if true - slack > DELTA:
            best = max(best, math.log((true - slack - DELTA) / (false + slack)))
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", default=GENERATED, help="online_shoppers, or another set under PARTY_DATA")
    parser.add_argument("--choices", nargs="+", choices=[*CHOICES], default=[*CHOICES])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--people", type=int, default=100_000, help="of the made-up population")
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--epochs", type=int, default=50, help="at most")
    parser.add_argument("--json", action="store_true", help="one line of JSON for each choice")
    given = parser.parse_args()
    torch.set_num_threads(1)
    source, tables = source_of(given.data), []
    for seed in range(1, given.seeds + 1):
        with tempfile.TemporaryDirectory() as folder:
            tables.append(aligned(Path(folder), source, seed, given.people))

    def of_each_seed(choice: str) -> list[dict[str, float]]:
        return [trained(data, seed, choice, given.batch, given.epochs) for seed, data in enumerate(tables, 1)]

    plain = [run["test_auc"] for run in of_each_seed("sum")]
    for choice in given.choices:
        runs, noise = of_each_seed(choice), CHOICES[choice][1]
        less = [auc - run["test_auc"] for auc, run in zip(plain, runs, strict=True)]
        often = round(max(run["releases"] for run in runs))
        claimed = noise.rho(often) if noise.sigma else math.inf
        result: dict[str, Any] = {
            "data": given.data,
            "choice": choice,
            "test_auc": round(statistics.mean(run["test_auc"] for run in runs), 4),
            "auc_less_sum": round(statistics.mean(less), 4),
            "auc_off_sum": round(max(map(abs, less)), 4),
            "releases": often,
            "epsilon": round(epsilon(claimed, DELTA), 3) if noise.sigma else None,
            "epsilon_found": round(found(noise, often), 3) if noise.sigma else None,
            "seeds": given.seeds,
        }
        print(
            json.dumps(result) if given.json else "  ".join(f"{k} {v}" for k, v in result.items()), flush=True
        )


if __name__ == "__main__":
    main()
