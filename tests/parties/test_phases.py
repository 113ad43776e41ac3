"""The last day of a contract, where the parties met after it."""

from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from parties.align import alignment_only
from parties.config import Config, load
from parties.errors import ContractExpired
from parties.own import own_protocols
from parties.phases import Outcome, Prepared, prepare, whole_run
from parties.unfinished import Unfinished
from protos.memory import together
from protos.rounds import Progress, Round

NAMES = ("logistics", "platform")
LAST = date(2027, 1, 31)


class Stopped(Exception):
    pass


@pytest.fixture
def prepared(tmp_path: Path, certificates: Path, identities: dict[str, Any]) -> dict[str, Prepared]:
    """Parties that were started on the last day."""
    random, configs = np.random.default_rng(1), dict[str, Config]()
    contract = (
        f'version = 1\nname = "small"\nlabel_holder = "platform"\nseed = 1\nids.type = "integer"\n'
        f'privacy.expires = {LAST}\npsi = {{ protocol = "insecure-hash", allow_insecure = true }}\n'
        'model = { cut = 2, bottom_hidden = [2], top_hidden = [2] }\nevaluation.importance = "none"\n'
        "training = { epochs = 1, batch = 32 }\n"
    ) + "".join(f'[parties.{name}]\nkey = "{identities[name].fingerprint}"\n' for name in NAMES)
    for name in NAMES:
        home, holds = tmp_path / name, name == "platform"
        home.mkdir()
        cells = {"k": range(150), "x": random.normal(size=150), "y": random.integers(0, 2, 150)}
        pd.DataFrame(cells).to_csv(home / "table.csv", index=False)
        (home / "run.toml").write_text(contract)
        label = ', label = "y"' if holds else ""
        (home / "party.toml").write_text(
            f'party = "{name}"\ndata = {{ file = "table.csv", id = "k"{label} }}\n'
            f'tls = {{ ca = "{certificates}/ca.pem", certificate = "{certificates}/{name}.pem", '
            f'key = "{certificates}/{name}.key" }}\n'
            f'link = {{ {"listen" if holds else "hub"} = "127.0.0.1:1" }}\n'
        )
        configs[name] = load(home / "party.toml")
    torch.set_num_threads(1)
    return {name: prepare(config, lambda: LAST) for name, config in configs.items()}


def ran(prepared: dict[str, Prepared], today: date, stop: bool = False) -> dict[str, Any]:
    def hear(name: str, word: Round) -> None:
        if stop and isinstance(word, Progress) and word.phase == "training":
            raise Stopped

    parties = {
        name: whole_run(one, Unfinished.of(one.config, {}), today=lambda: today)
        for name, one in prepared.items()
    }
    return together(parties, hear).results


def test_who_meets_after_the_last_day_begins_nothing(prepared: dict[str, Prepared]) -> None:
    after = LAST + timedelta(days=1)
    outcomes = [*ran(prepared, after).values()]
    parties = {
        name: alignment_only(
            one.config, one.identity, one.data.ids, own_protocols(one.config), today=lambda: after
        )
        for name, one in prepared.items()
    }
    outcomes += together(parties).results.values()
    assert len(outcomes) == 4
    for outcome in outcomes:
        assert isinstance(outcome, ContractExpired)
        assert "2027-01-31 was the last day for a run, and today is 2027-02-01 (UTC)" in str(outcome)
    assert not any(Unfinished.of(one.config, {}).run() for one in prepared.values())


def test_a_run_under_way_goes_on_after_it(prepared: dict[str, Prepared]) -> None:
    with pytest.raises(Stopped):
        ran(prepared, LAST, stop=True)
    assert all(Unfinished.of(one.config, {}).run() for one in prepared.values())
    for outcome in ran(prepared, LAST + timedelta(days=1)).values():
        assert isinstance(outcome, Outcome)
