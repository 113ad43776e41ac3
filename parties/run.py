"""One party's whole run: meet, align, split, train, evaluate, keep.

`prepare` checks everything that this party can check alone. `whole_run` is what it then does with the
others, as one generator of rounds: any driver can run it. `run_party` is both over the real link.
"""

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from numpy.typing import NDArray

import psi
from parties import certs
from parties.config import Config
from parties.contract import Contract
from parties.errors import AlignmentError, ConfigError
from parties.features import Pipeline
from parties.handshake import Meeting, handshake
from parties.seal import sealed
from parties.storage import own_secret, private_seed
from parties.summary import Cost
from parties.table import Table, label_values, read_table
from protos.rounds import Progress, Rounds
from psi.ids import Ids
from splitnn.exact import FeatureHolderResult, LabelHolderResult, feature_holder, label_holder
from splitnn.features import Features
from splitnn.plan import Plan
from splitnn.schedule import Split, split_rows

T = TypeVar("T")


@dataclass(frozen=True)
class Prepared:
    """What one party brings: all of it checked, none of it shared yet.

    rows of `labels` (label holder only, float32) and of `table` are those of the file; `ids.rows` says which
    of them have a usable id.
    """

    config: Config
    identity: certs.Identity
    table: Table
    ids: Ids
    labels: NDArray[np.float32] | None
    protocol: psi.Psi
    secret: bytes


@dataclass(frozen=True)
class Outcome:
    """What the run gave this party. alignment: row numbers of its table, the i-th is common user i."""

    meeting: Meeting
    alignment: NDArray[np.int64]
    split: Split
    pipeline: Pipeline
    trained: LabelHolderResult | FeatureHolderResult
    psi_cost: Cost
    training_cost: Cost


def prepare(config: Config) -> Prepared:
    """Read and check this party's own files. Raises ConfigError, DataError, IdError, IdentityError."""
    party, contract = config.party, config.contract
    identity = certs.load(party.tls.ca, party.tls.certificate, party.tls.key, config.name)
    if certs.key_fingerprint(identity.certificate_der) != contract.parties[config.name].key:
        raise ConfigError(
            f"{party.tls.certificate} is not the certificate that run.toml pins for {config.name}: "
            "run `party certs --fingerprint` on it and agree on one with your partners"
        )
    try:
        protocol = psi.load(contract.psi.protocol)
    except (psi.UnknownProtocol, psi.DuplicateProtocol) as error:
        raise ConfigError(f"psi.protocol: {error}") from error
    if len(contract.parties) not in protocol.parties:
        raise ConfigError(
            f"psi.protocol: {contract.psi.protocol} supports {protocol.parties.start} to "
            f"{protocol.parties.stop - 1} parties, the contract has {len(contract.parties)}"
        )
    data = party.data
    table = read_table(data.file, data.id, data.numeric, data.categorical, data.label, data.exclude)
    ids = psi.normalise(table.ids, contract.ids.type, data.nulls, data.duplicates)
    labels = None if table.label is None else label_values(table.label, data.positive)
    return Prepared(config, identity, table, ids, labels, protocol, own_secret(party.storage))


def whole_run(prepared: Prepared, clock: Callable[[], float] = time.monotonic) -> Rounds[Outcome]:
    """The run as rounds. Raises what its phases raise, and AlignmentError."""
    config = prepared.config
    meeting = yield from handshake(
        config.name,
        config.contract,
        prepared.identity,
        secrets.token_bytes(32),
        X25519PrivateKey.generate(),
    )
    return (yield from sealed(_after_meeting(prepared, meeting, clock), meeting.seals))


def _after_meeting(prepared: Prepared, meeting: Meeting, clock: Callable[[], float]) -> Rounds[Outcome]:
    contract, me = prepared.config.contract, prepared.config.name
    hub, feature_holders = contract.label_holder, contract.feature_holders

    setting = psi.Setting(me, (hub, *feature_holders), meeting.run, contract.psi.at_most)
    digests = psi.digests(prepared.ids, meeting.run)
    common, psi_cost = yield from _measured("psi", prepared.protocol.align(setting, digests), clock)
    if len(common) < contract.psi.minimum:
        raise AlignmentError(
            f"{len(common)} users in common, fewer than psi.minimum = {contract.psi.minimum}: does "
            f"every party's file hold the {contract.ids.type} of the same people?"
        )
    alignment = prepared.ids.rows[common]

    plan = plan_of(contract)
    try:
        evaluation = contract.evaluation
        split = split_rows(len(alignment), evaluation.validation, evaluation.test, plan.seed)
    except ValueError as error:
        raise AlignmentError(str(error)) from error
    pipeline = Pipeline.fit(prepared.table, alignment[split.train.numpy()])
    features = features_of(pipeline, prepared.table, alignment)
    seed = private_seed(prepared.secret, meeting.run, "model")
    training: Rounds[LabelHolderResult | FeatureHolderResult]
    if prepared.labels is None:
        training = feature_holder(plan, split, features, hub, seed)
    else:
        labels = torch.from_numpy(prepared.labels[alignment])
        targets = Split(*(labels[part] for part in split))
        training = label_holder(plan, split, features, targets, feature_holders, seed)
    trained, training_cost = yield from _measured("training", training, clock)
    return Outcome(meeting, alignment, split, pipeline, trained, psi_cost, training_cost)


def _measured(phase: str, rounds: Rounds[T], clock: Callable[[], float]) -> Rounds[tuple[T, Cost]]:
    before, start = (yield Progress(phase, 0, 1)), clock()
    result = yield from rounds
    after = yield Progress(phase, 1, 1)
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
