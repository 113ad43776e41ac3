"""An unforeseen error leaves its trace, and nothing of the data."""

import re
import stat
from pathlib import Path

import pytest

from parties.crash import report

ID = "alice@" + "example.com"


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))


def failed() -> Exception:
    try:
        try:
            int(ID)
        except ValueError as error:
            raise KeyError(ID) from error
    except KeyError as error:
        return error
    raise AssertionError


def test_trace_without_the_texts_of_the_errors(tmp_path: Path) -> None:
    line = report(failed())
    [trace] = tmp_path.iterdir()
    assert line == (
        f"an unforeseen KeyError: this is a fault of the program; please report it, its trace is in {trace}"
    )
    written = trace.read_text()
    assert re.search(r"builtins\.KeyError\n.*test_crash\.py", written)
    assert "builtins.ValueError" in written
    assert ID not in written
    assert stat.S_IMODE(trace.stat().st_mode) == 0o600


def test_no_room_for_the_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", "/nowhere")
    assert report(failed()).endswith("and its trace could not be written")
