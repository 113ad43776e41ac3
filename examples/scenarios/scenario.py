"""What the scenarios share: whose customer each person is, and a page for those who decide."""

import argparse
from typing import Any

import numpy as np
import pandas as pd

from parties.simulation import Simulated

CONTRACT: dict[str, Any] = {
    "model": {"cut": 16, "bottom_hidden": [32], "top_hidden": [32]},
    "training": {"epochs": 15, "batch": 256, "learning_rate": 0.01, "patience": 3},
    "evaluation": {"test": 0.25, "contribution": "retrain"},
}
"""A small network, and what each partner brings, measured by training without it."""


def people(default: int = 6000) -> int:
    """How many the made-up companies share, from the command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--people", type=int, default=default)
    return int(parser.parse_args().people)


def yes(random: np.random.Generator, log_odds: Any) -> Any:
    """1 or 0, drawn."""
    return (random.random(len(log_odds)) < 1 / (1 + np.exp(-log_odds))).astype(int)


def known(random: np.random.Generator, table: pd.DataFrame, share: float = 0.9) -> pd.DataFrame:
    """Of all people, those whom one company knows, in an order of its own."""
    return table.sample(frac=share, random_state=random)


def tell(found: Simulated, question: str, *metrics: str) -> None:
    """The label holder alone, the federation, and what each partner adds."""
    summary, me = found.summary, found.label_holder
    partners = sorted({*found.parties} - {me})
    both = " and ".join(partners)
    print(f"{question}: {summary['aligned']:,} common, of {summary['rows']:,} that {me} has\n")
    print(f"{'on test rows':<40}" + "".join(f"{name:>12}" for name in metrics))
    for who, scored in ((f"{me} alone", "alone"), (f"{me} with {both}", "test")):
        print(f"{who:<40}" + "".join(f"{found.metrics[scored][name]:>12.4f}" for name in metrics))
    lifts = summary["contribution"]["lifts"]
    measured = next(iter(lifts[0]["metrics"]))
    print(f"\nwhat each partner adds to {measured}, and its 95 % interval")
    for lift in lifts:
        found_here = lift["metrics"][measured]
        who = " and ".join(lift["partners"])
        print(f"{who:<40}{found_here['lift']:>+12.4f}  {found_here['low']:+.4f} to {found_here['high']:+.4f}")


def caught(found: Simulated, share: float) -> float:
    """Of all yes among the test rows, the part that is in this share of highest scores."""
    scores = found.parties[found.label_holder].scores
    assert scores is not None
    first = scores.sort_values("score", ascending=False).head(round(len(scores) * share))
    return float(first["label"].sum() / scores["label"].sum())
