"""`party run`: one party's process, from its configuration to the files that the run leaves."""

import os
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from parties.alignment import Random, logged
from parties.baselines import baselines
from parties.changes import described, refuse_change_while_read, refuse_changes
from parties.columns.suspects import suspects
from parties.config import Config
from parties.connection import OnProgress
from parties.contribution import contribution
from parties.cost import Clock, Parts
from parties.drift_report import alerts
from parties.ending import End, all_keep, to_the_end
from parties.errors import AlignmentError, PartyError
from parties.excluded import told_of_excluded
from parties.handshake import Meeting
from parties.label_keys import told_of_delay
from parties.outlast import warning_of_expiry
from parties.own import large_batch, leakage, leakage_of_examples, leakage_of_serving
from parties.phases import Prepared, prepare, whole_run
from parties.results import keep, summarise, test_metrics, tested, uncalibrated
from parties.retraining import retrained
from parties.room import to_run
from parties.storage import locked, run_folder, write
from parties.summary import as_json, report
from parties.unfinished import Unfinished, forget, under_any_contract
from parties.unseen import metrics_of_unseen
from parties.watch import OnPeer, Watch
from protos.rounds import Rounds
from splitnn.exact import LabelHolderResult
from splitnn.threads import single_threaded


def run_party(
    config: Config,
    on_progress: OnProgress,
    say: Callable[[str], None],
    on_peer: OnPeer = lambda peer, there: None,
    afresh: bool = False,
) -> dict[str, Any]:
    """Prepare, run with the others over the link, keep what came of it, compare with the baselines.

    say: told what the others will learn from alignment and examples, before anybody is met; what the run goes
    on with; and where the results are. on_peer: told a neighbour's name, and whether it is there. afresh:
    drop what an unfinished run of this name has left.

    Returns the content of summary.json, the last file to be written: where it stands, all others are whole.
    That of a run that has ended already, too, where this process was killed before it knew, or had said so.
    """
    storage = config.party.storage
    with single_threaded(), locked(storage, config.name), Watch(config, "run", on_peer) as watch:
        if afresh:
            for folder in under_any_contract(config):
                forget(folder)
        own = described(config)
        refuse_changes(config, own)
        prepared, unfinished = prepare(config), Unfinished.of(config, own, watch.checkpoint)
        refuse_change_while_read(config, own)
        on_progress = warning_of_expiry(watch.over(on_progress), prepared.identity, say)
        told_first = [*leakage(config, prepared.protocols), *leakage_of_examples(config.contract)]
        told_first += leakage_of_serving(config.contract)
        if prepared.data.delay is not None:
            told_first.append(told_of_delay(prepared.data.delay.facts()))
        if prepared.data.excluded is not None:
            told_first.append(told_of_excluded(prepared.data.excluded.facts()))
        if prepared.warm is not None:
            told_first += prepared.warm.told(prepared.data.table)
        told_first += [*prepared.data.table.warnings, *suspects(prepared.data)]
        for line in [*prepared.identity.warnings(), *told_first]:
            say(line)

        summary = to_the_end(
            config,
            prepared.identity,
            to_run(config.contract, prepared.protocols),
            unfinished,
            lambda: complete_run(prepared, unfinished, say=say),
            on_progress,
            say,
            watch.linked,
        )
        leave_page(config, summary, say)
        return summary


def leave_page(config: Config, summary: Mapping[str, Any], say: Callable[[str], None]) -> None:
    """report.html, of what the run has left. The run is over: a fault is told, and takes nothing with it."""
    from parties.report.page import write_page  # matplotlib: only now

    try:
        run = bytes.fromhex(summary["run"])
        write_page(run_folder(config.party.storage, config.contract.name, run, config.name))
    except Exception as error:
        why = str(error) if isinstance(error, PartyError) else type(error).__name__
        say(f"no report.html: {why}; the results are whole, and `party report` makes it again")


def complete_run(
    prepared: Prepared,
    unfinished: Unfinished,
    clock: Clock = time.monotonic,
    random: Random = os.urandom,
    say: Callable[[str], None] = lambda line: None,
) -> Rounds[End]:
    """The run as rounds, its files included: `whole_run`, then the results, and when those of all parties are
    whole, the end of what was kept to go on with. A party that is killed at any moment either still has what
    it takes to go on, or nobody needs it any more. Raises StorageError, AccountError, and what `whole_run`
    raises.
    """

    parts = Parts(clock)
    run = partial(_complete_run, prepared, unfinished, parts, clock, random, say)
    return (yield from parts.over(logged(prepared.config, run)))


def _complete_run(
    prepared: Prepared,
    unfinished: Unfinished,
    parts: Parts,
    clock: Clock,
    random: Random,
    say: Callable[[str], None],
    met: Callable[[Meeting], None],
) -> Rounds[End]:
    outcome = yield from whole_run(prepared, unfinished, clock, random, say, met)
    if isinstance(outcome, AlignmentError):
        forget(unfinished.folder)  # at every party: there is nothing to go on with
    if isinstance(outcome, PartyError):
        return outcome
    for line in [*large_batch(prepared.config, len(outcome.aligned.rows)), *uncalibrated(outcome)]:
        say(line)
    folder = keep(prepared, outcome)
    without, outcome = yield from retrained(prepared, outcome)
    metrics: dict[str, Any] = {}
    brought: dict[str, Any] = {}
    if isinstance(outcome.trained, LabelHolderResult):
        alone = yield from baselines(prepared, outcome)
        metrics = test_metrics(outcome.trained, outcome.calibration)
        metrics |= {name: tested(one, one.scores) for name, one in alone.items()}
        metrics |= metrics_of_unseen(prepared, outcome)
        brought = contribution(prepared, outcome, alone, without)
    summary = summarise(prepared, outcome, metrics, brought, parts.costs())
    for line in alerts(summary.get("drift", {})):
        say(line)
    write(folder / "report.txt", report(summary).encode())
    write(folder / "summary.json", as_json(summary))
    hub = prepared.config.contract.label_holder
    if prepared.config.name != hub:
        say(f"results are written; waiting until {hub} has its own: it trains alone, too, to compare")
    yield from all_keep(prepared.config.name, prepared.config.contract, unfinished.end)
    forget(unfinished.folder)
    say(f"results in {folder}")
    return summary
