"""Time to a good model over an emulated wide-area line: a schedule and codec against exact fp32.

    python benchmarks/wan.py --rtt-ms 50 --mbit 100 --json
    python benchmarks/wan.py --data online_shoppers --set training.schedule=pipelined codec.activations=int8

Three processes over mutual TLS. ratio: the seconds until the validation AUC has 99 % of the exact run's gain
over .5, evaluation included, over the seconds of exact fp32; medians over seeds. auc, auc_exact: of the test
rows at the end, means over seeds. bytes and steps: until that moment, at the label holder.
"""

import argparse
import json
import math
import statistics
import sys
import tempfile
import time
import tomllib
from collections.abc import Generator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

sys.path[0] = str(Path(__file__).parents[1])  # benchmarks/psi.py would hide the package psi

import torch
from sklearn.metrics import roc_auc_score

from benchmarks.aligned_data import GENERATED, Aligned, aligned, source_of
from benchmarks.emulated_line import Line
from benchmarks.loopback import Job, measure
from parties.contract import Contract
from parties.phases import plan_of
from protos.rounds import Progress, Round, Rounds, Save, Traffic, mapped
from splitnn.learner import Learner
from splitnn.models import bottom_model
from splitnn.plan import Plan
from splitnn.schedules import SCHEDULES
from splitnn.tasks import Labels

BATCH = 1024
INT8 = ["codec.activations=int8", "codec.gradients=int8"]
BEST = ["training.schedule=celu", "training.reuse=2", *INT8]
BEST_ON_GENERATED = ["training.schedule=pipelined", "evaluation.every=1", *INT8]
"""Of run.toml: the schedule and codec of the figures in docs/splitnn.md. The made-up data has columns of many
levels, which local steps learn by heart."""
SHARE = 0.99


class Judged(NamedTuple):
    """One epoch of one run: seconds since its begin, bytes both ways, steps taken, validation AUC."""

    seconds: float
    bytes: int
    steps: int
    auc: float


class Run(NamedTuple):
    """epochs: those judged, in order. test_auc: of the weights that were kept."""

    epochs: list[Judged]
    test_auc: float

    def first(self, auc: float) -> Judged | None:
        return next((judged for judged in self.epochs if judged.auc >= auc), None)


def plan(settings: list[str], seed: int, names: list[str]) -> Plan:
    """The plan of a contract with these settings, `section.key=value`."""
    document: dict[str, Any] = {
        "version": 1,
        "name": "wan",
        "label_holder": names[0],
        "seed": seed,
        "parties": {name: {"key": f"sha256:{place:064x}"} for place, name in enumerate(names)},
        "ids": {"type": "email"},
        "training": {"batch": BATCH},
    }
    for setting in settings:
        name, value = setting.split("=", 1)
        section, key = name.split(".", 1)
        with suppress(tomllib.TOMLDecodeError):  # a word without quotes
            value = tomllib.loads(f"value = {value}")["value"]
        document.setdefault(section, {})[key] = value
    return plan_of(Contract.model_validate(document))


def timed(rounds: Rounds[Any]) -> Rounds[Any]:
    """The same rounds; returns their result and, for each `Save`, when it was, the traffic and the steps."""
    saves: list[tuple[float, Traffic, int]] = []
    traffic, steps = Traffic(0, 0), 0

    def each(word: Round) -> Generator[Round, Any, Any]:
        nonlocal traffic, steps
        answer = yield word
        if isinstance(word, Progress):
            traffic, steps = answer, word.done
        if isinstance(word, Save):
            saves.append((time.monotonic(), traffic, steps))
        return answer

    result = yield from mapped(rounds, each)
    return result, saves


