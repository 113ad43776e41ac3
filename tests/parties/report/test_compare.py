"""Two runs side by side, and the command that makes pages."""

import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from parties import process
from tests.parties.report.test_page import Elements

Party = Callable[..., tuple[int, str]]


@pytest.fixture
def party(
    runs: list[dict[str, Path]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Party:
    """`party report ...` of a party, in an empty folder; the exit code, and what was said."""
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    monkeypatch.chdir(tmp_path)

    def call(name: str, *words: str) -> tuple[int, str]:
        config = runs[0][name].parents[2] / "party.toml"
        monkeypatch.setattr(sys, "argv", ["party", "report", "-c", str(config), *words])
        with pytest.raises(SystemExit) as ended:
            process.main()
        captured = capsys.readouterr()
        return int(ended.value.code or 0), captured.out + captured.err

    return call


def run_id(folder: Path) -> str:
    return folder.parent.name.rpartition("-")[2]


@pytest.mark.parametrize(("name", "charts"), [("platform", 6), ("logistics", 0)])
def test_two_runs_on_one_page(
    runs: list[dict[str, Path]], party: Party, tmp_path: Path, name: str, charts: int
) -> None:
    ids = [run_id(run[name]) for run in runs]
    page = tmp_path / f"compare-{ids[0]}-{ids[1]}.html"
    assert party(name, "--compare", *ids) == (0, f"wrote {page.name}\n")
    told = Elements(page.read_text())
    assert f"Runs {ids[0]} and {ids[1]} at {name}" in told.text
    assert "privacy.embedding_sigma" in told.text
    assert "The same columns became features" in told.text
    assert told.tags.count("svg") == charts
    assert ("the federation: AUC" in told.text) == (name == "platform")
    assert "script" not in told.tags


def test_a_run_by_its_id_into_another_file(runs: list[dict[str, Path]], party: Party, tmp_path: Path) -> None:
    assert party("platform", "--run", run_id(runs[1]["platform"]), "--out", "a.html") == (0, "wrote a.html\n")
    assert run_id(runs[1]["platform"]) in (tmp_path / "a.html").read_text()
    assert party("platform")[1] == f"wrote {runs[1]['platform'] / 'report.html'}\n", "the newest"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--run", "abcdef"], "there is none; see `party models list`"),
        (["--run", "abcdef", "--compare", "abcd", "bcde"], "give one of them"),
        (["--compare", "abcd"], "--compare"),
        (["--out", "/dev/null/a.html"], "cannot write"),
    ],
)
def test_wrong_use_is_one_line(party: Party, words: list[str], message: str) -> None:
    code, said = party("platform", *words)
    assert code
    assert len(said.splitlines()) == 1
    assert message in said
