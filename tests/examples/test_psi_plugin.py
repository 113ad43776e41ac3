"""The example plug-in: installed beside the program, found by its entry points, and put to the test."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

PLUGIN = Path(__file__).parents[2] / "examples" / "psi_plugin"
WHEEL = "openmined-psi==2.0.6"


def _pip(site: Path, *words: str) -> subprocess.CompletedProcess[str]:
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
    return subprocess.run([*pip, "--target", str(site), *words], capture_output=True, text=True, timeout=300)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that the plug-in is installed into."""
    folder = tmp_path_factory.mktemp("plugin")
    shutil.copytree(PLUGIN, folder / "source", ignore=shutil.ignore_patterns("build", "*.egg-info"))
    done = _pip(folder / "site", "--no-index", "--no-build-isolation", str(folder / "source"))
    if "setuptools" in done.stderr and done.returncode:
        pytest.skip("setuptools, with which the plug-in is built, is not installed here")
    assert done.returncode == 0, done.stderr
    return folder / "site"


@pytest.fixture(scope="module")
def wheel(site: Path) -> None:
    """The wheel that the adapter is for, beside it; --no-deps keeps the protobuf that is here."""
    done = _pip(site, "--retries", "1", "--timeout", "10", WHEEL)
    if done.returncode:
        pytest.skip(f"{WHEEL} cannot be installed here: {done.stderr.strip().splitlines()[-1]}")


def party(site: Path, *words: str) -> tuple[int, Any, str]:
    """Exit code of `party psi ...`, the JSON that it prints, and its errors."""
    done = subprocess.run(
        [sys.executable, "-m", "parties", "psi", *words, "--json"],
        capture_output=True,
        text=True,
        cwd=PLUGIN.parents[1],
        env={**os.environ, "PYTHONPATH": str(site)},
        timeout=300,
    )
    return done.returncode, json.loads(done.stdout), done.stderr


def outcomes(report: Any) -> dict[str, str]:
    return {result["property"]: result["outcome"] for result in report["results"]}


def test_installed_is_found(site: Path) -> None:
    code, listed, _ = party(site, "list")
    assert code == 0
    found = {one["protocol"]: one for one in listed}
    assert {"dh-p256", "openmined", "ecdh"} <= set(found)
    assert found["dh-p256"]["parties"] == "2"
    assert found["dh-p256"]["secure"] is True


@pytest.mark.slow
def test_the_own_protocol_conforms(site: Path) -> None:
    code, report, errors = party(site, "conformance", "dh-p256")
    assert code == 0, errors
    left_out = {name for name, outcome in outcomes(report).items() if outcome != "passed"}
    assert left_out == {"no pairwise", "unmasked values"}  # both ask for three parties


@pytest.mark.usefixtures("wheel")
def test_the_adapter_conforms(site: Path) -> None:
    code, report, errors = party(site, "conformance", "openmined")
    assert code == 0, errors
    assert outcomes(report)["plain intersection"] == "passed"
    assert outcomes(report)["damaged messages"] == "passed"
    assert outcomes(report)["no guessing"] == "does not apply"  # the wheel draws its keys itself


def test_the_adapter_without_the_wheel_says_what_to_install(site: Path) -> None:
    code = "import sys; sys.modules['private_set_intersection'] = None\nimport psi; psi.load('openmined')\n"
    environment = {**os.environ, "PYTHONPATH": str(site)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert "UnknownProtocol: PSI protocol 'openmined' cannot be used here" in done.stderr
    assert done.stderr.rstrip().endswith(f"pip install --no-deps {WHEEL}")
