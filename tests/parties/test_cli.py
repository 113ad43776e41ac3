"""The command line: lazy, one line an error, and the exit code of its class."""

import json
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from parties import process
from parties.errors import AlignmentError, ConfigError, PartyError
from protos.rounds import Cancelled, PeerFailed

ROOT = Path(__file__).parents[2]
Party = Callable[..., int]


@pytest.fixture
def party(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Party:
    """Run `party ...` in an empty folder, here in this process; answers the exit code."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(signal, "signal", lambda *_: None)

    def call(*words: str) -> int:
        monkeypatch.setattr(sys, "argv", ["party", *words])
        with pytest.raises(SystemExit) as ended:
            process.main()
        assert isinstance(ended.value.code, int)
        return ended.value.code

    return call


def failing(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    """Let reading the configuration end so."""

    def load(path: Path) -> None:
        raise error

    monkeypatch.setattr("parties.config.load", load)


def test_help_imports_nothing_heavy() -> None:
    """What makes `party --help` answer in a tenth of a second."""
    code = (
        "import sys; sys.argv = ['party', '--help']\n"
        "try:\n    import parties.process; parties.process.main()\nexcept SystemExit: pass\n"
        "heavy = 'torch pandas numpy pyarrow grpc sklearn cryptography "
        "pydantic google Crypto matplotlib jinja2'.split()\n"
        "print([name for name in heavy if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.endswith("\n[]\n")
    for command in ("init", "certs", "check", "run", "demo"):
        assert f"\n  {command} " in result.stdout


def test_no_words_is_help(party: Party, capsys: pytest.CaptureFixture[str]) -> None:
    assert party() == 0
    assert "Usage: party" in capsys.readouterr().out


def test_version(party: Party, capsys: pytest.CaptureFixture[str]) -> None:
    assert party("--version") == 0
    assert re.fullmatch(r"party \d+\.\d+\.\d+\n", capsys.readouterr().out)


@pytest.mark.parametrize(
    "words", [["nope"], ["run", "--nope"], ["init"], ["demo", "--seed", "x"], ["demo", "--people", "3"]]
)
def test_wrong_use_is_one_line(party: Party, capsys: pytest.CaptureFixture[str], words: list[str]) -> None:
    assert party(*words) == 2
    captured = capsys.readouterr()
    command = "party" if words == ["nope"] else f"party {words[0]}"
    assert re.fullmatch(rf"party: .*; see `{command} --help`\n", captured.err)
    assert captured.out == ""


def test_init_and_certs_lead_to_check(
    party: Party, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert party("init", "platform", "--label-holder") == 0
    assert "wrote party.toml\nwrote run.toml\nNext: " in capsys.readouterr().out
    assert party("certs", "platform", "partner") == 0
    tables = capsys.readouterr().out
    assert re.fullmatch(r'(\[parties\.\w+\]\nkey = "sha256:[0-9a-f]{64}"\n\n){2}', tables)
    run = tmp_path / "run.toml"
    [begin, _, end] = re.split(r"(?s)(\[parties\.platform\].*?)(?=\[ids\])", run.read_text())
    run.write_text(begin + tables + end)
    (tmp_path / "platform.csv").write_text("email,converted,age\na@x.org,1,3\nb@x.org,0,4\n")
    monkeypatch.setattr("parties.check.look_at_port", lambda address: None)
    assert party("check") == 0
    assert capsys.readouterr().out.endswith("All is well.\n")
    assert party("check", "--json", "-c", "party.toml") == 0
    assert json.loads(capsys.readouterr().out)["faults"] == []


def test_fingerprint(party: Party, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert party("certs", "platform") == 0
    pin = capsys.readouterr().out.splitlines()[1]
    assert party("certs", "--fingerprint", "certs/platform.pem") == 0
    assert capsys.readouterr().out == f"{pin}\n"
    (tmp_path / "no.pem").write_text("-----BEGIN CERTIFICATE-----\nx\n")
    for file, says in (("gone.pem", "cannot be read"), ("no.pem", "is no certificate")):
        assert party("certs", "--fingerprint", file) == 4
        assert capsys.readouterr().err.startswith(f"party: {file}: {says}")


def test_certs_are_not_overwritten(party: Party, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert party("certs", "platform") == 0
    before = (tmp_path / "certs" / "platform.pem").read_bytes()
    assert party("certs", "platform") == 4
    assert (tmp_path / "certs" / "platform.pem").read_bytes() == before
    assert party("certs", "platform", "--force") == 0
    assert (tmp_path / "certs" / "platform.pem").read_bytes() != before
    capsys.readouterr()
    assert party("certs") == 2
    assert "name the parties" in capsys.readouterr().err


def test_every_config_fault_is_a_line(
    party: Party, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert party("init", "platform") == 0
    capsys.readouterr()
    assert party("check", "--json") == 2
    captured = capsys.readouterr()
    lines = captured.err.splitlines()
    assert lines[0].startswith("party: party.toml: data.file: no such file: ")
    assert len(lines) == 6
    assert all(line.startswith(("party: party.toml: ", "party: run.toml: ")) for line in lines)
    error = json.loads(captured.out)["error"]
    assert error["class"] == "ConfigError"
    assert error["exit_code"] == 2
    assert error["message"].splitlines() == [line.removeprefix("party: ") for line in lines]


@pytest.mark.parametrize(
    ("error", "code", "name"),
    [
        (ConfigError("x is wrong"), 2, "ConfigError"),
        (AlignmentError("x is wrong"), 10, "AlignmentError"),
        (PeerFailed("logistics", "psi", "it died"), 8, "PeerFailed"),
        (Cancelled("interrupted during psi"), 130, "Cancelled"),
        (KeyboardInterrupt(), 130, "Cancelled"),
        (PartyError("of no class of its own"), 1, "PartyError"),
    ],
)
def test_errors(
    party: Party,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    error: BaseException,
    code: int,
    name: str,
) -> None:
    failing(monkeypatch, error)
    assert party("run", "--json") == code
    captured = capsys.readouterr()
    message = str(error) or "interrupted"
    assert captured.err == f"party: {message}\n"
    assert json.loads(captured.out) == {"error": {"class": name, "message": message, "exit_code": code}}
    assert party("run") == code
    assert capsys.readouterr().out == ""


def test_an_unforeseen_error_is_one_line_without_its_text(
    party: Party, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    failing(monkeypatch, ValueError("alice@example.com"))
    assert party("run") == 1
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("party: an unforeseen ValueError: ")
    [trace] = tmp_path.glob("*.trace.txt")
    assert line.endswith(str(trace))
    assert "alice" not in line


def test_run_prints_the_summary(
    party: Party, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    summary = {"run": "00" * 32, "aligned": 3}

    asked = []

    def run_party(config: object, *others: object) -> dict[str, Any]:
        assert config == "the config"
        asked.append(others[-1])
        return summary

    monkeypatch.setattr("parties.config.load", lambda path: "the config")
    monkeypatch.setattr("parties.train.run_party", run_party)
    monkeypatch.setattr("parties.summary.report", lambda summary: f"a page on {summary['aligned']}\n")
    assert party("run", "--json") == 0
    assert json.loads(capsys.readouterr().out) == summary
    assert party("run", "--afresh") == 0
    assert capsys.readouterr().out == "a page on 3\n"
    assert asked == [False, True]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals(number: signal.Signals) -> None:
    """The first is an error like any other; the second ends the process even where the first is ignored."""
    code = (
        "import sys, time, parties.config, parties.process\n"
        "def load(path):\n"
        "    while True:\n"
        "        try:\n"
        "            print('waits', flush=True)\n"
        "            exec('time.sleep(30)')\n"
        "        except KeyboardInterrupt:\n"
        "            if 'stubborn' not in sys.argv[3]: raise\n"
        "parties.config.load = load\n"
        "parties.process.main()\n"
    )
    for path, stubborn in (("party.toml", False), ("stubborn.toml", True)):
        command = [sys.executable, "-c", code, "run", "-c", path]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "waits\n"
            process.send_signal(number)
            if stubborn:
                assert process.stdout.readline() == "waits\n"
                process.send_signal(number)
            _, err = process.communicate(timeout=20)
        assert process.returncode == 130
        assert err == ("" if stubborn else "party: interrupted\n")


LOCKED = """
import gc, threading
from parties import __main__

gc.disable()  # until the end
lock = threading.RLock()
held = threading.Event()

def hold():
    lock.acquire()
    held.set()
    threading.Event().wait()

class Waits:
    def __del__(self):
        with lock:
            pass

threading.Thread(target=hold, daemon=True).start()
held.wait()
cycle = Waits()
cycle.me = cycle
del cycle
__main__.main()
"""


@pytest.mark.parametrize(("words", "code"), [(["--version"], 0), (["nope"], 2)])
def test_a_process_ends_whatever_its_threads_hold(words: list[str], code: int) -> None:
    """As gRPC's may, where an object of gRPC's that is deleted at the end waits for what they hold."""
    done = subprocess.run(
        [sys.executable, "-c", LOCKED, *words], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, bool(done.stdout), bool(done.stderr)) == (code, code == 0, code == 2)


def test_output_that_nobody_reads_is_no_success() -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "parties", "--version"], stdout=full, stderr=subprocess.PIPE, check=False
        )
    assert done.returncode != 0
