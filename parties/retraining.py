"""The federation trained again without each feature holder in turn, to see what each brings: what
`evaluation.contribution = "retrain"` asks for.

After the run's own results are on disk, as further trainings of the same run, by the same schedule and on the
same rows. Nothing of them is kept to go on with: an interrupted one is done again from its beginning, to the
same bits, as its streams are of the run and of who is left out.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from parties.baselines import shown_as
from parties.own_model import local_of
from parties.phases import Outcome, Prepared, features_of, plan_of
from parties.spending import Spending
from parties.storage import private_seed
from protos.rounds import Progress, Receive, Rounds, Send
from splitnn.exact import LabelHolderResult
from splitnn.releases import Released
from splitnn.schedules import SCHEDULES

A_TRAINING: Final = 7 * 86_400.0
"""Seconds in which the others may train while the one that is left out waits. Those who train notice one that
does not get on, and the link one that dies."""


def retrained(prepared: Prepared, outcome: Outcome) -> Rounds[tuple[dict[str, LabelHolderResult], Outcome]]:
    """By the name of each feature holder the network without it; at a feature holder nothing. And the run's
    outcome with what these trainings spent. Raises what training raises."""
    config, contract, me = prepared.config, prepared.config.contract, prepared.config.name
    found: dict[str, LabelHolderResult] = {}
    if contract.evaluation.contribution == "none":
        return found, outcome
    hub, run, examples = contract.label_holder, outcome.meeting.run, outcome.examples
    plan = replace(plan_of(contract), importance="none")
    schedule, local = SCHEDULES[plan.schedule], replace(local_of(config), keep_activations=False)
    features = features_of(outcome.pipeline, prepared.data.table, examples.rows)
    for absent in contract.feature_holders:
        phase = f"training again without {absent}"
        yield Progress(phase, 0, 0)
        if me == absent:
            yield Receive(hub, "trained without", 0, A_TRAINING)
            continue
        spending = Spending(config, run, plan, examples, 0, "", absent)
        released = Released(plan, examples.split)
        seed = private_seed(prepared.secret, run, f"model of {me} without {absent}")
        if prepared.data.labels is None:
            training = schedule.feature_holder(plan, examples.split, features, hub, seed, None, local)
            yield from spending.charged(shown_as(phase, training), released)
        else:
            others = [name for name in contract.feature_holders if name != absent]
            told = prepared.data.labels.of(examples.rows, examples.split, examples.entities)
            leading = schedule.label_holder(plan, examples.split, features, told, others, seed, None, local)
            found[absent] = yield from spending.charged(shown_as(phase, leading), released)
            yield Send(absent, "trained without", b"")
        outcome = replace(outcome, spent=_added(outcome.spent, spending.settle(released)))
    return found, outcome


def _added(spent: Mapping[str, Any], further: Mapping[str, Any]) -> dict[str, Any]:
    """As `Spending.settle` tells it: these releases, too, are of this run."""
    partners = dict(spent["partners"])
    for name, one in further["partners"].items():
        partners[name] = partners[name] | {"releases": partners[name]["releases"] + one["releases"]}
    return {**spent, "partners": partners}
