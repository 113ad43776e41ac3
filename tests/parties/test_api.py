"""`run` as Python code calls it: over the real link, in threads that are not the main one."""

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest
import torch

import parties
from parties import Callback, run, simulate
from parties.api import align, predict
from parties.errors import DataError
from parties.own import pin_of
from parties.result import Result
from protos.rounds import PeerFailed, Progress, Traffic
from splitnn.epoch import Epoch
from tests.parties import small
from tests.ports import free_port

OWN = {
    "platform": {"data": {"bags": {"pages": " "}}},
    "logistics": {"data": {"bags": {"seen": " "}}},
}
CONTRACT = {
    "model": {"cut": 3, "bottom_hidden": [6], "top_hidden": [16]},
    "training": {"epochs": 3, "batch": 32, "learning_rate": 0.01},
    "evaluation": {"importance": "parties"},
}


class Heard(Callback):
    def __init__(self) -> None:
        self.phases: dict[str, None] = {}
        self.epochs: list[Epoch] = []
        self.lines: list[str] = []
        self.peers: list[tuple[str, bool]] = []

    def progress(self, progress: Progress, traffic: Traffic) -> None:
        self.phases[progress.phase] = None

    def epoch(self, epoch: Epoch) -> None:
        self.epochs.append(epoch)

    def say(self, line: str) -> None:
        self.lines.append(line)

    def peer(self, name: str, there: bool) -> None:
        self.peers.append((name, there))


class Raises(Callback):
    def __init__(self, error: BaseException) -> None:
        self.error = error

    def epoch(self, epoch: Epoch) -> None:
        if epoch.epoch == 2:
            raise self.error


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a simulated run with the seed 5 left."""
    folder = tmp_path_factory.mktemp("simulated")
    simulate(small.tables(), "platform", "bought", "k", CONTRACT, OWN, seed=5, folder=folder)
    return folder


@pytest.fixture
def homes(tmp_path: Path, simulated: Path) -> dict[str, Path]:
    """That run's contract, keys, secrets and id, as folders of two parties with real lines, and no data."""
    [summary] = simulated.glob("platform/simulated-*/platform/summary.json")
    found = json.loads(summary.read_text())
    made, port = {}, free_port()
    pins = {name: pin_of(simulated / "certs" / f"{name}.pem") for name in small.NAMES}
    for name in small.NAMES:
        home = made[name] = tmp_path / name
        holds, bags = name == "platform", "pages" if name == "platform" else "seen"
        label = 'label = "bought", ' if holds else ""
        (home / "runs").mkdir(parents=True)
        (home / "party.toml").write_text(
            f'party = "{name}"\ndata = {{ id = "k", {label}bags = {{ {bags} = " " }} }}\n'
            f'tls = {{ ca = "{simulated}/certs/ca.pem", certificate = "{simulated}/certs/{name}.pem", '
            f'key = "{simulated}/certs/{name}.key" }}\n'
            f'link = {{ {"listen" if holds else "hub"} = "localhost:{port}", wait = 60 }}\n'
        )
        (home / "run.toml").write_text(
            'version = 1\nname = "simulated"\nlabel_holder = "platform"\nseed = 5\nids.type = "integer"\n'
            'psi = { protocol = "insecure-hash", allow_insecure = true }\n'
            "model = { cut = 3, bottom_hidden = [6], top_hidden = [16] }\n"
            "training = { epochs = 3, batch = 32, learning_rate = 0.01 }\n"
            'evaluation = { importance = "parties" }\n'
            + "".join(f'[parties.{each}]\nkey = "{pin}"\n' for each, pin in pins.items())
        )
        (home / "runs" / "secret").write_bytes((simulated / name / "secret").read_bytes())
        unfinished = home / "runs" / f"simulated-{found['contract'][:12]}-unfinished" / name
        unfinished.mkdir(parents=True)
        (unfinished / "run.json").write_text(f'{{"run": "{found["run"]}"}}')
    return made


def together(
    homes: dict[str, Path], callbacks: Callable[[str], Sequence[Callback]] = lambda name: ()
) -> dict[str, Future[Result]]:
    tables: dict[str, Any] = small.tables()
    tables["logistics"] = pa.Table.from_pandas(tables["logistics"])
    with ThreadPoolExecutor(len(homes)) as pool:
        return {
            name: pool.submit(run, home / "party.toml", tables[name], callbacks(name))
            for name, home in homes.items()
        }


