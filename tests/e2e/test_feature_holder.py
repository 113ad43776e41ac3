"""A partner's own binary: the example written against the .proto alone takes part in a real run."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from psi.canonical import canonical

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "feature_holder"


@pytest.fixture(scope="module")
def stubs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What its README says: protoc on the one file of the schema."""
    pytest.importorskip("grpc_tools", reason="grpcio-tools is not installed")
    folder = tmp_path_factory.mktemp("stubs")
    protoc = [sys.executable, "-m", "grpc_tools.protoc", "-I", str(ROOT / "protos")]
    outs = [f"--python_out={folder}", f"--grpc_python_out={folder}"]
    subprocess.run([*protoc, *outs, "party.proto"], check=True)
    return folder


def start(made: Any, name: str, stubs: Path) -> None:
    """Beside the parties that `made` starts: the example, in its own folder, without this project's path."""
    home = made.home(name)
    with (home / "stdout").open("wb") as out, (home / "stderr").open("wb") as err:
        made.processes[name] = subprocess.Popen(
            [sys.executable, str(EXAMPLE / "feature_holder.py"), "party.toml"],
            cwd=home,
            stdout=out,
            stderr=err,
            env={**os.environ, "PYTHONPATH": str(stubs)},
        )


@pytest.mark.slow
def test_it_takes_part_in_a_run(federation: Callable[..., Any], stubs: Path) -> None:
    made = federation(("platform", "logistics"), people=900)
    made.edit("platform", "party.toml", 'numeric = ["amount"]', "numeric = []")
    tell(made, "platform", "bought", lambda number: number % 2 if number % 11 else 1 - number % 2)
    tell(made, "logistics", "amount", lambda number: number % 2 + number % 13 / 20)
    made.start("platform")
    start(made, "logistics", stubs)
    ends = made.ends()
    assert (ends["platform"].code, ends["logistics"].code) == (0, 0), ends
    assert ends["logistics"].err == ""
    summary = ends["platform"].json
    assert summary["aligned"] == len(made.common)
    assert f"{summary['training']['epochs']} epochs" in ends["logistics"].out
    assert f"epoch {summary['training']['best_epoch']}:" in ends["logistics"].out

    theirs = pd.read_csv(made.home("logistics") / f"feature_holder-{summary['run'][:12]}" / "alignment.csv")
    [place] = made.home("platform").rglob("alignment.parquet")
    ours = pd.read_parquet(place)
    assert set(map(found, theirs["id"])) == made.common
    assert [*map(found, theirs["id"])] == [*map(found, ours["id"])]
    assert summary["metrics"]["test"]["auc"] > 0.75 > 0.65 > summary["metrics"]["alone"]["auc"]


def tell(made: Any, name: str, column: str, value: Callable[[int], float]) -> None:
    """Write this of each person into a party's table: what decides the label is known to logistics alone."""
    path = made.home(name) / "people.csv"
    table = pd.read_csv(path)
    numbers = table["email"].fillna("").str.extract(r"\.(\d+)@", expand=False)
    table[column] = [value(int(number)) if isinstance(number, str) else 0 for number in numbers]
    table.to_csv(path, index=False)


def found(cell: str) -> str | None:
    return canonical(cell, "email")


@pytest.mark.slow
def test_it_refuses_what_it_cannot_do_in_one_line(federation: Callable[..., Any], stubs: Path) -> None:
    made = federation(("platform", "logistics"))
    made.agree("psi.minimum = 20", 'psi.minimum = 20\npsi.protocol = "rr22"')
    start(made, "logistics", stubs)
    end = made.ends("logistics")["logistics"]
    assert end.code == 1
    assert end.err == "feature_holder: run.toml: psi.protocol = rr22 is more than is possible here\n"


@pytest.mark.slow
def test_another_contract_ends_both(federation: Callable[..., Any], stubs: Path) -> None:
    made = federation(("platform", "logistics"))
    made.edit("logistics", "run.toml", "batch = 32", "batch = 64")
    made.start("platform")
    start(made, "logistics", stubs)
    ends = made.ends()
    assert "the contracts differ: training.batch: 32 here, 64 at logistics" in ends["platform"].error
    assert ends["logistics"].code == 1
    assert ends["logistics"].err == "feature_holder: platform has another contract: compare run.toml\n"
