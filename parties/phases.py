"""What one party does with the others, as one generator of rounds: meet, align, split, train, evaluate.

`prepare` first checks everything that this party can check alone. Any driver can run `whole_run`.
"""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from numpy.typing import NDArray

import psi
from parties.certs import Identity
from parties.config import Config
from parties.contract import Contract
from parties.errors import AlignmentError, ContractError, NotInstalled
from parties.features import Pipeline
from parties.handshake import Meeting, handshake
from parties.limits import Limits
from parties.own import OwnData, own_data, own_identity, own_protocols
from parties.seal import sealed
from parties.storage import own_secret, private_seed
from parties.summary import Cost
from parties.table import Table
from protos.rounds import Progress, Rounds
from splitnn.exact import FeatureHolderResult, LabelHolderResult, feature_holder, label_holder
from splitnn.features import Features
from splitnn.plan import Plan
from splitnn.schedule import Split, split_rows

T = TypeVar("T")


@dataclass(frozen=True)
class Prepared:
    """What one party brings: all of it checked, none of it shared yet. protocols: as `own_protocols` says,
    or none, which the handshake then tells all parties."""

    config: Config
    identity: Identity
    data: OwnData
    protocols: dict[str, psi.Psi]
    secret: bytes


@dataclass(frozen=True)
class Outcome:
    """What the run gave this party. kind: of the ids that were aligned. alignment: row numbers of its table,
    the i-th is common user i."""

    meeting: Meeting
    kind: str
    alignment: NDArray[np.int64]
    split: Split
    pipeline: Pipeline
    trained: LabelHolderResult | FeatureHolderResult
    psi_cost: Cost
    training_cost: Cost


def prepare(config: Config) -> Prepared:
    """Read and check this party's own files. Raises ConfigError, DataError, IdError, IdentityError."""
    identity, data = own_identity(config), own_data(config)
    try:
        protocols = own_protocols(config)
    except NotInstalled:
        protocols = {}
    return Prepared(config, identity, data, protocols, own_secret(config.party.storage))


def whole_run(
    prepared: Prepared,
    clock: Callable[[], float] = time.monotonic,
    random: Callable[[int], bytes] = os.urandom,
) -> Rounds[Outcome | ContractError | AlignmentError]:
    """The run as rounds. Raises what its phases raise.

    ContractError and AlignmentError are results: every party comes to the same by itself, and the first to
    give up by raising it would be to the others a peer that failed, before they know why.

    clock: seconds, for the summary. random: n -> n bytes, for what is fresh in each run and never stored.
    """
    config = prepared.config
    exchange = X25519PrivateKey.from_private_bytes(random(32))
    try:
        meeting = yield from handshake(
            config.name,
            config.contract,
            prepared.identity,
            random(32),
            exchange,
            max(config.party.link.wait, Limits().progress),
        )
        return (yield from sealed(_after_meeting(prepared, meeting, clock, random), meeting.seals))
    except (ContractError, AlignmentError) as error:
        return error


def _after_meeting(
    prepared: Prepared, meeting: Meeting, clock: Callable[[], float], random: Callable[[int], bytes]
) -> Rounds[Outcome]:
    contract, me = prepared.config.contract, prepared.config.name
    hub, feature_holders = contract.label_holder, contract.feature_holders

    setting = psi.Setting(me, (hub, *feature_holders), meeting.run, contract.psi.at_most, random)
    kind, ids = next(iter(prepared.data.ids.items()))
    protocol = prepared.protocols[contract.psi.protocol]
    common, psi_cost = yield from _measured("psi", protocol.align(setting, ids.digests), clock)
    if len(common) < contract.psi.minimum:
        raise AlignmentError(
            f"{len(common)} users in common, fewer than psi.minimum = {contract.psi.minimum}: does "
            f"every party's file hold {kind} ids of the same people, written the same way?"
        )
    alignment = ids.rows[common]

    plan = plan_of(contract)
    try:
        evaluation = contract.evaluation
        split = split_rows(len(alignment), evaluation.validation, evaluation.test, plan.seed)
    except ValueError as error:
        raise AlignmentError(str(error)) from error
    pipeline = Pipeline.fit(prepared.data.table, alignment[split.train.numpy()])
    features = features_of(pipeline, prepared.data.table, alignment)
    seed = private_seed(prepared.secret, meeting.run, f"model of {me}")
    trained: LabelHolderResult | FeatureHolderResult
    if prepared.data.labels is None:
        training = feature_holder(plan, split, features, hub, seed)
        trained, training_cost = yield from _measured("training", training, clock)
    else:
        labels = torch.from_numpy(prepared.data.labels[alignment])
        targets = Split(*(labels[part] for part in split))
        leading = label_holder(plan, split, features, targets, feature_holders, seed)
        trained, training_cost = yield from _measured("training", leading, clock)
    return Outcome(meeting, kind, alignment, split, pipeline, trained, psi_cost, training_cost)


def _measured(phase: str, rounds: Rounds[T], clock: Callable[[], float]) -> Rounds[tuple[T, Cost]]:
    before, start = (yield Progress(phase, 0, 0)), clock()
    result = yield from rounds
    after = yield Progress(phase, 0, 0)
    return result, Cost.between(start, before, clock(), after)


def plan_of(contract: Contract) -> Plan:
    """The training plan that the contract writes down."""
    model, training = contract.model, contract.training
    return Plan(
        seed=contract.seed.to_bytes(8, "big"),
        task=model.task,
        cut=model.cut,
        bottom_hidden=model.bottom_hidden,
        top_hidden=model.top_hidden,
        dropout=model.dropout,
        optimizer=training.optimizer,
        learning_rate=training.learning_rate,
        weight_decay=training.weight_decay,
        batch=training.batch,
        epochs=training.epochs,
        patience=training.patience,
    )


def features_of(pipeline: Pipeline, table: Table, rows: NDArray[np.int64]) -> Features:
    """These rows of the table as tensors, in this order."""
    numeric, categorical = pipeline.transform(table, rows)
    return Features(torch.from_numpy(numeric), torch.from_numpy(categorical), pipeline.levels)
