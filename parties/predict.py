"""`party predict`: the label holder's ids scored by a trained model, together with everybody.

The common ones are scored by all; the label holder scores its other rows by itself, without asking anybody,
where the model has learned to do without partners (`model.party_dropout`).
"""

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from parties import scored
from parties.align import ids_of_source
from parties.alignment import Random, logged
from parties.changes import refuse_change_while_read
from parties.config import Config
from parties.connection import OnProgress
from parties.contract_privacy import Privacy
from parties.cost import Clock
from parties.drift_report import STATISTICS, alerts, as_record, statistics
from parties.ending import End, all_keep, to_the_end
from parties.errors import AlignmentError, PartyError
from parties.excluded import keep_record, told_of_excluded
from parties.handshake import Meeting
from parties.model import Model, chosen, model
from parties.own import Today, brings, leakage, own_identity, own_protocols, refuse_expired, today
from parties.phases import features_of
from parties.prediction import (
    Outcome,
    Prepared,
    refuse_changes,
    unfinished_with,
    whole_prediction,
)
from parties.room import to_predict
from parties.sources.source import Source
from parties.spending import check_ledger
from parties.storage import locked, own_secret, write
from parties.summary import agreement, as_json, psi_record
from parties.table import read_table
from parties.unfinished import Unfinished, forget
from parties.watch import OnPeer, Watch
from protos.rounds import Rounds
from splitnn.scoring import scores_alone
from splitnn.threads import single_threaded

SCORES: Final = "scores.parquet"


def predict_party(
    config: Config,
    run: str | None,
    source: Source | None,
    on_progress: OnProgress,
    say: Callable[[str], None],
    on_peer: OnPeer = lambda peer, there: None,
    afresh: bool = False,
) -> dict[str, Any]:
    """Score with the others. Returns the content of summary.json, the last file to be written.

    run: as `parties.model.chosen`. source: the rows to score, at a feature holder those to score them with;
    None: those of the configuration. afresh: drop what an interrupted prediction with this model has left.
    """
    storage = config.party.storage
    with single_threaded(), locked(storage, config.name), Watch(config, "predict", on_peer) as watch:
        on_progress = watch.over(on_progress)
        trained = model(config, chosen(config, run))
        config = to_score(config, trained, source)
        unfinished = unfinished_with(trained, config)
        if afresh:
            forget(unfinished.folder)
        refuse_changes(unfinished, config)
        prepared = prepare(config, trained, on_progress, say)
        refuse_change_while_read(config, unfinished.own)
        for line in [*prepared.identity.warnings(), *leakage(config, dict(prepared.protocols))]:
            say(line)
        if prepared.excluded is not None:
            say(told_of_excluded(prepared.excluded.facts()))
        say(f"scoring with the model of run {trained.run.hex()[:12]}")
        return to_the_end(
            config,
            prepared.identity,
            to_predict(config.contract, prepared.protocols),
            unfinished,
            lambda: complete_prediction(prepared, unfinished, say=say),
            on_progress,
            say,
            watch.linked,
        )


def to_score(config: Config, trained: Model, source: Source | None) -> Config:
    """The configuration with another source in place of its own, if there is one, of which the model's
    columns count, and no label."""
    data, pipeline = config.party.data, trained.pipeline
    changed = {
        "label": (),
        "weight": None,
        "rank_within": None,
        "exclude": (),
        "numeric": (),
        "categorical": (),
        "types": pipeline.kinds,
        "scale": {},
        "bags": pipeline.separators(data.bags),
    }
    party = config.party.model_copy(update={"data": data.model_copy(update=changed)})
    return replace(config, party=party, held=source or config.held)


def prepare(
    config: Config,
    trained: Model,
    on_progress: OnProgress = lambda progress, traffic: None,
    say: Callable[[str], None] = lambda line: None,
    today: Today = today,
) -> Prepared:
    """config: as `to_score` gives it. Raises AccountError, ConfigError, ContractExpired, DataError, IdError,
    IdentityError, StorageError."""
    refuse_expired(config, today)
    check_ledger(config)
    identity, protocols, data = own_identity(config), own_protocols(config), config.party.data
    ids, excluded, _ = ids_of_source(config, on_progress)
    table = read_table(
        config.source, (), scratch=config.party.storage, bags=data.bags, types=data.types, others=False
    )
    features = features_of(trained.pipeline, table, np.arange(table.rows))
    trained.bottom(trained.run)  # does it load?
    if config.role == "label holder":
        trained.top(trained.run)
    told = brings(config, "predict", protocols, trained.digest)
    for line in table.warnings:
        say(line)
    secret = own_secret(config.party.storage)
    there = (trained.folder / STATISTICS).exists()
    trained_on = statistics(trained.folder) if there else None
    return Prepared(
        config, identity, trained, table, features, trained_on, ids, excluded, protocols, told, secret
    )


