"""What bottom models tell of labels, and activations of columns, under each choice that might lessen it.

    python benchmarks/audits.py [--data online_shoppers] [--settings none marvell] [--seeds 1] [--json]

The attacks of `party audit` on models that the reference trains in one process, on the demo's made-up tables
or a set under PARTY_DATA. Of each feature holder and seed a line: `auc` and `baseline`, model completion with
100 known labels and what the columns tell alone; `numeric_r2` and `level_r2`, feature inversion with 500
known users, means over its columns of numbers and of levels (of a secure sum, from the sum); `test_auc` of
the federation.
"""

import argparse
import json
import statistics
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

sys.path[0] = str(Path(__file__).parents[1])  # benchmarks/psi.py would hide the package psi

from benchmarks.aligned_data import GENERATED, Aligned, aligned, source_of
from splitnn.crossing import Codecs, Crossing
from splitnn.dense import dense
from splitnn.embedding_dp import EmbeddingDP
from splitnn.feature_inversion import invert
from splitnn.features import Features
from splitnn.importance import activation_of
from splitnn.label_defence import LabelDefence
from splitnn.model_completion import complete
from splitnn.models import bottom_model
from splitnn.plan import Plan
from splitnn.randomised_response import draws
from splitnn.randomness import permutation
from splitnn.reference import train
from splitnn.secure_sum import SECURE_SUM
from splitnn.tasks import Labels

PLAN = Plan(b"", importance="none")
SETTINGS: dict[str, Plan] = {
    "none": PLAN,
    "marvell 4": replace(PLAN, label_defence=LabelDefence("marvell", 4.0)),
    "label_epsilon 1": replace(PLAN, label_defence=LabelDefence(epsilon=1.0)),
    "cut 4": replace(PLAN, cut=4),
    "int8": replace(PLAN, codec=Codecs("int8", "int8")),
    "randtopk 4": replace(PLAN, codec=Codecs("randtopk", keep=4)),
    "secure-sum": replace(PLAN, fusion=SECURE_SUM),
    "embedding 1 0.1": replace(PLAN, embedding=EmbeddingDP(1.0, 0.1)),
    "embedding 1 1": replace(PLAN, embedding=EmbeddingDP(1.0, 1.0)),
}
LABELS, USERS, MOST = 100, 500, 6000


def attacked(data: Aligned, plan: Plan) -> list[dict[str, Any]]:
    """A record of each feature holder."""
    parts = [data.labels[part] for part in data.rows]
    epsilon = plan.label_defence.epsilon
    told = [
        draws(plan.seed, "label", 2, epsilon, (b"%d" % row for row in part.tolist())) for part in data.rows
    ]
    seeds = {name: plan.seed + name.encode() for name in data.features}
    result = train(plan, data.rows, data.features, Labels(*parts, draws=(told[0], told[1])), seeds)
    test_auc = result.objective.metrics(result.labels, result.scores)["auc"]
    some = permutation(plan.seed, "audited", len(data.labels))[:MOST]
    holders = {name: _only(data.features[name], some) for name in [*data.features][1:]}
    arrived = {name: _arrived(plan, result.bottoms[name].eval(), few) for name, few in holders.items()}
    if plan.fusion == SECURE_SUM:
        arrived = dict.fromkeys(holders, torch.stack([*arrived.values()]).sum(0))
    found = []
    for name, few in holders.items():

        def fresh(seed: bytes, few: Features = few) -> torch.nn.Module:
            return bottom_model(plan, few.numeric.shape[1], few.levels, seed)

        weights, truth = result.bottoms[name].state_dict(), data.labels[some].long()
        labels = complete(fresh, weights, few, truth, LABELS, plan.seed)
        columns = dense(few, torch.arange(len(few)))
        names = ["numeric" if group.numeric else "level" for group in few.groups]
        inverted = invert(arrived[name], columns, names, USERS, plan.seed)
        kinds = {
            f"{kind}_r2": statistics.mean(one.told.mean for one in inverted if one.name == kind)
            for kind in dict.fromkeys(names)
        }
        best, plain = (max(one.mean for one in side.values()) for side in (labels.attack, labels.baseline))
        told_of = {"auc": best, "baseline": plain, **kinds, "test_auc": test_auc}
        record = {key: round(value, 3) for key, value in told_of.items()}
        found.append({"party": name, **record, "gain": [round(one, 3) for one in labels.gain]})
    return found


def _only(features: Features, rows: torch.Tensor) -> Features:
    numeric, codes = features.batch(rows)
    return replace(features, numeric=numeric, categorical=codes)


def _arrived(plan: Plan, bottom: torch.nn.Module, few: Features) -> torch.Tensor:
    """What the label holder makes of the message with these rows; of a secure sum, one of its terms."""
    activation = activation_of(bottom, [few.batch(torch.arange(len(few)))])
    crossing = Crossing(plan.codec, plan.cut, plan.seed, "hub", embedding=plan.embedding)
    _, message = crossing.send_activation(activation, 1, None)
    return crossing.receive_activation(message, "", len(few), 1)[1].detach()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", default=GENERATED, help="online_shoppers, or another set under PARTY_DATA")
    parser.add_argument("--settings", nargs="+", choices=[*SETTINGS], default=[*SETTINGS])
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--people", type=int, default=30_000, help="of the made-up population")
    parser.add_argument("--epochs", type=int, default=50, help="at most")
    parser.add_argument("--json", action="store_true", help="one line of JSON for each")
    given = parser.parse_args()
    torch.set_num_threads(1)
    source = source_of(given.data)
    for seed in range(1, given.seeds + 1):
        with tempfile.TemporaryDirectory() as folder:
            data = aligned(Path(folder), source, seed, given.people)
        for name in given.settings:
            plan = replace(SETTINGS[name], seed=seed.to_bytes(8, "big"), epochs=given.epochs)
            for record in attacked(data, plan):
                result = {"data": given.data, "setting": name, "seed": seed, **record}
                print(
                    json.dumps(result) if given.json else "  ".join(f"{k} {v}" for k, v in result.items()),
                    flush=True,
                )


if __name__ == "__main__":
    main()
