"""A prediction as rounds: all meet, see that they hold the same version of the model, align, and score.

What is kept to go on with, in the model's folder:

prediction-unfinished/
    run.json, alignment.parquet, bucket-0001.parquet, ...   as of a run (`parties.unfinished`)
    scores-000001.safetensors, ...                          scored blocks, at the label holder
"""

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

import psi
from parties import scored
from parties.alignment import Alignment, Random, align_or_go_on, meet
from parties.certs import Identity
from parties.changes import described, refuse_other
from parties.checkpoints import Stamp
from parties.config import Config
from parties.cost import Clock, Cost, measured
from parties.drift import Statistics
from parties.errors import AlignmentError, ContractError, StorageError
from parties.excluded import Excluded
from parties.handshake import Brings, Meeting
from parties.model import Model
from parties.own import Today, refuse_expired, today
from parties.previous import NOTHING, Previous
from parties.scored import Placed, Scored
from parties.spending import charged_prediction
from parties.storage import made, private_seed
from parties.table import Table
from parties.unfinished import ALIGNMENT, Unfinished, held_buckets, read, run_of
from protos.rounds import Progress, Rounds
from splitnn.crossing import to_feature_holders, to_hub
from splitnn.features import Features
from splitnn.masks import Masks
from splitnn.schedule import EVALUATION_ROWS
from splitnn.scoring import Columns, be_scored, score, score_alone, scores_alone
from splitnn.secure_sum import SECURE_SUM

COMMAND: Final = "party predict"


@dataclass(frozen=True)
class Prepared:
    """What one party brings to a prediction, all of it checked. config: of the run, with the file to score.

    table: of the model's columns. features: of its rows. trained_on: None in a model of an earlier release.
    told: what the handshake tells the others.
    """

    config: Config
    identity: Identity
    model: Model
    table: Table
    features: Features
    trained_on: Statistics | None
    ids: Mapping[str, psi.Ids]
    excluded: Excluded | None
    protocols: Mapping[str, psi.Psi]
    told: Brings
    secret: bytes

    def folder(self, run: bytes) -> Path:
        """Made, where it is not there, for the results of this prediction. Raises StorageError."""
        return made(self.model.folder / results_of(run))


@dataclass(frozen=True)
class Outcome:
    """scored: at the label holder. spent: as `charged_prediction` tells it."""

    meeting: Meeting
    aligned: Alignment
    scored: Scored | None
    cost: Cost
    spent: dict[str, Any]


def whole_prediction(
    prepared: Prepared,
    unfinished: Unfinished,
    clock: Clock = time.monotonic,
    random: Random = os.urandom,
    say: Callable[[str], None] = lambda line: None,
    met: Callable[[Meeting], None] = lambda meeting: None,
    today: Today = today,
) -> Rounds[Outcome | ContractError | AlignmentError]:
    """Arguments, results and errors as of `parties.phases.whole_run`."""

    def then(meeting: Meeting) -> Rounds[Outcome]:
        if unfinished.run() != meeting.run:
            refuse_expired(prepared.config, today)
        return _after_meeting(prepared, meeting, unfinished, clock, random, say)

    told = prepared.told._replace(previous=unfinished.previous())
    return (yield from meet(prepared.config, prepared.identity, told, random, met, then))