def test_a_run_from_python_is_a_simulated_one_to_the_bit(
    homes: dict[str, Path], simulated: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    heard = {name: Heard() for name in homes}
    before = signal.getsignal(signal.SIGINT), torch.get_num_threads()
    results = {name: each.result() for name, each in together(homes, lambda name: [heard[name]]).items()}
    assert (signal.getsignal(signal.SIGINT), torch.get_num_threads()) == before
    assert capfd.readouterr() == ("", "")
    for name, result in results.items():
        assert result.folder is not None
        theirs = simulated / name / result.folder.parent.name / name
        for file in ("model.safetensors", "alignment.parquet", "pipeline.json"):
            assert (result.folder / file).read_bytes() == (theirs / file).read_bytes()
        assert (result.party, heard[name].lines[-1]) == (name, f"results in {result.folder}")
        assert [epoch.epoch for epoch in heard[name].epochs] == [1, 2, 3]
        assert {"training", "the end"} <= heard[name].phases.keys()
    scores, folder = results["platform"].scores, results["platform"].folder
    assert scores is not None
    assert folder is not None
    pd.testing.assert_frame_equal(scores, pd.read_parquet(folder / "test_scores.parquet"))
    assert (results["logistics"].scores, results["logistics"].metrics) == (None, {})
    told = [round(epoch.metrics["auc"], 6) for epoch in heard["platform"].epochs]
    assert [entry["auc"] for entry in results["platform"].history] == told
    assert f"test auc {results['platform'].metrics['test']['auc']:.4f}" in repr(results["platform"])
    assert results["platform"]._repr_html_().startswith("<pre>")


class Terminated(BaseException):
    """As a scheduler raises it in a task that it ends."""


@pytest.mark.parametrize(("who", "error"), [("platform", ValueError("mine")), ("logistics", Terminated())])
def test_what_is_raised_ends_the_run_in_good_order(
    homes: dict[str, Path], who: str, error: BaseException
) -> None:
    heard = Heard()
    ends = together(homes, lambda name: [heard, Raises(error)] if name == who else [])
    assert ends[who].exception() is error
    [other] = {*small.NAMES} - {who}
    assert isinstance(ends[other].exception(), PeerFailed)
    assert "it stopped by an error on its side" in str(ends[other].exception())
    assert any(line.startswith("training ended after") for line in heard.lines)
    assert heard.lines[-1].startswith("training up to epoch") or "kept" in heard.lines[-1]
    assert all(end.result().summary["aligned"] == small.PEOPLE for end in together(homes).values())


def test_scores_and_ids_from_python(homes: dict[str, Path]) -> None:
    tables = small.tables()
    tested = together(homes)["platform"].result().scores
    with ThreadPoolExecutor(2) as pool:
        ends = [pool.submit(predict, homes[name] / "party.toml", tables[name]) for name in small.NAMES]
        _, scored = (end.result() for end in ends)
        assert (scored.summary["together"], ends[0].result().scores) == (small.PEOPLE, None)
        assert scored.scores is not None
        assert tested is not None
        by_row = scored.scores.set_index("row")["score"]
        assert by_row[tested["row"]].to_numpy() == pytest.approx(tested["score"].to_numpy(), abs=1e-6)
        ends = [pool.submit(align, homes[name] / "party.toml", tables[name]) for name in small.NAMES]
        one, other = (end.result().ids["id"].tolist() for end in ends)
    assert one == other
    assert sorted(one) == [*range(small.PEOPLE)]


def test_an_interrupt_is_an_interrupt(homes: dict[str, Path]) -> None:
    ends = together(homes, lambda name: [Raises(KeyboardInterrupt())] if name == "platform" else [])
    with pytest.raises(KeyboardInterrupt, match="interrupted during training"):
        ends["platform"].result()
    with pytest.raises(PeerFailed, match="it was interrupted on its side"):
        ends["logistics"].result()


def test_a_table_that_cannot_be_used_leaves_nothing(homes: dict[str, Path]) -> None:
    rows = small.tables()["platform"]
    twice = pd.concat([rows, rows[["x"]]], axis="columns")
    with pytest.raises(DataError, match="'x'"):
        run(homes["platform"] / "party.toml", twice)
    assert not [*homes["platform"].glob("runs/simulated-*/platform/summary.json")]


def test_importing_costs_nothing_before_it_is_used() -> None:
    code = "import sys, parties; sys.exit(any(name in sys.modules for name in ('torch', 'pandas', 'grpc')))"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_only_what_is_offered_is_there() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = parties.nothing