def party(plan: Plan, folder: str, name: str, names: list[str]) -> Rounds[Any]:
    torch.set_num_threads(1)
    data: Aligned = torch.load(f"{folder}/aligned.pt", weights_only=False)  # ours: written below
    Learner(plan, bottom_model(plan, 1, (), b""), 1)  # torch loads much at the first: before the clocks start
    schedule, seed = SCHEDULES[plan.schedule], name.encode() + plan.seed
    if name == names[0]:
        labels = Labels(*(data.labels[part] for part in data.rows))
        rounds: Rounds[Any] = schedule.label_holder(
            plan, data.rows, data.features[name], labels, names[1:], seed
        )
    else:
        rounds = schedule.feature_holder(plan, data.rows, data.features[name], names[0], seed)
    return timed(rounds)


def nothing(outcome: object) -> None:
    return None


def label_holders_view(outcome: tuple[Any, list[tuple[float, Traffic, int]]]) -> Run:
    result, saves = outcome
    epochs = [
        Judged(when, sum(traffic), steps, entry["auc"])
        for (when, traffic, steps), entry in zip(saves, result.history, strict=True)
        if "auc" in entry
    ]
    return Run(epochs, float(roc_auc_score(result.labels.numpy(), result.scores.numpy())))


def run(plan: Plan, folder: str, names: list[str], line: Line) -> Run:
    jobs = {
        name: Job(party, (plan, folder, name, names), nothing if place else label_holders_view)
        for place, name in enumerate(names)
    }
    measured = measure(names[0], jobs, line)[names[0]]
    outcome: Run = measured.result
    since = [epoch._replace(seconds=epoch.seconds - measured.began) for epoch in outcome.epochs]
    return outcome._replace(epochs=since)


def compare(settings: list[str], source: Path | None, seed: int, people: int, line: Line) -> dict[str, Any]:
    """One seed: exact fp32 and the settings, on the same tables and over the same line."""
    with tempfile.TemporaryDirectory() as folder:
        data = aligned(Path(folder), source, seed, people)
        torch.save(data, f"{folder}/aligned.pt")
        names = [*data.features]
        exact = run(plan([], seed, names), folder, names, line)
        other = run(plan(settings, seed, names), folder, names, line)
    target = 0.5 + SHARE * (max(epoch.auc for epoch in exact.epochs) - 0.5)
    ours, theirs = other.first(target), exact.first(target)
    assert theirs is not None
    never = Judged(math.inf, 0, 0, 0.0)
    return {
        "ratio": (ours or never).seconds / theirs.seconds,
        "auc": other.test_auc,
        "auc_exact": exact.test_auc,
        "seconds": (ours or never).seconds,
        "seconds_exact": theirs.seconds,
        "bytes": (ours or never).bytes,
        "bytes_exact": theirs.bytes,
        "steps": (ours or never).steps,
        "steps_exact": theirs.steps,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rtt-ms", type=float, default=50.0)
    parser.add_argument("--mbit", type=float, default=100.0, help="of each stream, each way")
    parser.add_argument("--jitter-ms", type=float, default=0.0)
    parser.add_argument("--data", default=GENERATED, help="online_shoppers, or another set under PARTY_DATA")
    parser.add_argument("--set", nargs="+", metavar="SECTION.KEY=VALUE", help="of run.toml")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--people", type=int, default=100_000, help="of the made-up population")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    settings = given.set or (BEST_ON_GENERATED if given.data == GENERATED else BEST)
    source = source_of(given.data)
    line = Line(given.rtt_ms / 2000, given.mbit * 125_000, given.jitter_ms / 1000)
    runs = []
    for seed in range(1, given.seeds + 1):
        runs.append(compare(settings, source, seed, given.people, line))
        if not given.json:
            print(f"seed {seed}: " + ", ".join(f"{key} {value:.4g}" for key, value in runs[-1].items()))
    result: dict[str, Any] = {"data": given.data, "rtt_ms": given.rtt_ms, "mbit": given.mbit, "set": settings}
    for key in runs[0]:
        mean = statistics.mean if key.startswith("auc") else statistics.median
        value = mean(run[key] for run in runs)
        result[key] = round(value, 4) if math.isfinite(value) else None  # never got there
    print(json.dumps(result) if given.json else "\n".join(f"{k:<20}{v}" for k, v in result.items()))


if __name__ == "__main__":
    main()
