"""`party run`: one party's process, from its configuration to the files that the run leaves."""

from collections.abc import Callable
from typing import Any

import torch

from parties.baselines import baselines
from parties.config import Config
from parties.connection import OnProgress, connected
from parties.errors import PartyError
from parties.outlast import warning_of_expiry
from parties.own import large_batch, leakage, leakage_of_examples
from parties.phases import prepare, whole_run
from parties.results import keep, summarise, test_metrics, uncalibrated
from parties.storage import locked, write
from parties.summary import as_json, report
from parties.unfinished import forget, told, unfinished
from parties.watch import OnPeer, Watch
from protos.rounds import Progress
from splitnn.exact import LabelHolderResult


def run_party(
    config: Config,
    on_progress: OnProgress,
    say: Callable[[str], None],
    on_peer: OnPeer = lambda peer, there: None,
) -> dict[str, Any]:
    """Prepare, run with the others over the link, keep what came of it, compare with the baselines.

    say: told what the others will learn from alignment and examples, before anybody is met; and where the
    results are. on_peer: told a neighbour's name, and whether it is there.

    Returns the content of summary.json, the last file to be written: where it stands, all others are whole.
    """
    torch.set_num_threads(1)  # a sum in another order has other bits
    with locked(config.party.storage, config.name), Watch(config, "run", on_peer) as watch:
        prepared = prepare(config)
        on_progress = warning_of_expiry(watch.over(on_progress), prepared.identity, say)
        told_first = [*leakage(config, prepared.protocols), *leakage_of_examples(config.contract)]
        for line in [*prepared.identity.warnings(), *told_first]:
            say(line)
        with (
            told(unfinished(config), say),
            connected(config, prepared.identity, on_progress, say, watch.linked) as link,
        ):
            outcome = link.drive(whole_run(prepared, say=say), on_progress=on_progress)
        if isinstance(outcome, PartyError):
            raise outcome
        for line in [*large_batch(config, len(outcome.aligned.rows)), *uncalibrated(outcome)]:
            say(line)
        folder = keep(prepared, outcome)
        metrics: dict[str, Any] = {}
        if isinstance(outcome.trained, LabelHolderResult):
            on_progress(Progress("what this party reaches alone", 0, 0), link.traffic)
            metrics = test_metrics(outcome.trained, outcome.calibration) | baselines(prepared, outcome)
        summary = summarise(prepared, outcome, metrics)
        write(folder / "report.txt", report(summary).encode())
        write(folder / "summary.json", as_json(summary))
        forget(unfinished(config))
        say(f"results in {folder}")
    return summary
