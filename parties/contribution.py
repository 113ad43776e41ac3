"""What each partner brings: the lift of the federation over the one without it, on the same test rows.

Without it means one of two things (docs/contribution.md). `retrained`: a network that never had the partner;
of all partners together that is the label holder alone. `absent`: the federation's own network, which
`model.party_dropout` has taught to do without one, with the partner not there.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor

from parties.phases import Outcome, Prepared
from parties.results import worst_leak
from parties.storage import private_seed
from splitnn.exact import LabelHolderResult
from splitnn.lift import LEVEL, RESAMPLES, lifts


def contribution(
    prepared: Prepared,
    outcome: Outcome,
    alone: Mapping[str, LabelHolderResult],
    without: Mapping[str, LabelHolderResult],
) -> dict[str, Any]:
    """`contribution` of summary.json; {} where nothing is compared. alone: of `parties.baselines`;
    without: of `parties.retraining`."""
    trained, config, examples = outcome.trained, prepared.config, outcome.examples
    assert isinstance(trained, LabelHolderResult)
    scores = dict(_compared(config.feature_holders, trained, alone, without))
    users = None if examples.entities is None else examples.entities.test
    seed = private_seed(prepared.secret, outcome.meeting.run, "resamples of contributions")
    objective, task = trained.objective, config.contract.model.task
    ranked = objective.lists.test, objective.lists.at
    found = lifts(task, trained.labels, trained.scores, scores, objective.names, seed, users, *ranked)
    if not found:
        return {}
    rows = len(trained.labels)
    leak = {name: told for name, one in without.items() if (told := worst_leak(one.history))}
    return {
        "rows": rows,
        "users": rows if users is None else len({*users.tolist()}),
        "resamples": RESAMPLES,
        "level": LEVEL,
        "lifts": [
            {
                "partners": list(partners),
                "way": way,
                "metrics": {name: _record(one._asdict()) for name, one in metrics.items()},
            }
            for (partners, way), metrics in found.items()
        ],
        **({"leak": leak} if leak else {}),
    }


def _compared(
    feature_holders: list[str],
    trained: LabelHolderResult,
    alone: Mapping[str, LabelHolderResult],
    without: Mapping[str, LabelHolderResult],
) -> Iterator[tuple[tuple[tuple[str, ...], str], Tensor]]:
    """Test scores by who is left out, and in which way."""
    if "alone" in alone:
        yield (tuple(feature_holders), "retrained"), alone["alone"].scores
    for name, result in without.items():
        yield ((name,), "retrained"), result.scores
    for name, scores in trained.without.items():
        yield ((name,), "absent"), scores


def _record(lift: dict[str, float | None]) -> dict[str, float | None]:
    return {
        {"value": "with"}.get(key, key): None if value is None else round(value, 6)
        for key, value in lift.items()
    }
