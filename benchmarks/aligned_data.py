"""The demo's tables, or a real set cut up, aligned by their truth and ready to train on: no PSI is run."""

import argparse
import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import pandas as pd
import torch

from parties.demo_data import generate, split_real
from parties.features import Pipeline
from parties.labels import yes_or_no
from parties.phases import features_of
from parties.sources.csv_file import CsvFile
from parties.table import read_table
from psi.canonical import canonical
from splitnn.features import Features
from splitnn.schedule import Split, split_rows

T = TypeVar("T")
GENERATED = "generated"


@dataclass(frozen=True)
class Aligned:
    """The label holder's name is the first. labels: of all rows, float32 [n]."""

    features: dict[str, Features]
    labels: torch.Tensor
    rows: Split


def aligned(folder: Path, source: Path | None, seed: int, people: int) -> Aligned:
    """Make the tables in `folder` (from the set in `source`, or made up for so many people) and align them.

    seed: of the tables and, as the public seed, of the split, 70 / 15 / 15.
    """
    made = generate(folder, seed, people) if source is None else split_real(source, folder, seed)
    wanted = pd.read_parquet(folder / "truth.parquet")["id"]
    rows = split_rows(len(wanted), 0.15, 0.15, seed.to_bytes(8, "big"))
    features: dict[str, Features] = {}
    for party in sorted(made.parties, key=lambda party: party.name != made.label_holder):
        target = [party.label] if party.label else []
        table = read_table(CsvFile(party.file), [party.id_column], party.numeric, party.categorical, target)
        ids = pd.Index([canonical(cell, "email") or "" for cell in table.ids[party.id_column]])
        places = pd.Series(np.arange(len(ids)), ids)
        alignment = places[~places.index.duplicated()].loc[wanted].to_numpy()
        pipeline = Pipeline.fit(table, alignment[rows.train.numpy()])
        features[party.name] = features_of(pipeline, table, alignment)
        if party.label:
            values = yes_or_no(table.labels[party.label], party.positive or ())
            labels = torch.from_numpy(values[alignment])
    return Aligned(features, labels, rows)


def comparing(description: str) -> argparse.ArgumentParser:
    """The arguments of what is measured with a partner and without, over seeds."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument(
        "--data", default=GENERATED, help="or the name of a real set, such as online_shoppers"
    )
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--people", type=int, default=100_000, help="of the made-up population")
    parser.add_argument("--party-dropout", type=float, default=0.1)
    parser.add_argument("--json", action="store_true", help="one line of JSON alone")
    return parser


def over_seeds(given: argparse.Namespace, measured: Callable[[Path | None, int], T]) -> list[T]:
    """What is measured of the set that was asked for, with each seed, on one thread."""
    source, found = source_of(given.data), []
    torch.set_num_threads(1)
    for seed in range(1, given.seeds + 1):
        found.append(measured(source, seed))
        if not given.json:
            print(f"seed {seed} done", file=sys.stderr)
    return found


def source_of(name: str) -> Path | None:
    """The set's folder, None for made-up data. Ends the program, with the reason, where it is absent."""
    if name == GENERATED:
        return None
    root = Path(os.environ.get("PARTY_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not (root / name / "split.json").exists():
        print(json.dumps({"data": name, "skipped": f"no {name} under {root}: set PARTY_DATA"}))
        sys.exit(0)
    return root / name
