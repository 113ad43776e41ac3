"""Finished runs as versions: listed, compared, promoted and rolled back, through the command line too."""

import json
import os
import shutil
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parties import process
from parties.config import Config, load
from parties.contract import Contract
from parties.errors import ConfigError, StorageError
from parties.promoted import promote, promoted, promoted_run, rollback
from parties.versions import Version, compare, find, folders, version_digest
from tests.parties import small


@dataclass(frozen=True)
class Companies:
    """Homes of the parties with two finished runs; the second has another learning rate."""

    homes: dict[str, Path]
    runs: list[dict[str, Any]]

    def config(self, name: str = "platform") -> Config:
        return load(self.homes[name] / "party.toml")


@pytest.fixture(scope="module")
def made(
    tmp_path_factory: pytest.TempPathFactory, certificates: Path, identities: dict[str, Any]
) -> Companies:
    root = tmp_path_factory.mktemp("companies")
    homes = small.write(root, certificates, identities)
    runs = [small.run(homes)]
    small.agree(homes, identities, training="{ epochs = 3, batch = 32, learning_rate = 0.02 }")
    runs.append(small.run(homes))
    for home, summary in ((homes[name], runs[0][name]) for name in homes):
        os.utime(small.folder_of(home, summary) / "summary.json", (1e9, 1e9))
    return Companies(homes, runs)


@pytest.fixture
def companies(made: Companies, tmp_path: Path) -> Companies:
    """A copy that a test may spoil."""
    for name, home in made.homes.items():
        shutil.copytree(home, tmp_path / name)
    return Companies({name: tmp_path / name for name in made.homes}, made.runs)


@pytest.fixture
def party(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str]]:
    """`party models ...` in this process; the exit code, and what was said."""
    monkeypatch.setattr(signal, "signal", lambda *_: None)

    def call(home: Path, *words: str) -> tuple[int, str]:
        monkeypatch.chdir(home)
        monkeypatch.setattr(sys, "argv", ["party", "models", *words])
        with pytest.raises(SystemExit) as ended:
            process.main()
        captured = capsys.readouterr()
        return int(ended.value.code or 0), captured.out + captured.err

    return call


def test_versions_are_the_finished_runs(made: Companies) -> None:
    for name in made.homes:
        found = {
            Version.read(folder).run.hex(): Version.read(folder) for folder in folders(made.config(name))
        }
        assert {*found} == {run[name]["run"] for run in made.runs}
        for run in made.runs:
            version = found[run[name]["run"]]
            assert version.summary == run[name]
            assert version.contract.digest.hex() == run[name]["contract"]
            assert version.headline[0] == "auc"
            assert (version.headline[1] is None) == (name == "logistics")


def test_all_parties_have_one_digest_of_a_version(made: Companies) -> None:
    digests = [{find(made.config(name), run[name]["run"]).digest for name in made.homes} for run in made.runs]
    assert all(len(one) == 1 for one in digests)
    assert digests[0] != digests[1]


@given(st.binary(min_size=32, max_size=32), st.binary(min_size=32, max_size=32))
def test_a_digest_is_of_run_and_contract(run: bytes, contract: bytes) -> None:
    digest = version_digest(run, contract)
    assert len(digest) == 32
    assert digest == version_digest(run, contract)
    assert (digest == version_digest(contract, run)) == (run == contract)


def test_an_agreed_contract_is_read_back(contract_of: Callable[..., Contract]) -> None:
    contract = contract_of(
        privacy={"label_defence": "iso", "label_strength": 2.0, "expires": date(2031, 1, 31)},
        ids=[{"types": ["email", "phone"]}, {"type": "string"}],
        codec={"activations": "randtopk", "keep": 4},
        evaluation={"every": 3},
    )
    version = Version(Path(), {}, json.loads(contract.canonical), datetime.now(UTC))
    assert version.contract.canonical == contract.canonical


@pytest.mark.parametrize(
    ("version", "said"),
    [
        ("", "no version; give the first 4 or more hex digits"),
        ("abc", "no version"),
        ("../../x", "no version"),
        ("A" * 8, "no version"),
        ("0" * 65, "no version"),
        ("0" * 64, "there is none; see `party models list`"),
    ],
)
def test_what_is_no_version_is_refused(made: Companies, version: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        find(made.config(), version)


def test_the_beginning_of_a_run_id_is_enough_if_it_is_of_one(companies: Companies) -> None:
    run = companies.runs[0]["platform"]["run"]
    config = companies.config()
    for length in (4, 12, 13, 64):
        assert find(config, run[:length]).run.hex() == run
    with pytest.raises(ConfigError, match="there is none"):
        find(config, run[:13] + ("0" if run[13] != "0" else "1"))
    twin = run[:8] + ("0" if run[8] != "0" else "1") * 56
    _renamed(companies, run, twin)
    with pytest.raises(ConfigError, match="give more digits"):
        find(config, run[:8])
    assert find(config, run[:9]).run.hex() == run


def _renamed(companies: Companies, run: str, twin: str) -> None:
    """Another run that begins alike."""
    runs = companies.homes["platform"] / "runs"
    shutil.copytree(runs / f"small-{run[:12]}", runs / f"small-{twin[:12]}")
    for file in ("summary.json", "agreement.json"):
        path = runs / f"small-{twin[:12]}" / "platform" / file
        path.write_text(path.read_text().replace(run, twin))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda folder: (folder / "agreement.json").unlink(),
        lambda folder: (folder / "summary.json").write_text("{"),
        lambda folder: (folder / "summary.json").write_text("[]"),
        lambda folder: (folder / "summary.json").write_text('{"run": 3}'),
        lambda folder: _edit(folder / "agreement.json", '"seed": 1', '"seed": 2'),
        lambda folder: folder.parent.rename(folder.parents[1] / f"other-{folder.parent.name[-12:]}"),
    ],
)
def test_a_damaged_version_is_told_and_hides_no_other(
    companies: Companies, party: Callable[..., tuple[int, str]], spoil: Callable[[Path], None]
) -> None:
    first, second = (run["platform"]["run"] for run in companies.runs)
    spoil(small.folder_of(companies.homes["platform"], companies.runs[0]["platform"]))
    with pytest.raises(StorageError, match="damaged, or not all there; restore it from a copy, or remove it"):
        find(companies.config(), first)
    assert find(companies.config(), second).run.hex() == second
    code, said = party(companies.homes["platform"], "list")
    assert code == 0
    assert second[:12] in said
    assert "damaged, or not all there" in said


