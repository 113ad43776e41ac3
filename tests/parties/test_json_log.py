"""JSON lines: each one object with time, level and event, whatever happens."""

import json
import subprocess
import sys
import warnings
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from parties import json_log, process
from parties.json_log import JsonLog
from protos.rounds import Progress, Traffic


@pytest.fixture(autouse=True)
def restored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("warnings.showwarning", warnings.showwarning)
    monkeypatch.setattr("threading.excepthook", None)
    monkeypatch.setenv("GRPC_VERBOSITY", "")


def lines(err: str) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in err.splitlines()]
    for one in found:
        assert datetime.fromisoformat(one.pop("time")).tzinfo is not None
        assert one["level"] in ("info", "warning", "error")
    return found


def test_phases_progress_messages_and_peers(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = 100.0
    monkeypatch.setattr("parties.json_log.time.monotonic", lambda: now)
    with JsonLog() as log:
        log.say("calling")
        for step in range(26):
            log(Progress("training", step, 25), Traffic(step, 2 * step))
            now += 1.0
        log.peer("logistics", False)
        log(Progress("importance", 0, 0), Traffic(60, 70))
    found = lines(capsys.readouterr().err)
    assert [one["event"] for one in found] == [
        "message",
        "phase",
        *["progress"] * 2,
        "peer",
        "progress",
        "phase",
        "progress",
    ]
    assert [one["step"] for one in found if one["event"] == "progress"] == [11, 22, 25, 0]
    assert found[0] == {"level": "info", "event": "message", "message": "calling"}
    assert found[4] == {
        "level": "warning",
        "event": "peer",
        "phase": "training",
        "peer": "logistics",
        "connected": False,
    }


def test_a_library_that_warns_is_not_quoted(capsys: pytest.CaptureFixture[str]) -> None:
    with JsonLog():
        json_log._warning("ann@x.org is odd", UserWarning, "lib.py", 3)
    [one] = lines(capsys.readouterr().err)
    assert one == {"level": "warning", "event": "warning", "category": "UserWarning", "at": "lib.py:3"}


@pytest.mark.parametrize("words", [["--log", "json"], ["--log=json"]])
def test_errors_are_lines_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, words: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("signal.signal", lambda *_: None)
    for extra, code in ((words, 2), ([*words, "--nope"], 2)):
        monkeypatch.setattr(sys, "argv", ["party", "run", *extra])
        with pytest.raises(SystemExit) as ended:
            process.main()
        assert ended.value.code == code
        [one] = lines(capsys.readouterr().err)
        assert (one["level"], one["event"], one["exit_code"]) == ("error", "error", 2)


def test_a_thread_that_dies_is_a_line() -> None:
    code = (
        "import threading; from parties.json_log import JsonLog\n"
        "def die(): raise ValueError('ann@x.org')\n"
        "with JsonLog():\n"
        "    one = threading.Thread(target=die, name='worker'); one.start(); one.join()\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert lines(ended.stderr) == [
        {"level": "error", "event": "thread", "thread": "worker", "error": "ValueError"}
    ]
