"""`party align` between real processes: the common ids and nothing else, whoever dies on the way."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pytest

from psi.canonical import canonical

Federate = Callable[..., Any]


def aligned(made: Any, ends: dict[str, Any]) -> dict[str, list[str | None]]:
    """The canonical ids that each party wrote, in its order."""
    found = {}
    for name, end in ends.items():
        assert end.code == 0, f"{name}: {end.err}"
        table = pd.read_parquet(end.json["ids"])
        assert list(table.columns) == ["row", "id"]
        own = pd.read_csv(made.home(name) / "people.csv", dtype=str, keep_default_na=False)["email"]
        assert table["id"].tolist() == own.iloc[table["row"]].tolist()  # as this party writes them
        found[name] = [canonical(cell, "email") for cell in table["id"]]
    return found


def test_the_common_ids_in_one_order(federation: Federate) -> None:
    made = federation()
    made.edit("platform", "party.toml", 'label = "bought"\n', "")  # not needed here
    for name in made.names:
        made.edit(name, "party.toml", 'numeric = ["amount"]', 'numeric = ["no such column"]')
    made.start(command=["align", "--json"])
    ends = made.ends()
    found = aligned(made, ends)
    assert set(found["platform"]) == made.common
    assert found["platform"] == found["logistics"] == found["advertiser"]
    summary = ends["platform"].json
    counts = summary["psi"]["sizes"]
    assert counts["platform"] == summary["rows"]
    assert set(counts) == set(made.names)
    assert set(ends["advertiser"].json["psi"]["sizes"]) == {"advertiser", "platform"}
    assert (summary["psi"]["kind"], summary["psi"]["buckets"]) == ("email", 1)
    for name in made.names:
        folder = f"e2e-{summary['run'][:12]}"
        files = {"agreement.json", "alignment.parquet", "summary.json", "audit.jsonl"}
        assert made.left(name) == {folder, f"{folder}/{name}", *(f"{folder}/{name}/{f}" for f in files)}


def test_out_and_the_last_line(federation: Federate) -> None:
    made = federation(("platform", "logistics"))
    made.start("platform", command=["align"])
    made.start("logistics", command=["align", "--out", "common.parquet"])
    ends = made.ends()
    assert all(end.code == 0 for end in ends.values()), ends
    rows = len(made.common)
    assert pq.read_table(made.home("logistics") / "common.parquet").num_rows == rows
    assert ends["logistics"].out.startswith(f"{rows} of ")
    assert "email ids are common to all: common.parquet\n" in ends["logistics"].out
    assert "logistics" not in {Path(path).suffix for path in made.left("logistics")}
    assert "MB in" in ends["platform"].out


def test_a_run_and_an_alignment_do_not_mix(federation: Federate) -> None:
    made = federation(("platform", "logistics"))
    made.start("platform")
    made.start("logistics", command=["align", "--json"])
    for end in made.ends().values():
        assert end.code == 5
        assert "`party align` at logistics, `party run` at platform" in end.error


IN_BUCKETS = """
import sys
from psi import buckets
buckets.LARGEST = 90
from parties.process import main
main()
"""
"""A party whose buckets are small, so that a few hundred ids make many."""


@pytest.mark.parametrize(("victim", "command"), [("platform", "align"), ("advertiser", "run")])
def test_a_killed_alignment_leaves_rows_only_and_goes_on(
    federation: Federate, victim: str, command: str
) -> None:
    made = federation(people=900)

    def kept(name: str) -> list[Path]:
        return sorted(made.home(name).glob("runs/*-unfinished/*/*"))

    made.start(command=[command, "--json"], code=IN_BUCKETS)
    deadline = time.monotonic() + 60
    while sum(file.suffix == ".parquet" for file in kept(victim)) < 4:
        assert time.monotonic() < deadline, made.stderr(victim)
        assert made.processes[victim].poll() is None, made.stderr(victim)
        time.sleep(0.001)
    os.kill(made.processes[victim].pid, signal.SIGKILL)
    made.processes[victim].wait()
    survivors = [name for name in made.names if name != victim]
    for name, end in made.ends(*survivors).items():
        assert end.code == 8, f"{name}: {end.err}"
    before = {}
    for name in made.names:
        other = {"secret", f"{name}.status.json", "audit.jsonl"}
        files = kept(name)
        before[name] = {file.name: file.stat().st_mtime_ns for file in files if file.suffix == ".parquet"}
        assert len(before[name]) >= 3
        for file in (made.home(name) / "runs").rglob("*"):
            if file.is_file() and file.suffix not in (".lock", ".partial") and file.name not in other:
                assert file in files, f"{name} left {file}"
                if file.name != "run.json":
                    check_holds_rows_only(file)
                assert file.stat().st_mode & 0o077 == 0

    made.start(command=[command, "--json"], code=IN_BUCKETS)
    ends = made.ends()
    if command == "align":
        found = aligned(made, ends)
        assert set(found["platform"]) == made.common
        assert len(found["platform"]) == len(made.common)
        assert found["platform"] == found["logistics"] == found["advertiser"]
    assert all(ends[name].json["aligned"] == len(made.common) for name in made.names)
    assert all(not kept(name) for name in made.names)
    for name in made.names:
        psi = ends[name].json["psi"]
        assert psi["buckets"] > 8
        assert 3 <= psi["reused"] <= min(map(len, before.values()))


def check_holds_rows_only(file: Path) -> None:
    """One column of row numbers; in the metadata a run id, which all parties know, what names the set, and
    which bucket it is."""
    table = pq.read_table(file)
    assert table.column_names == ["row"]
    assert str(table.schema.field("row").type) == "int64"
    told = dict(table.schema.metadata)
    assert told.pop(b"bucket").isdigit()
    assert set(told) == {b"of", b"run", b"sha256"}
    assert all(len(value) == 64 for value in told.values())