def complete_prediction(
    prepared: Prepared,
    unfinished: Unfinished,
    clock: Clock = time.monotonic,
    random: Random = os.urandom,
    say: Callable[[str], None] = lambda line: None,
    met: Callable[[Meeting], None] = lambda meeting: None,
    today: Today = today,
) -> Rounds[End]:
    """The prediction as rounds, its files included; arguments and errors as `parties.train.complete_run` has
    them."""
    began = clock()

    def rounds(begin: Callable[[Meeting], None]) -> Rounds[End]:
        outcome = yield from whole_prediction(prepared, unfinished, clock, random, say, begin, today)
        if isinstance(outcome, AlignmentError):
            forget(unfinished.folder)  # at every party: there is nothing to go on with
        if isinstance(outcome, PartyError):
            return outcome
        folder = prepared.folder(outcome.meeting.run)
        write(folder / "agreement.json", agreement(prepared.config.contract, outcome.meeting))
        keep_record(folder, prepared.excluded)
        if outcome.scored is not None:
            config, place, target = prepared.config, folder / SCORES, prepared.model.target()
            columns, parties = config.id_columns[outcome.meeting.kind], [config.name, *config.feature_holders]
            yield from scored.write(place, config.source, columns, outcome.scored, target, parties)
        drift = _drift(prepared, outcome)
        for line in alerts(drift):
            say(line)
        summary = _summarise(prepared, outcome, folder, drift, clock() - began)
        write(folder / "summary.json", as_json(summary))
        yield from all_keep(prepared.config.name, prepared.config.contract, unfinished.end)
        forget(unfinished.folder)
        if summary.get("unscored"):
            say(
                f"{summary['unscored']:,} rows outside the alignment have no score: the model has learned "
                "none without its partners (model.party_dropout)"
            )
        say(f"results in {folder}")
        return summary

    return (yield from logged(prepared.config, rounds, met, prepared.folder))


def _drift(prepared: Prepared, outcome: Outcome) -> dict[str, Any]:
    """From the training rows to those that were scored; nothing where no statistics were kept of those."""
    if prepared.trained_on is None:
        return {}
    rows, result = np.sort(outcome.aligned.rows), outcome.scored
    if result is not None:
        rows = np.flatnonzero(~np.isnan(result.logits).any(1))
    now = prepared.trained_on.again(prepared.model.pipeline, prepared.table, rows)
    counted = {"rows": {"training": prepared.trained_on.rows, "now": now.rows}}
    return counted | as_record(prepared.trained_on.drift(now))


def _summarise(
    prepared: Prepared, outcome: Outcome, folder: Path, drift: Mapping[str, Any], seconds: float
) -> dict[str, Any]:
    config, result, users = prepared.config, outcome.scored, len(outcome.aligned.rows)
    speed = users / max(outcome.cost.seconds, 1e-9)
    summary: dict[str, Any] = {
        "prediction": outcome.meeting.run.hex(),
        "run": prepared.model.run.hex(),
        "version": prepared.model.digest.hex(),
        "contract": config.contract.digest.hex(),
        "party": config.name,
        "role": config.role,
        "rows": len(prepared.features),
        "aligned": users,
        "psi": psi_record(config.contract, outcome.aligned),
        "scoring": {"rows_per_second": round(speed, 1)} | outcome.cost._asdict(),
        "seconds": round(seconds, 3),
    }
    if outcome.spent and config.contract.privacy != Privacy():
        summary["privacy"] = outcome.spent
    if drift:
        summary["drift"] = drift
    if prepared.excluded is not None:
        summary["excluded"] = prepared.excluded.facts()
    if result is not None:
        together, alone = int(result.together.sum()), len(result.alone)
        learned = scores_alone(prepared.model.top(prepared.model.run))
        summary |= {
            "together": together,
            "alone": alone if learned else 0,
            "unscored": 0 if learned else alone,
            "scores": str(folder / SCORES),
        }
    return summary


def said(summary: Mapping[str, Any]) -> str:
    """The last lines, for people."""
    scoring = summary["scoring"]
    traffic = f"{scoring['bytes_sent'] / 1e6:.1f} MB out, {scoring['bytes_received'] / 1e6:.1f} MB in"
    speed = f"{scoring['seconds']:.1f} s, {scoring['rows_per_second']:,.0f} users/s, {traffic}"
    if "scores" not in summary:
        return f"{summary['aligned']:,} common users scored for the label holder: {speed}"
    return (
        f"{summary['rows']:,} rows: {summary['together']:,} scored by all parties, "
        f"{summary['alone']:,} alone, {summary['unscored']:,} without a score: {summary['scores']}\n{speed}"
    )
