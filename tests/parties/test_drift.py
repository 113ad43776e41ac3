"""Drift of columns: what holds for any counts, what chance alone makes of it, and `party drift` on a run."""

import json
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import chi2

from parties import drift, process
from parties.columns.levels import LEVELS_AT_MOST
from parties.config import load
from parties.drift import LEVELS, QUANTILES, Statistics, stability
from parties.drift_report import drift as drift_of
from parties.errors import DataError, StorageError
from parties.features import Pipeline
from parties.promoted import promote
from parties.sources.csv_file import CsvFile
from parties.sources.files import source_of
from parties.table import Table, read_table
from parties.versions import find
from tests.parties import small

COUNTS = st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 10_000)), min_size=1, max_size=25)


@given(COUNTS)
def test_stability_of_any_counts(pairs: list[tuple[int, int]]) -> None:
    """Never negative, the same either way round, and nothing where the shares are the same."""
    p, q = (np.array(one) for one in zip(*pairs, strict=True))
    psi, by_chance = stability(p, q)
    assert psi >= 0
    assert by_chance >= 0
    assert (psi, by_chance) == pytest.approx(stability(q, p))
    assert stability(p, p)[0] == 0
    empty = np.zeros(3, dtype=np.int64)
    assert stability(np.concatenate((p, empty)), np.concatenate((q, empty))) == (psi, by_chance)


@pytest.mark.parametrize("bins", [2, 5, 10, 21])
def test_chance_alone_is_above_its_bound_once_in_twenty(bins: int) -> None:
    random, shares = np.random.default_rng(bins), np.arange(1, bins + 1) / (bins * (bins + 1) / 2)
    above = [
        psi > by_chance
        for psi, by_chance in (
            stability(random.multinomial(4_000, shares), random.multinomial(3_000, shares))
            for _ in range(1_000)
        )
    ]
    assert 0.03 < np.mean(above) < 0.07
    _, by_chance = stability(np.full(bins, 100), np.full(bins, 50))
    assert by_chance == pytest.approx(
        (1 / (100 * bins) + 1 / (50 * bins)) * chi2.ppf(0.95, bins - 1), rel=0.04
    )


def table(**columns: Any) -> Table:
    count = len(next(iter(columns.values())))
    numeric = {name: cells for name, cells in columns.items() if np.asarray(cells).dtype.kind == "f"}
    texts = {name: cells for name, cells in columns.items() if name not in numeric}
    rows = range(count)
    nothing = pd.DataFrame(index=rows)
    return Table(
        CsvFile(Path("t.csv")),
        nothing,
        pd.DataFrame(numeric, rows),
        pd.DataFrame(texts, rows, dtype="str"),
        nothing,
        None,
    )


def everything(whole: Table) -> NDArray[np.int64]:
    return np.arange(len(whole.numeric))


def largest_difference(p: NDArray[np.float64], q: NDArray[np.float64]) -> float:
    """The Kolmogorov-Smirnov statistic of two samples."""
    at = np.concatenate((p, q))
    shares = (np.searchsorted(np.sort(one), at, side="right") / len(one) for one in (p, q))
    return float(np.abs(np.subtract(*shares)).max())


CELL = st.none() | st.floats(-(2.0**99), 2.0**99, width=32) | st.sampled_from([0.0, 1.0, 2.0])