def _after_meeting(
    prepared: Prepared,
    meeting: Meeting,
    unfinished: Unfinished,
    clock: Clock,
    random: Random,
    say: Callable[[str], None],
) -> Rounds[Outcome]:
    config, contract, me = prepared.config, prepared.config.contract, prepared.config.name
    trained, plan, run, hub = prepared.model, prepared.model.plan, meeting.run, contract.label_holder
    before = unfinished.previous().run
    if before == run:
        say(f"prediction {run.hex()[:12]} goes on")
    elif before:
        say(f"prediction {before.hex()[:12]} is dropped, as not all parties have it; a new one begins")
        scored.forget(unfinished.folder)
    unfinished.begin(run, meeting.common)
    aligned = yield from align_or_go_on(
        config, prepared.ids, prepared.protocols, meeting, clock, random, unfinished
    )
    users, seed = len(aligned.rows), private_seed(prepared.secret, run, f"prediction of {me}")

    def columns(rows: NDArray[np.int64]) -> Columns:
        return prepared.features.batch(torch.from_numpy(rows))

    if me != hub:
        masks = None
        if plan.fusion == SECURE_SUM:
            exported = {name: seal.exported for name, seal in meeting.seals.items()}
            masks = Masks(me, contract.feature_holders, exported, run, meeting.attempt)
        scoring = be_scored(
            to_hub(plan, hub, seed, masks),
            hub,
            trained.bottom(seed),
            users,
            lambda chunk: columns(aligned.rows[chunk.start : chunk.stop]),
        )
        charged = charged_prediction(config, run, plan, users, scoring)
        spent, cost = yield from measured("scoring", charged, clock)
        return Outcome(meeting, aligned, None, cost, spent)

    placed, stamp = Placed.of(prepared.ids[meeting.kind], aligned.rows), _stamp(unfinished, run)
    bottom, top, target = trained.bottom(seed), trained.top(seed), trained.target()
    scoring = score(
        to_feature_holders(plan, contract.feature_holders, seed),
        bottom,
        top,
        users,
        lambda chunk: placed.chunk(chunk, columns),
        scored.kept(unfinished.folder, stamp, users),
    )
    _, cost = yield from measured("scoring", scored.keeping(scoring, unfinished.folder, stamp), clock)
    result = scored.gathered(
        unfinished.folder, stamp, placed, len(prepared.features), target.outputs, config.party.storage
    )
    if prepared.excluded is not None:
        result = replace(result, excluded=prepared.excluded.rows)
    if scores_alone(top):
        rows, holders = result.alone, len(contract.feature_holders)
        for at in range(0, len(rows), EVALUATION_ROWS):
            yield Progress("scoring alone", at, len(rows))
            some = rows[at : at + EVALUATION_ROWS]
            result.logits[some] = score_alone(bottom, top, columns(some), holders).numpy()
    return Outcome(meeting, aligned, result, cost, {})


# ---- what an interrupted prediction leaves -----------------------------------------------------------------


class UnfinishedPrediction(Unfinished):
    """One party's files of an interrupted prediction, in the folder of the model."""

    def results_of(self, run: bytes) -> Path:
        return self.folder.parent / results_of(run)

    def previous(self) -> Previous:
        """An alignment, or nothing. Without one, activations may have left by another party's for rows that
        the next alignment pairs otherwise: that is a prediction of its own."""
        found = super().previous()
        return found._replace(steps=()) if found.aligned else NOTHING

    def holds(self) -> str:
        try:
            if not self.previous().aligned:
                return held_buckets(self.folder)
            run = self.run()
            found = self.alignment(run)
        except StorageError:
            return ""
        users = 0 if found is None else len(found[0])
        count = scored.kept(self.folder, _stamp(self, run), users)
        return f"the alignment and {count} scored block(s)" if count else "the alignment"


def unfinished_with(trained: Model, config: Config) -> UnfinishedPrediction:
    """config: as `Prepared` has it. Raises DataError, StorageError."""
    folder, own = trained.folder / "prediction-unfinished", described(config)
    return UnfinishedPrediction(folder, config.contract, config.name, own, command=COMMAND)


def refuse_changes(unfinished: UnfinishedPrediction, config: Config) -> None:
    """Raises ConfigError where an interrupted prediction has an alignment, of another file or columns."""
    before = read(unfinished.folder, COMMAND)
    if before and (unfinished.folder / ALIGNMENT).exists():
        which = f"the unfinished prediction {run_of(before).hex()[:12]}"
        refuse_other(config, unfinished.own, before.get("own", unfinished.own), which, COMMAND)


def results_of(run: bytes) -> str:
    """The folder of a prediction's results, in that of its model."""
    return f"predictions-{run.hex()[:12]}"


def _stamp(unfinished: Unfinished, run: bytes) -> Stamp:
    return Stamp(run, unfinished.contract.digest, unfinished.party)
