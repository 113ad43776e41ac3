"""`party predict` between real processes, by the model of a real run."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

from parties import audit

Federate = Callable[..., Any]


def check_predictions(made: Any, alone: bool) -> None:
    """Scores of the run's own rows, and of strangers."""
    assert all(end.code == 0 for end in made.run().values())
    home = made.home("platform")
    table = pd.read_csv(home / "people.csv").drop(columns="bought")
    strange = table[:9].assign(email=[f"stranger.{number}@mail.example" for number in range(9)])
    pd.concat([table, strange]).to_parquet(home / "new.parquet", index=False)
    made.start("platform", command=["predict", "--ids", "new.parquet", "--json"])
    made.start("logistics", "advertiser", command=["predict", "--json"])
    ends = made.ends()
    assert all(end.code == 0 for end in ends.values()), ends
    summary = ends["platform"].json
    found = pd.read_parquet(summary["scores"])
    [folder] = (home / "runs").glob("*/platform")
    tested = pd.read_parquet(folder / "test_scores.parquet")
    np.testing.assert_allclose(found["score"][tested["row"]], tested["score"], atol=1e-6)
    assert set(found["parties"][tested["row"]]) == {"platform,advertiser,logistics"}
    assert len(found) == len(table) + 9
    assert [*found["parties"][-9:].dropna()] == ["platform"] * (9 if alone else 0)
    assert found["score"].notna().all() == alone
    assert summary["aligned"] == len(made.common)
    assert summary["together"] == len(made.common) + 2  # of two people a second row
    logs = [audit.read(path) for path in made.folder.glob("*/runs/*/*/predictions-*/audit.jsonl")]
    assert len(logs) == 3
    assert not audit.compare(logs[0], logs[1])


@pytest.mark.slow
def test_three_processes(federation: Federate) -> None:
    made = federation()
    made.agree("epochs = 200, patience = 3", "epochs = 2")
    made.agree("cut = 3,", "cut = 3, party_dropout = 0.2,")
    made.edit("platform", "party.toml", "[link]", '[evaluation]\ncalibration = "temperature"\n[link]')
    check_predictions(made, alone=True)


@pytest.mark.slow
def test_secure_sum(federation: Federate) -> None:
    """All are there, or there is no score."""
    made = federation()
    made.agree("epochs = 200, patience = 3", "epochs = 2")
    made.agree("cut = 3,", 'cut = 3, fusion = "secure-sum",')
    made.agree("[parties.platform]", '[evaluation]\nimportance = "none"\n\n[parties.platform]')
    check_predictions(made, alone=False)
