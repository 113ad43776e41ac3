"""What partners install: the content of the wheel, and a run of it from a clean environment elsewhere."""

import json
import os
import subprocess
import sys
import time
import zipfile
from collections.abc import Mapping
from email.parser import Parser
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = ("parties", "protos", "psi", "splitnn")
OFFLINE = ("No matching distribution found", "Could not find a version", "Connection", "Could not fetch")

pytestmark = pytest.mark.slow


def pip_or_skip(*command: str | Path, cwd: Path, env: Mapping[str, str]) -> None:
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True)
    said = done.stdout + done.stderr
    if done.returncode and any(word in said for word in OFFLINE):
        pytest.skip(f"no package registry from here: {said.strip().splitlines()[-1]}")
    assert done.returncode == 0, said


@pytest.fixture(scope="module")
def outside() -> dict[str, str]:
    """The environment of a process that does not know this checkout."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory, outside: dict[str, str]) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    pip_or_skip(sys.executable, "-m", "build", "--outdir", folder, ROOT, cwd=folder, env=outside)
    [found] = folder.glob("*.whl")
    return found


def test_it_holds_the_four_packages_whole_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        [info] = {name.partition("/")[0] for name in names if ".dist-info/" in name}
        said = Parser().parsestr(archive.read(f"{info}/METADATA").decode())
        scripts = archive.read(f"{info}/entry_points.txt").decode()
    files = (path for room in ROOMS for path in (ROOT / room).rglob("*"))
    ours = {
        str(path.relative_to(ROOT)) for path in files if path.is_file() and path.parent.name != "__pycache__"
    }
    assert {name for name in names if not name.startswith(f"{info}/")} == ours
    assert {f"{room}/py.typed" for room in ROOMS} <= ours
    assert "[console_scripts]\nparty = parties.__main__:main" in scripts
    assert said["License-Expression"] == "Apache-2.0"
    assert f"{info}/licenses/LICENSE" in names
    assert said["Requires-Python"] == ">=3.11"
    assert said.get_payload().startswith("# Vertical federated learning between companies")
    assert {"sql", "export"} <= {*said.get_all("Provides-Extra", [])}


def test_it_runs_from_a_clean_environment(
    wheel: Path, outside: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    python, party = tmp_path / "venv/bin/python", tmp_path / "venv/bin/party"
    install = [python, "-m", "pip", "install", "-q", "-c", ROOT / "constraints.txt", "torch==2.13.0", wheel]
    pip_or_skip(*install, cwd=tmp_path, env=outside)

    subprocess.run([party, "--help"], cwd=tmp_path, env=outside, capture_output=True, check=True)
    began = time.monotonic()
    subprocess.run([party, "--help"], cwd=tmp_path, env=outside, capture_output=True, check=True)
    with capsys.disabled():
        print(f"\nparty --help of the installed wheel: {time.monotonic() - began:.2f} s")

    demo = [party, "demo", "--people", "2000", "--json"]
    done = subprocess.run(demo, cwd=tmp_path, env=outside, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    assert summary["weights_equal_pooled"] is True
    assert summary["alignment_exact"] is True
