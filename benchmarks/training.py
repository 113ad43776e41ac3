"""Time per training step: three processes over mutual TLS against the reference in one process.

    python benchmarks/training.py --batch 1024 --json
    python benchmarks/training.py --fusion secure-sum --json    against the federation with `sum`, too

Three parties with 16 columns each, bottoms 16-64-32, top 96-64-1, Adam, one thread each. Federation and
reference alternate; the figures are medians over the pairs (rounds, where there are three).
"""

import argparse
import json
import math
import statistics
import sys
import time
from itertools import pairwise
from pathlib import Path

sys.path[0] = str(Path(__file__).parents[1])  # benchmarks/psi.py would hide the package psi

import torch
from torch import Tensor

from benchmarks.loopback import Job, measure
from protos.rounds import Rounds
from splitnn import exact, reference
from splitnn.features import Features
from splitnn.masks import Masks
from splitnn.plan import Plan
from splitnn.schedule import Split, split_rows
from splitnn.secure_sum import SECURE_SUM
from splitnn.tasks import Labels

NAMES = ("label-holder", "feature-a", "feature-b")
EPOCHS = 4
FUSION = "concat"


def plan(batch: int, epochs: int = EPOCHS, fusion: str = FUSION) -> Plan:
    return Plan(
        seed=b"benchmark",
        cut=32,
        fusion=fusion,
        importance="parties" if fusion == FUSION else "none",
        bottom_hidden=(64,),
        top_hidden=(64,),
        dropout=0.0,
        batch=batch,
        epochs=epochs,
        patience=epochs,
    )


def rows(batch: int, steps: int) -> Split:
    """So many full batches an epoch, and as few rows to evaluate as there can be."""
    n = batch * steps + 200
    return split_rows(n, 100 / n, 100 / n, b"benchmark")


def features(party: int, n: int) -> Features:
    draw = torch.Generator().manual_seed(party)
    return Features(torch.randn(n, 16, generator=draw), torch.empty(n, 0, dtype=torch.int64), ())


def labels(split: Split) -> Labels:
    n = sum(len(part) for part in split)
    values = (torch.rand(n, generator=torch.Generator().manual_seed(9)) < 0.5).float()
    return Labels(values[split.train], values[split.validation], values[split.test])


def party(
    index: int, batch: int, steps: int, epochs: int = EPOCHS, fusion: str = FUSION
) -> Rounds[exact.LabelHolderResult | exact.FeatureHolderResult]:
    torch.set_num_threads(1)
    split = rows(batch, steps)
    own = features(index, sum(len(part) for part in split))
    agreed, seed = plan(batch, epochs, fusion), b"seed %d" % index
    if index == 0:
        return exact.label_holder(agreed, split, own, labels(split), NAMES[1:], seed)
    masks = None
    if fusion == SECURE_SUM:
        other = NAMES[3 - index]
        masks = Masks(NAMES[index], NAMES[1:], {other: b"a secret"}, b"run", b"attempt")
    return exact.feature_holder(agreed, split, own, NAMES[0], seed, masks=masks)


def nothing(result: object) -> None:
    return None


def federation(batch: int, steps: int, fusion: str) -> tuple[float, float]:
    """(ms a step, bytes a step at the label holder)."""
    jobs = {name: Job(party, (i, batch, steps, EPOCHS, fusion), nothing) for i, name in enumerate(NAMES)}
    hub = measure(NAMES[0], jobs)[NAMES[0]]
    seconds = [after - before for before, after in zip(hub.steps, hub.steps[1:], strict=False)]
    return 1000 * statistics.median(seconds), sum(hub.traffic) / (steps * EPOCHS)


class Clocked(Features):
    """Columns that note when each batch is taken: the reference's steps, timed as the federation's are."""

    def batch(self, entities: Tensor) -> tuple[Tensor, Tensor]:
        self.__dict__.setdefault("taken", []).append(time.perf_counter())
        return super().batch(entities)


def one_process(batch: int, steps: int, fusion: str) -> float:
    """ms a step, the median, by the clock of the first party's batches."""
    split = rows(batch, steps)
    n = sum(len(part) for part in split)
    columns = {name: features(i, n) for i, name in enumerate(NAMES)}
    first = columns[NAMES[0]]
    clocked = Clocked(first.numeric, first.categorical, first.levels)
    seeds = {name: b"seed %d" % i for i, name in enumerate(NAMES)}
    reference.train(plan(batch, fusion=fusion), split, columns | {NAMES[0]: clocked}, labels(split), seeds)
    taken: list[float] = clocked.__dict__["taken"]
    return 1000 * statistics.median(after - before for before, after in pairwise(taken))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--batch", type=int, default=1024)
    parser.add_argument("--steps", type=int, default=100, help="an epoch")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--fusion", choices=(FUSION, "sum", SECURE_SUM), default=FUSION)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    torch.set_num_threads(1)
    pairs = []
    for _ in range(given.runs):
        alone = one_process(given.batch, given.steps, given.fusion)
        plain = federation(given.batch, given.steps, "sum")[0] if given.fusion == SECURE_SUM else math.nan
        step, size = federation(given.batch, given.steps, given.fusion)
        pairs.append((step / alone, step, alone, size, plain, step / plain))
    ratio, step, alone, size, plain, cost = (statistics.median(column) for column in zip(*pairs, strict=True))
    wire = 2 * given.batch * 32 * 4 * (len(NAMES) - 1)
    result = {
        "batch": given.batch,
        "ratio": round(ratio, 3),
        "step_ms": round(step, 3),
        "reference_step_ms": round(alone, 3),
        "bytes_ratio": round(size / wire, 4),
    }
    if given.fusion == SECURE_SUM:
        result |= {"sum_step_ms": round(plain, 3), "ratio_to_sum": round(cost, 3)}
    print(json.dumps(result) if given.json else "\n".join(f"{k:<20}{v}" for k, v in result.items()))


if __name__ == "__main__":
    main()
