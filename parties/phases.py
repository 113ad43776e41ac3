"""What one party does with the others, as one generator of rounds: meet, align, split, train, evaluate.

`prepare` first checks everything that this party can check alone. Any driver can run `whole_run`.
"""

import math
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from types import MappingProxyType
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

import psi
from parties.alignment import Alignment, Random, align_or_go_on, meet
from parties.certs import Identity
from parties.config import Config
from parties.contract import Contract
from parties.cost import Clock, Cost, measured
from parties.errors import AlignmentError, ContractError
from parties.examples import Examples, agree_on_examples
from parties.features import Pipeline
from parties.handshake import Brings, Meeting
from parties.label_draws import lying, question
from parties.last_good import keeping_last_good
from parties.own import (
    OwnData,
    Today,
    brings,
    own_data,
    own_identity,
    own_protocols,
    refuse_expired,
    today,
)
from parties.own_model import check_models, local_of
from parties.own_schema import check_columns
from parties.scratch import empty
from parties.sources.source import BLOCK
from parties.spending import Spending, check_ledger
from parties.storage import own_secret, private_seed, run_folder
from parties.table import Table
from parties.unfinished import Unfinished
from parties.warm_start import WarmStart
from protos.rounds import Progress, Rounds
from splitnn.bags import Bag
from splitnn.calibration import CALIBRATIONS, Calibration
from splitnn.crossing import Codecs
from splitnn.embedding_dp import EmbeddingDP
from splitnn.exact import FeatureHolderResult, LabelHolderResult
from splitnn.features import Features, Group
from splitnn.fixed_point import FixedPoint
from splitnn.label_defence import LabelDefence
from splitnn.masks import Masks
from splitnn.plan import Plan
from splitnn.schedule import split_rows, steps_an_epoch
from splitnn.schedules import SCHEDULES
from splitnn.secure_sum import SECURE_SUM

T = TypeVar("T")


@dataclass(frozen=True)
class Prepared:
    """What one party brings: all of it checked, none of it shared yet.

    protocols: as `own_protocols` says. told: what the handshake tells the others of it. warm: where the
    contract asks for it.
    """

    config: Config
    identity: Identity
    data: OwnData
    protocols: dict[str, psi.Psi]
    told: Brings
    secret: bytes
    warm: WarmStart | None = None


@dataclass(frozen=True)
class Outcome:
    """What the run gave this party. calibration: at a label holder that asked for it; fewer: as of `Target`.

    resumed: the epoch after which training went on, of an earlier attempt; 0 if from the beginning.
    spent: as `Spending.settle` tells it.
    """

    meeting: Meeting
    aligned: Alignment
    examples: Examples
    pipeline: Pipeline
    trained: LabelHolderResult | FeatureHolderResult
    calibration: Calibration | None
    fewer: Mapping[str, Calibration]
    training_cost: Cost
    resumed: int
    spent: dict[str, Any]


def prepare(config: Config, today: Today = today) -> Prepared:
    """Read and check this party's own files. Raises AccountError, ConfigError, ContractExpired, DataError,
    IdError, IdentityError, StorageError."""
    refuse_expired(config, today)
    check_ledger(config)
    protocols = own_protocols(config)
    identity, columns, data = own_identity(config), check_columns(config), own_data(config)
    check_models(config, plan_of(config.contract), data)
    return Prepared(
        config,
        identity,
        data,
        protocols,
        brings(config, "run", protocols)._replace(columns=columns),
        own_secret(config.party.storage),
        WarmStart.of(config, plan_of(config.contract), data),
    )