@settings(deadline=None)
@given(cells=st.lists(CELL, min_size=2, max_size=60), later=st.lists(CELL, min_size=1, max_size=60))
def test_any_numeric_column(cells: list[float | None], later: list[float | None]) -> None:
    """Every row is counted once; KS is near the exact one; nothing has drifted from itself."""
    then = table(a=np.array(cells, np.float64), b=np.arange(len(cells), dtype=np.float64))
    now = table(a=np.array(later, np.float64), b=np.zeros(len(later)))
    pipeline = Pipeline.fit(then, everything(then))
    fitted = Statistics.of(pipeline, then, everything(then))
    found = fitted.again(pipeline, now, everything(now))
    assert all(sum(column.counts) == len(cells) for column in fitted.columns)
    assert all(sum(column.counts) == len(later) for column in found.columns)
    assert fitted == Statistics.from_json(fitted.to_json())
    assert all(one.psi == 0 and not one.ks and one.state == "stable" for one in fitted.drift(fitted))
    for one in fitted.drift(found):
        p, q = (np.asarray(part.numeric[one.name].dropna()) for part in (then, now))
        if len(p) and len(q):
            exact = largest_difference(p, q)
            assert one.ks is not None
            assert exact - 1 / QUANTILES - 1e-9 <= one.ks <= exact + 1e-9
        assert one.missing == (
            pytest.approx(then.numeric[one.name].isna().mean()),
            pytest.approx(now.numeric[one.name].isna().mean()),
        )


def test_a_shift_is_an_alert_and_a_new_level_too(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(1)
    then = table(
        moved=random.normal(size=5_000),
        same=random.normal(size=5_000),
        kind=random.choice(["x", "y"], 5_000),
        many=random.integers(0, LEVELS_AT_MOST + 100, 5_000).astype(str),
    )
    now = table(
        moved=random.normal(size=4_000) + 0.8,
        same=random.normal(size=4_000),
        kind=random.choice(["x", "y", "z"], 4_000),
        many=random.integers(0, LEVELS_AT_MOST + 100, 4_000).astype(str),
    )
    monkeypatch.setattr("parties.columns.levels.RARE", 1)
    monkeypatch.setattr("parties.columns.levels.LEVELS_AT_MOST", 1_000)
    pipeline = Pipeline.fit(then, everything(then))
    assert pipeline.categorical[1].buckets
    fitted = Statistics.of(pipeline, then, everything(then))
    found = fitted.again(pipeline, now, everything(now))
    told = {one.name: one for one in fitted.drift(found)}
    assert {name: one.state for name, one in told.items()} == {
        "moved": "alert",
        "same": "stable",
        "kind": "alert",
        "many": "stable",
    }
    assert [*told] == sorted(told, key=lambda name: -told[name].psi)
    assert told["moved"].ks == pytest.approx(0.31, abs=0.03)
    assert all(len(column.counts) <= 2 * QUANTILES for column in fitted.columns)
    assert max(len(column.counts) for column in fitted.columns[2:]) == 1 + LEVELS
    monkeypatch.setattr(drift, "BLOCK", 7)  # however the rows are read
    assert fitted.again(pipeline, now, everything(now)) == found
    half = [fitted.again(pipeline, now, part) for part in np.split(everything(now), 2)]
    assert all(
        np.array_equal(np.add(one.counts, other.counts), whole.counts)
        for one, other, whole in zip(*(part.columns for part in half), found.columns, strict=True)
    )


def column(kind: str, edges: list[float], counts: list[int]) -> bytes:
    held = {"name": "a", "kind": kind, "edges": edges, "counts": counts}
    return json.dumps({"version": 1, "rows": 1, "columns": [held]}).encode()


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"[]",
        b"{",
        b'{"version": 1}',
        b'{"version": 2, "rows": 1, "columns": []}',
        column("numeric", [2, 1], [0, 1, 1, 1]),
        column("numeric", [], [0]),
        column("bag", [], [0, -1]),
        column("other", [], [0, 1]),
    ],
)
def test_damaged_statistics_are_refused(text: bytes) -> None:
    with pytest.raises(DataError, match="statistics of training that are none"):
        Statistics.from_json(text)


Made = tuple[dict[str, Path], dict[str, Any]]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, certificates: Path, identities: dict[str, Any]) -> Made:
    homes = small.write(tmp_path_factory.mktemp("companies"), certificates, identities)
    return homes, small.run(homes)


