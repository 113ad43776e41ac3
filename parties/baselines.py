"""What the label holder could have had without its partners: the yardstick of the federation's lift."""

from collections.abc import Generator
from dataclasses import replace
from typing import Any, Final, TypeVar

import numpy as np
import torch

from parties.features import Pipeline
from parties.own_model import local_of
from parties.phases import Outcome, Prepared, features_of, plan_of
from parties.storage import private_seed
from protos.rounds import Progress, Round, Rounds, Save, mapped
from splitnn import exact
from splitnn.exact import LabelHolderResult
from splitnn.label_defence import LabelDefence
from splitnn.plan import Plan
from splitnn.schedule import Split
from splitnn.secure_sum import SECURE_SUM

T = TypeVar("T")
PHASE: Final = "training alone"


def baselines(prepared: Prepared, outcome: Outcome) -> Rounds[dict[str, LabelHolderResult]]:
    """Networks of the label holder's own columns, tested on the federation's own test rows. As rounds, though
    it needs nobody: so that it is seen how far it is, and a peer that fails meanwhile is noticed.

    alone: trained on the same examples. alone_all_rows: on all its rows but those of the aligned validation
    and test users; more rows than the federation has, so that the lift is not flattered.
    """
    assert prepared.data.labels is not None
    examples, aligned = outcome.examples, outcome.examples.split
    ids = prepared.data.ids[outcome.aligned.terms.kind]
    usable = np.concatenate((ids.rows, ids.repeats)) if prepared.config.contract.several else ids.rows
    held_out = examples.rows[torch.cat((aligned.validation, aligned.test)).numpy()]
    own = np.setdiff1d(usable, held_out)
    everything = np.concatenate((own, held_out))
    positions = torch.arange(len(everything))
    tested = len(everything) - len(aligned.test)
    alone = yield from _train(prepared, outcome, outcome.pipeline, examples.rows, aligned)
    all_rows = yield from _train(
        prepared,
        outcome,
        Pipeline.fit(prepared.data.table, own),
        everything,
        Split(positions[: len(own)], positions[len(own) : tested], positions[tested:]),
    )
    return {"alone": alone, "alone_all_rows": all_rows}


def _train(
    prepared: Prepared, outcome: Outcome, pipeline: Pipeline, rows: np.ndarray, split: Split
) -> Rounds[LabelHolderResult]:
    """Train on these rows of the table alone, with the federation's plan."""
    assert prepared.data.labels is not None
    return (
        yield from shown_as(
            PHASE,
            exact.label_holder(
                by_itself(plan_of(prepared.config.contract)),
                split,
                features_of(pipeline, prepared.data.table, rows),
                prepared.data.labels.of(rows, split, outcome.examples.entities),
                (),
                private_seed(prepared.secret, outcome.meeting.run, f"model of {prepared.config.name}"),
                local=local_of(prepared.config),
            ),
        )
    )


def by_itself(plan: Plan) -> Plan:
    """What is left of the plan where nobody else sees anything: no defence, and nothing to hide in a sum."""
    fusion = "sum" if plan.fusion == SECURE_SUM else plan.fusion
    return replace(plan, importance="none", fusion=fusion, label_defence=LabelDefence())


def shown_as(phase: str, training: Rounds[T]) -> Rounds[T]:
    """The same rounds of a schedule, told as another phase; there is nothing to go on with."""

    def each(word: Round) -> Generator[Round, Any, Any]:
        match word:
            case Save():
                return None
            case Progress(_, done, total):
                return (yield Progress(phase, done, total))
            case _:
                return (yield word)

    return mapped(training, each)
