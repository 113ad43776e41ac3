"""examples/deploy: units that systemd understands, commands that exist, an image without rights or keys."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from parties.errors import EXIT_CODES

DEPLOY = Path(__file__).parents[2] / "examples" / "deploy"
UNITS = sorted([*DEPLOY.glob("*.service"), *DEPLOY.glob("*.timer")])


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd here")
def test_systemd_has_no_complaint(tmp_path: Path) -> None:
    for unit in UNITS:
        (tmp_path / unit.name).write_text(unit.read_text().replace("/opt/party/bin/party", "/bin/true"))
    verify = ["systemd-analyze", "verify", "--man=no", *map(str, tmp_path.iterdir())]
    done = subprocess.run(verify, capture_output=True, text=True)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@pytest.mark.parametrize("name", ["party-train", "party-serve"])
def test_what_the_units_start_exists_and_what_stops_them_is_an_exit_code(name: str) -> None:
    unit = (DEPLOY / f"{name}.service").read_text()
    [(command, rest)] = re.findall(
        r"^ExecStart=/opt/party/bin/party (\w+) -c /etc/party/party.toml (.*)$", unit, re.M
    )
    shown = subprocess.run(
        [sys.executable, "-m", "parties", command, "--help"], capture_output=True, text=True, check=True
    ).stdout
    assert rest == "--log json"
    assert "--log" in shown
    [kept] = re.findall(r"^RestartPreventExitStatus=(.*)$", unit, re.M)
    codes = {code for _, code, _ in EXIT_CODES}
    assert {int(code) for code in kept.split()} < codes
    assert codes - {int(code) for code in kept.split()} == {6, 7, 8, 11, 13, 14, 70, 130}


def test_both_services_are_hardened_alike() -> None:
    train, serve = ((DEPLOY / f"party-{name}.service").read_text() for name in ("train", "serve"))
    hardening = [
        text.partition("TimeoutStopSec=")[2].partition("[Install]")[0].strip() for text in (train, serve)
    ]
    assert hardening[0] == hardening[1]
    assert {"NoNewPrivileges=yes", "ProtectSystem=strict", "User=party"} <= set(hardening[0].splitlines())


def test_the_image_holds_no_more_than_the_wheel_and_runs_without_rights() -> None:
    lines = (DEPLOY / "Containerfile").read_text().splitlines()
    assert not [line for line in lines if line.startswith(("COPY", "ADD"))]
    [user] = [line for line in lines if line.startswith("USER")]
    assert user == "USER 10001:10001"
    assert lines.index(user) < next(at for at, line in enumerate(lines) if line.startswith("ENTRYPOINT"))
    ignored = (DEPLOY / "Containerfile.dockerignore").read_text().splitlines()
    assert [line for line in ignored if not line.startswith("#")] == ["*", "!dist/*.whl", "!constraints.txt"]
