"""A million rows: three processes over mutual TLS against the reference in one process.

    python benchmarks/large.py --json

1,000,000 rows x 3 parties x 30 columns, one epoch at batch 4096, evaluation and test included, the default
model, one thread a process. ratio: rows/s of the federation over the reference's; medians over the runs,
which alternate. peak_rss_mb: of the party that takes most. What torch imports with a process's first
optimiser, for about a second, is imported before the clock starts, at all of them.
"""

import argparse
import json
import statistics
import sys
from pathlib import Path
from typing import Any

sys.path[0] = str(Path(__file__).parents[1])  # benchmarks/psi.py would hide the package psi

import torch
import torch._dynamo

from benchmarks.loopback import Job, measure
from protos.rounds import Progress, Rounds
from splitnn import exact, reference
from splitnn.features import Features
from splitnn.plan import Plan
from splitnn.schedule import Split, split_rows
from splitnn.tasks import Labels

NAMES = ("label-holder", "feature-a", "feature-b")
COLUMNS = 30
PLAN = Plan(seed=b"benchmark", batch=4096, epochs=1)


def rows(n: int) -> Split:
    return split_rows(n, 0.1, 0.1, PLAN.seed)


def features(party: int, n: int) -> Features:
    draw = torch.Generator().manual_seed(party)
    return Features(torch.randn(n, COLUMNS, generator=draw), torch.empty(n, 0, dtype=torch.int64), ())


def labels(split: Split) -> Labels:
    values = (torch.rand(sum(map(len, split)), generator=torch.Generator().manual_seed(9)) < 0.5).float()
    return Labels(*(values[part] for part in split))


def party(index: int, n: int) -> Rounds[Any]:
    torch.set_num_threads(1)
    split, seed = rows(n), b"seed %d" % index
    if index == 0:
        return exact.label_holder(PLAN, split, features(0, n), labels(split), NAMES[1:], seed)
    return exact.feature_holder(PLAN, split, features(index, n), NAMES[0], seed)


def one_process(n: int) -> Rounds[Any]:
    """A protocol of one, so that it is measured as the others are."""
    torch.set_num_threads(1)
    split = rows(n)
    columns = {name: features(index, n) for index, name in enumerate(NAMES)}
    seeds = {name: b"seed %d" % index for index, name in enumerate(NAMES)}
    targets = labels(split)

    def rounds() -> Rounds[Any]:
        yield Progress("training", 0, 0)
        return reference.train(PLAN, split, columns, targets, seeds)

    return rounds()


def nothing(result: object) -> None:
    return None


def pair(n: int) -> dict[str, float]:
    alone = measure("reference", {"reference": Job(one_process, (n,), nothing)})["reference"]
    parties = measure(NAMES[0], {name: Job(party, (i, n), nothing) for i, name in enumerate(NAMES)})
    hub = parties[NAMES[0]]
    trained = len(rows(n).train)
    speed, reference_speed = trained / (hub.ended - hub.began), trained / (alone.ended - alone.began)
    return {
        "ratio": speed / reference_speed,
        "rows_per_second": speed,
        "reference_rows_per_second": reference_speed,
        "peak_rss_mb": max(one.peak_rss_mb for one in parties.values()),
        "reference_peak_rss_mb": alone.peak_rss_mb,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    pairs = [pair(given.rows) for _ in range(given.runs)]
    result = {"rows": given.rows} | {
        key: round(statistics.median(one[key] for one in pairs), 3) for key in pairs[0]
    }
    print(json.dumps(result) if given.json else "\n".join(f"{k:<28}{v}" for k, v in result.items()))


if __name__ == "__main__":
    main()