def whole_run(
    prepared: Prepared,
    unfinished: Unfinished,
    clock: Clock = time.monotonic,
    random: Random = os.urandom,
    say: Callable[[str], None] = lambda line: None,
    met: Callable[[Meeting], None] = lambda meeting: None,
    today: Today = today,
) -> Rounds[Outcome | ContractError | AlignmentError]:
    """The run as rounds, as `parties.alignment.meet` says. Raises what its phases raise.

    unfinished: where it keeps what it could go on with, and goes on with what all parties have kept. clock:
    seconds, for the summary. random: n -> n bytes, for what is fresh in each attempt and never stored. say:
    told what it goes on with, and where training fails, what is kept of it. met: told of the meeting first.
    today: asked once more when all have met, as one may wait past the last day; not where a run goes on.
    """

    def then(meeting: Meeting) -> Rounds[Outcome]:
        if unfinished.run() != meeting.run:
            refuse_expired(prepared.config, today)
        return _after_meeting(prepared, meeting, unfinished, clock, random, say)

    brings = prepared.told._replace(previous=unfinished.previous())
    return (yield from meet(prepared.config, prepared.identity, brings, random, met, then))


def _after_meeting(
    prepared: Prepared,
    meeting: Meeting,
    unfinished: Unfinished,
    clock: Clock,
    random: Random,
    say: Callable[[str], None],
) -> Rounds[Outcome]:
    config, contract, me = prepared.config, prepared.config.contract, prepared.config.name
    hub, feature_holders = contract.label_holder, contract.feature_holders
    run, common = meeting.run, meeting.common
    epoch = common.newest
    for line in going_on(unfinished.run(), meeting):
        say(line)
    fresh = unfinished.run() != run
    unfinished.begin(run, common)

    ids, protocols = prepared.data.ids, prepared.protocols
    aligned = yield from align_or_go_on(config, ids, protocols, meeting, clock, random, unfinished)
    alignment = aligned.rows
    plan = plan_of(contract)
    try:
        evaluation = contract.evaluation
        split = split_rows(len(alignment), evaluation.validation, evaluation.test, plan.seed)
    except ValueError as error:
        raise AlignmentError(str(error)) from error
    seed = private_seed(prepared.secret, run, f"model of {me}")
    examples = yield from agree_on_examples(me, contract, ids[meeting.kind], alignment, split, seed)
    local = local_of(config)
    yield Progress("columns", 0, 0)
    if prepared.warm is None:
        pipeline = Pipeline.fit(prepared.data.table, examples.training_rows)
        for line in pipeline.warnings if fresh else ():
            say(line)
    else:
        pipeline, local = prepared.warm.pipeline, replace(local, warm=prepared.warm.weights)
    features = features_of(pipeline, prepared.data.table, examples.rows, config.party.groups)
    trained: LabelHolderResult | FeatureHolderResult
    calibration: Calibration | None = None
    fewer: dict[str, Calibration] = {}
    schedule = SCHEDULES[plan.schedule]
    resume = unfinished.checkpoint(run, epoch) if epoch else None
    epoch_steps = steps_an_epoch(len(examples.split.train), plan.batch)

    def trains(training: Rounds[T]) -> Rounds[tuple[T, Cost]]:
        folder = partial(run_folder, config.party.storage, contract.name, run, me)
        training = keeping_last_good(training, folder, pipeline, say, resume)
        training = unfinished.keeping(training, run, epoch_steps)
        return measured("training", spending.charged(training, released), clock)

    labels = prepared.data.labels
    asked = () if labels is None else (meeting.kind, question(config, labels.names))
    spending = Spending.of(config, run, plan, examples, len(features.groups), asked, prepared.secret)
    released = spending.released(unfinished.folder, epoch)
    if labels is None:
        more: dict[str, Any] = {}
        if plan.embedding.sigma:
            more["drawn"] = released.draw
        if plan.fusion == SECURE_SUM:  # the keys of this attempt: what is done again has other masks
            exported = {name: seal.exported for name, seal in meeting.seals.items()}
            more["masks"] = Masks(me, feature_holders, exported, run, meeting.attempt)
        training = schedule.feature_holder(plan, examples.split, features, hub, seed, resume, local, **more)
        trained, training_cost = yield from trains(training)
    else:
        told = labels.of(examples.rows, examples.split, examples.entities)
        told = lying(
            config, prepared.data, meeting.kind, examples.rows, examples.split, told, prepared.secret
        )
        leading = schedule.label_holder(
            plan, examples.split, features, told, feature_holders, seed, resume, local
        )
        trained, training_cost = yield from trains(leading)
        method = config.party.evaluation.calibration
        if method != "none":
            fit = CALIBRATIONS[plan.task][method].fit
            calibration = fit(plan.task, trained.validation_logits, told.validation)
            for among, logits in trained.validation_fewer.items():
                there = [name for name, one in zip(feature_holders, among, strict=True) if one]
                fewer[",".join(there)] = fit(plan.task, logits, told.validation)
    spent = spending.settle(released)
    return Outcome(
        meeting, aligned, examples, pipeline, trained, calibration, fewer, training_cost, epoch, spent
    )


