"""The protocol that docs/psi.md gives to start from: taken from there, and put to the test as it says."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from protos.memory import together
from protos.rounds import Progress, Round

ROOT = Path(__file__).parents[2]


@pytest.fixture
def lab(tmp_path: Path) -> Path:
    """A folder with my_lab.py."""
    section = (ROOT / "docs" / "psi.md").read_text().split("## A protocol of your own")[1]
    blocks = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    (tmp_path / "my_lab.py").write_text(blocks[0])
    return tmp_path


def test_the_documented_protocol_conforms(lab: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "parties", "psi", "conformance", "my_lab:FastPsi", "--json"],
        capture_output=True,
        text=True,
        cwd=lab,
        env={**os.environ, "PYTHONPATH": f"{lab}{os.pathsep}{ROOT}"},
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    outcomes = {result["property"]: result["outcome"] for result in json.loads(done.stdout)["results"]}
    left_out = {name for name, outcome in outcomes.items() if outcome != "passed"}
    assert left_out == {"no pairwise", "unmasked values"}  # both ask for three parties


def test_the_example_tells_how_far_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both passes over the ids, in steps of less than a second, up to the end."""
    import numpy as np

    from psi import Setting

    monkeypatch.syspath_prepend(ROOT / "examples" / "psi_plugin")
    from psi_plugin import dh_p256

    monkeypatch.setattr(dh_p256, "CHUNK", 64)
    told: list[Progress] = []

    def note(party: str, word: Round) -> None:
        if party == "a" and isinstance(word, Progress):
            told.append(word)

    drawn = np.random.default_rng(1).integers(0, 256, (250, 16), np.uint8)
    sets = {"a": drawn[:200], "b": drawn[150:]}
    made = {
        me: dh_p256.DhP256().align(Setting(me, ("a", "b"), b"run", at_most=200), own)
        for me, own in sets.items()
    }
    found = together(made, note).results
    assert len(found["a"]) == 50
    assert [word.done for word in told] == [64, 128, 192, 200, 264, 300]
    assert told[-1].total == 300