def test_party_drift_against_the_training_rows_of_a_run(
    made: Made,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    homes, ended = made
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    monkeypatch.chdir(homes["logistics"])

    def party(*words: str) -> tuple[str, str]:
        monkeypatch.setattr(sys, "argv", ["party", "drift", *words])
        with pytest.raises(SystemExit) as exit:
            process.main()
        assert exit.value.code == 0
        captured = capsys.readouterr()
        return captured.out, captured.err

    out, err = party("--json")
    found = json.loads(out)
    assert (found["version"], found["alerts"], err) == (ended["logistics"]["run"], 0, "")
    assert found["rows"]["now"] == small.PEOPLE > found["rows"]["training"] > small.PEOPLE / 2
    assert {one["name"]: one["kind"] for one in found["columns"]} == {
        "amount": "numeric",
        "spent": "numeric",
        "kind": "categorical",
        "seen": "bag",
        "member": "numeric",
        "since": "date",
    }
    frame = pd.concat([pd.read_csv("table.csv")] * 4)
    frame["amount"] += 3
    frame["seen"] = "a"
    frame["since"] = pd.to_datetime(frame["since"]) + pd.Timedelta(days=900)
    frame.to_parquet(tmp_path / "new.parquet", index=False)
    out, err = party("--data", str(tmp_path / "new.parquet"))
    assert out.splitlines()[-1] == "3 alert(s) (PSI above 0.25), 0 to watch (above 0.1)"
    assert [line.split(":")[:3] for line in err.splitlines()] == [["party", " drift", " alert"]] * 3
    assert "column 'amount': PSI" in err
    assert "column 'seen': PSI" in err
    assert "column 'since': PSI" in err


def test_a_date_that_is_none_any_more(made: Made, tmp_path: Path) -> None:
    """In a newer table, of a column that training knows as dates: named by its row, and not shown."""
    config = load(made[0]["logistics"] / "party.toml")
    frame = pd.read_csv(made[0]["logistics"] / "table.csv", dtype=str)
    frame.loc[[4, 6], "since"] = "31.12.2025"
    frame.to_csv(tmp_path / "new.csv", index=False)
    with pytest.raises(DataError) as fault:
        drift_of(config, None, config.newer(tmp_path / "new.csv"))
    told = str(fault.value)
    assert "column 'since': 2 cell(s), the first in row 5, hold dates written DD.MM.YYYY; write" in told
    assert "31.12.2025" not in told
    assert "31.12" not in str(fault.value)


def test_against_which_version(made: Made, tmp_path: Path) -> None:
    shutil.copytree(made[0]["platform"], tmp_path / "platform")
    config, run = load(tmp_path / "platform" / "party.toml"), made[1]["platform"]["run"]
    promote(config, find(config, run))
    assert drift_of(config, None, None)["version"] == drift_of(config, run[:6], None)["version"] == run
    frame = pd.read_csv(tmp_path / "platform" / "table.csv").drop(columns="x")
    frame.to_csv(tmp_path / "other.csv", index=False)
    with pytest.raises(DataError, match="no column 'x'"):
        drift_of(config, None, config.newer(tmp_path / "other.csv"))
    path = small.folder_of(tmp_path / "platform", made[1]["platform"]) / "statistics.json"
    path.write_text("{")
    with pytest.raises(StorageError, match=r"statistics\.json: statistics of training that are none"):
        drift_of(config, None, None)
    path.unlink()
    with pytest.raises(StorageError, match=r"has no statistics\.json, as it is of an earlier release"):
        drift_of(config, None, None)


def test_a_table_in_a_file_is_counted_as_it_was_in_training(
    made: Made,
) -> None:
    home = made[0]["logistics"]
    whole = read_table(source_of(home / "table.csv"), ["k"], bags={"seen": " "})
    pipeline = Pipeline.fit(whole, np.arange(whole.rows))
    seen = {one.name: one for one in Statistics.of(pipeline, whole, np.arange(whole.rows)).columns}["seen"]
    lists = pd.read_csv(home / "table.csv")["seen"].fillna("").str.split()
    assert seen.counts[0] == (lists.str.len() == 0).sum()
    assert sum(seen.counts[1:]) == lists.str.len().sum()