def going_on(held: bytes, meeting: Meeting) -> Iterator[str]:
    """What becomes of the unfinished run that this party holds (its id, or nothing), in a line for people."""
    if held == meeting.run:
        common = meeting.common
        where = "the alignment" if common.aligned else "its beginning"
        yield f"run {held.hex()[:12]} goes on from {f'epoch {common.newest}' if common.steps else where}"
    elif held:
        yield f"run {held.hex()[:12]} is dropped, as not all parties have it; a new one begins"


def plan_of(contract: Contract) -> Plan:
    """The training plan that the contract writes down."""
    model, training, privacy = contract.model, contract.training, contract.privacy
    return Plan(
        seed=contract.seed.to_bytes(8, "big"),
        task=model.task,
        loss=model.loss,
        cut=model.cut,
        bottom_hidden=model.bottom_hidden,
        top_hidden=model.top_hidden,
        dropout=model.dropout,
        norm=model.norm,
        residual=model.residual,
        fusion=model.fusion,
        top=model.top,
        party_dropout=model.party_dropout,
        optimizer=training.optimizer,
        learning_rate=training.learning_rate,
        learning_rate_schedule=training.learning_rate_schedule,
        warmup=training.warmup,
        decay=training.decay,
        decay_epochs=training.decay_epochs,
        clip_norm=training.clip_norm,
        weight_decay=training.weight_decay,
        batch=training.batch,
        epochs=training.epochs,
        patience=training.patience,
        every=None if contract.evaluation.every == "auto" else contract.evaluation.every,
        importance=contract.evaluation.importance,
        schedule=training.schedule,
        in_flight=training.in_flight,
        local_steps=training.local_steps,
        cache=training.cache,
        reuse=training.reuse,
        similarity=training.similarity,
        codec=Codecs(**contract.codec.model_dump()),
        label_defence=LabelDefence(
            noise=privacy.label_defence,
            strength=1.0 if privacy.label_defence == "max_norm" else privacy.label_strength or 0.0,
            epsilon=math.inf if privacy.label_epsilon is None else privacy.label_epsilon,
            max_strength=privacy.max_label_strength,
            max_leak=privacy.max_label_leak,
        ),
        embedding=EmbeddingDP(privacy.embedding_clip, privacy.embedding_sigma or 0.0),
        fixed_point=FixedPoint(privacy.sum_bound, privacy.sum_fraction),
    )


def features_of(
    pipeline: Pipeline,
    table: Table,
    rows: NDArray[np.int64],
    groups: Mapping[str, Sequence[str]] = MappingProxyType({}),
) -> Features:
    """These rows of the table as tensors, in this order; on disk, where they are large.

    groups: as `Pipeline.groups` takes them.
    """
    numeric = empty(table.scratch, (len(rows), pipeline.width), np.float32)
    categorical = empty(table.scratch, (len(rows), len(pipeline.levels)), np.int64)
    for at in range(0, len(rows), BLOCK):
        block = slice(at, at + BLOCK)
        numeric[block], categorical[block] = pipeline.transform(table, rows[block])
    bags = [
        Bag(torch.from_numpy(codes), torch.from_numpy(offsets), levels)
        for (codes, offsets), levels in zip(pipeline.bagged(table, rows), pipeline.bag_levels, strict=True)
    ]
    tensors, places = (torch.from_numpy(numeric), torch.from_numpy(categorical)), pipeline.groups(groups)
    return Features(*tensors, pipeline.levels, bags, [Group(*place) for place in places.values()])
