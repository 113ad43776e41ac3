"""Two small companies on disk with columns of every kind, and runs of theirs in one process."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from parties.config import load
from parties.phases import prepare
from parties.train import complete_run
from parties.unfinished import Unfinished
from protos.memory import together

NAMES = ("logistics", "platform")
PEOPLE = 240
CONTRACT = """version = 1
name = "small"
label_holder = "platform"
seed = 1
ids.type = "integer"
psi = { protocol = "insecure-hash", allow_insecure = true }
"""
SECTIONS = {
    "model": "{ cut = 3, bottom_hidden = [6], top_hidden = [16] }",
    "training": "{ epochs = 2, batch = 32, learning_rate = 0.01 }",
    "evaluation": '{ importance = "parties" }',
}


def tables(seed: int = 1) -> dict[str, pd.DataFrame]:
    """Of each party; an id is a number, and the label depends on `amount` and `x`."""
    random = np.random.default_rng(seed)
    amount, x = random.normal(size=(2, PEOPLE))
    label = (amount + x + random.normal(size=PEOPLE) / 2 > 0).astype(int)
    pages = [" ".join(random.choice([*"abcd"], random.integers(0, 4))) for _ in range(PEOPLE)]
    kind = random.choice(["x", "y", "z"], PEOPLE)
    spent = np.where(random.random(PEOPLE) < 0.2, np.nan, np.exp(2 * random.normal(size=PEOPLE)))
    ids = np.arange(PEOPLE)
    member = np.where(random.random(PEOPLE) < 0.1, None, random.choice(["yes", "no"], PEOPLE))
    days = pd.Timestamp("2024-01-01") + pd.to_timedelta(random.integers(0, 900, PEOPLE), unit="D")
    since = pd.Series(days.strftime("%Y-%m-%d")).where(random.random(PEOPLE) > 0.1)
    return {
        "platform": pd.DataFrame({"k": ids, "x": x, "pages": pages, "bought": label}),
        "logistics": pd.DataFrame(
            {"k": ids, "amount": amount, "spent": spent, "kind": kind, "seen": pages}
            | {"member": member, "since": since}
        ),
    }


def write(
    root: Path, certificates: Path, identities: Mapping[str, Any], more: Mapping[str, str] | None = None
) -> dict[str, Path]:
    """The home of each party: party.toml, run.toml, table.csv. more: to the platform's party.toml."""
    homes = {}
    for name, table in tables().items():
        homes[name] = root / name
        homes[name].mkdir()
        table.to_csv(homes[name] / "table.csv", index=False)
        holds = name == "platform"
        data = 'label = "bought", bags = { pages = " " }' if holds else 'bags = { seen = " " }'
        (homes[name] / "party.toml").write_text(
            f'party = "{name}"\ndata = {{ file = "table.csv", id = "k", {data} }}\n'
            f'tls = {{ ca = "{certificates}/ca.pem", certificate = "{certificates}/{name}.pem", '
            f'key = "{certificates}/{name}.key" }}\n'
            f'link = {{ {"listen" if holds else "hub"} = "127.0.0.1:1" }}\n{(more or {}).get(name, "")}'
        )
    agree(homes, identities)
    return homes


def agree(homes: Mapping[str, Path], identities: Mapping[str, Any], **sections: str) -> None:
    """Write run.toml at all parties; sections in place of SECTIONS'."""
    text = CONTRACT + "".join(f"{name} = {value}\n" for name, value in (SECTIONS | sections).items())
    text += "".join(f'[parties.{name}]\nkey = "{identities[name].fingerprint}"\n' for name in NAMES)
    for home in homes.values():
        (home / "run.toml").write_text(text)


def run(homes: Mapping[str, Path]) -> dict[str, Any]:
    """What `party run` gives each party."""
    torch.set_num_threads(1)
    configs = {name: load(home / "party.toml") for name, home in homes.items()}
    rounds = {name: complete_run(prepare(one), Unfinished.of(one, {})) for name, one in configs.items()}
    return together(rounds).results


def folder_of(home: Path, summary: Mapping[str, Any]) -> Path:
    """Where that run's results are."""
    return home / "runs" / f"small-{summary['run'][:12]}" / summary["party"]