def _edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_compared_are_metrics_importance_contract_and_columns(companies: Companies) -> None:
    a, b = (find(companies.config(), run["platform"]["run"]) for run in companies.runs)
    found = compare(a, b)
    assert found["contract"] == {"training.learning_rate": [0.01, 0.02], "training.epochs": [2, 3]}
    assert found["columns"] == {}
    assert found["metrics"]["test.auc"] == [a.headline[1], b.headline[1]]
    assert "parties.logistics.mean" in found["importance"]
    same = compare(a, a)
    assert not same["contract"]
    assert all(one == other for one, other in same["metrics"].values())
    _edit(a.folder / "pipeline.json", '"name": "pages"', '"name": "urls"')
    assert compare(a, b)["columns"] == {"pages": [None, "bags"], "urls": ["bags", None]}
    (a.folder / "pipeline.json").unlink()
    with pytest.raises(StorageError, match="damaged, or not there"):
        compare(a, b)


def test_the_last_promoted_serves_until_it_is_rolled_back(companies: Companies) -> None:
    config = companies.config()
    one, two = (find(config, run["platform"]["run"]) for run in companies.runs)
    assert promoted_run(config) is None
    with pytest.raises(ConfigError, match="no version of small serves"):
        promoted(config)
    with pytest.raises(ConfigError, match="no version of small served before"):
        rollback(config)
    for version in (one, two, one):
        promote(config, version)
        assert promoted(config).run == promoted_run(config) == version.run
    with pytest.raises(ConfigError, match="serves already"):
        promote(config, one)
    assert [rollback(config).run, rollback(config).run] == [two.run, one.run]
    with pytest.raises(ConfigError, match="served before"):
        rollback(config)
    assert promoted(config).run == one.run
    assert promoted_run(companies.config("logistics")) is None


def test_nothing_is_rolled_back_to_a_version_that_is_gone(companies: Companies) -> None:
    config = companies.config()
    one, two = (find(config, run["platform"]["run"]) for run in companies.runs)
    promote(config, one)
    promote(config, two)
    shutil.rmtree(one.folder)
    with pytest.raises(ConfigError, match="there is none"):
        rollback(config)
    assert promoted(config).run == two.run


@pytest.mark.parametrize(
    "content", ["", "[]", "{", '{"small": 3}', '{"small": [{"version": "00"}]}', '{"small": [3]}']
)
def test_a_damaged_file_of_promotions_is_a_storage_error(companies: Companies, content: str) -> None:
    config = companies.config()
    (config.party.storage / "platform.promoted.json").write_text(content)
    with pytest.raises(StorageError, match="damaged; remove it, and promote"):
        promoted_run(config)


def test_the_commands_say_the_same(companies: Companies, party: Callable[..., tuple[int, str]]) -> None:
    home = companies.homes["platform"]
    one, two = (run["platform"]["run"] for run in companies.runs)
    code, said = party(home, "promote", one[:12])
    assert (code, said.split()[0]) == (0, one[:12])
    assert find(companies.config(), one).digest.hex() in said
    assert party(home, "promote", two[:12])[0] == 0
    code, said = party(home, "list")
    assert [line.split()[0] for line in said.splitlines()] == ["VERSION", two[:12], one[:12]]
    assert [line.endswith("yes") for line in said.splitlines()] == [False, True, False]
    assert party(home, "rollback")[1].startswith(f"{one[:12]} serves as small again")
    listed = json.loads(party(home, "list", "--json")[1])
    assert [entry["promoted"] for entry in listed] == [False, True]
    shown = json.loads(party(home, "show", one[:12], "--json")[1])
    assert shown["summary"] == companies.runs[0]["platform"]
    assert party(home, "show", one[:12])[1].startswith(
        f"version    {one}, serves\ndigest     {shown['digest']}\n"
    )
    compared = json.loads(party(home, "compare", one[:12], two[:12], "--json")[1])
    assert compared["versions"] == [one, two]
    assert "training.epochs" in party(home, "compare", one[:12], two[:12])[1]
    assert party(home, "promote", "ffff")[0] == 2
    assert party(companies.homes["logistics"], "list")[1].count("  -\n") == 2
