"""`party run`: one party's process, from its configuration to the files that the run leaves."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from parties.baselines import baselines
from parties.certs import Identity
from parties.config import Config
from parties.dial import Spoke
from parties.errors import PartyError
from parties.hub import Hub
from parties.link import Link
from parties.phases import prepare, whole_run
from parties.results import keep, summarise, test_metrics
from parties.storage import locked, write
from parties.summary import report
from protos.rounds import Progress, Traffic
from splitnn.exact import LabelHolderResult

OnProgress = Callable[[Progress, Traffic], None]


def run_party(config: Config, on_progress: OnProgress, say: Callable[[str], None]) -> dict[str, Any]:
    """Prepare, run with the others over the link, keep what came of it, compare with the baselines.

    say: told what the others will learn from the alignment, before anybody is met; and where the results are.

    Returns the content of summary.json, the last file to be written: where it stands, all others are whole.
    """
    torch.set_num_threads(1)  # a sum in another order has other bits
    with locked(config.party.storage, config.name):
        prepared = prepare(config)
        for name, protocol in prepared.protocols.items():
            say(f"{name}: {protocol.leakage}")
        with _link(config, prepared.identity, on_progress, say) as link:
            outcome = link.drive(whole_run(prepared), on_progress=on_progress)
        if isinstance(outcome, PartyError):
            raise outcome
        folder = keep(prepared, outcome)
        metrics: dict[str, dict[str, float]] = {}
        if isinstance(outcome.trained, LabelHolderResult):
            on_progress(Progress("what this party reaches alone", 0, 0), link.traffic)
            metrics = test_metrics(prepared, outcome.trained) | baselines(prepared, outcome)
        summary = summarise(prepared, outcome, metrics)
        write(folder / "report.txt", report(summary).encode())
        write(folder / "summary.json", json.dumps(summary, indent=2).encode() + b"\n")
        say(f"results in {folder}")
    return summary


@contextmanager
def _link(
    config: Config, identity: Identity, on_progress: OnProgress, say: Callable[[str], None]
) -> Iterator[Link]:
    """The hub with all feature holders there, or the line to it. Raises NetworkError, PeerTimeout."""
    place, contract = config.party.link, config.contract
    if config.role == "label holder":
        pins = {name: contract.parties[name].key for name in contract.feature_holders}
        with Hub(identity, str(place.listen), pins, plaintext=place.plaintext) as hub:
            hub.open()
            total = len(pins)

            def tell(missing: list[str]) -> None:
                phase = f"waiting for {', '.join(missing)}" if missing else "all parties are here"
                on_progress(Progress(phase, total - len(missing), total), hub.traffic)

            hub.wait_for_peers(place.wait, on_wait=tell)
            yield hub
    else:
        others = [name for name in contract.feature_holders if name != config.name]
        hub_name, address = contract.label_holder, str(place.hub)
        with Spoke(identity, hub_name, address, others, plaintext=place.plaintext) as spoke:
            say(f"calling {hub_name} at {address}, for up to {place.wait:g} s")
            spoke.open(place.wait)
            yield spoke
