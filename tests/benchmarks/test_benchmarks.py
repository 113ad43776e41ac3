"""The benchmarks run and print their documented keys; how fast is not asked here."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.slow


def line(*command: str) -> dict[str, object]:
    done = subprocess.run(
        [sys.executable, *command, "--json"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    return dict(json.loads(done.stdout))


def test_psi() -> None:
    result = line("benchmarks/psi.py", "--log2", "8")
    keys = {"protocol", "parties", "ids", "seconds", "cpu_seconds", "bytes_per_id", "peak_rss_mb", "exact"}
    assert set(result) == keys
    assert result["exact"] is True


def test_training() -> None:
    result = line("benchmarks/training.py", "--batch", "64", "--steps", "5", "--runs", "1")
    assert set(result) == {"batch", "ratio", "step_ms", "reference_step_ms", "bytes_ratio"}


def test_accuracy() -> None:
    result = line("benchmarks/accuracy.py", "--seeds", "1", "--people", "3000")
    assert result["alignment_exact"] is True
    assert result["weights_equal_pooled"] is True
    assert result["test"] == result["pooled"]
