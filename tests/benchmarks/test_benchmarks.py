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


def test_recovery() -> None:
    result = line("benchmarks/recovery.py", "--batch", "16", "--epochs", "5", "--runs", "1")
    assert set(result) == {"batch", "overhead", "checkpoints", "acknowledgements", "seconds"}


def test_accuracy() -> None:
    result = line("benchmarks/accuracy.py", "--seeds", "1", "--people", "3000")
    assert result["alignment_exact"] is True
    assert result["weights_equal_pooled"] is True
    assert result["test"] == result["pooled"]


def test_large() -> None:
    result = line("benchmarks/large.py", "--rows", "20000", "--runs", "1")
    assert {"ratio", "peak_rss_mb"} <= set(result)


def test_fallback() -> None:
    result = line("benchmarks/fallback.py", "--seeds", "1", "--people", "3000")
    assert set(result) == {
        "data", "party_dropout", "seeds", "auc", "auc_never_dropped", "absent", "worst"
    }  # fmt: skip


def test_contribution() -> None:
    result = line("benchmarks/contribution.py", "--seeds", "1", "--restarts", "2", "--people", "3000")
    assert set(result) == {
        "data", "seeds", "restarts", "party_dropout", "test_rows", "retrained", "absent", "seconds"
    }  # fmt: skip


def test_predict() -> None:
    result = line("benchmarks/predict.py", "--rows", "2000", "--protocol", "ecdh")
    assert {"rows", "rows_per_second", "peak_rss_mb", "alignment_seconds"} <= set(result)


def test_serving() -> None:
    result = line("benchmarks/serving.py", "--people", "3000", "--seconds", "2")
    assert {"p50_ms", "p99_ms", "requests_per_second", "ids_per_second", "failed"} <= set(result)
    assert result["failed"] == 0


def test_wan() -> None:
    short = ["--rtt-ms", "2", "--people", "8000", "--seeds", "1"]
    result = line("benchmarks/wan.py", *short, "--set", "training.schedule=pipelined", "training.in_flight=1")
    assert result["ratio"] is not None
    assert result["auc"] == result["auc_exact"], "a window of one is exact"
    assert result["steps"] == result["steps_exact"]


def test_wan_says_why_it_skips(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PARTY_DATA", str(tmp_path))
    result = line("benchmarks/wan.py", "--data", "online_shoppers")
    assert str(tmp_path) in str(result["skipped"])


def test_leakage() -> None:
    short = ["--people", "3000", "--seeds", "1", "--epochs", "2", "--defences", "iso"]
    command = [sys.executable, str(ROOT / "benchmarks" / "leakage.py"), "--json", *short]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    results = [json.loads(each) for each in told.splitlines()]
    assert [result["strength"] for result in results] == [0.58, 1.0, 2.5, 4.0]
    for result in results:
        assert {"defence", "norm_leak", "cosine_leak", "test_auc", "seeds"} <= set(result)


def test_audits() -> None:
    short = ["--people", "3000", "--epochs", "1", "--settings", "randtopk 4"]
    command = [sys.executable, str(ROOT / "benchmarks" / "audits.py"), "--json", *short]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    results = [json.loads(each) for each in told.splitlines()]
    assert [result["party"] for result in results] == ["logistics", "advertiser"]
    for result in results:
        assert {"setting", "auc", "baseline", "gain", "numeric_r2", "level_r2", "test_auc"} <= set(result)


def test_embeddings() -> None:
    short = ["--people", "3000", "--seeds", "1", "--epochs", "2", "--choices", "secure-sum", "sigma 4"]
    command = [sys.executable, str(ROOT / "benchmarks" / "embeddings.py"), "--json", *short]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    summed, noised = [json.loads(each) for each in told.splitlines()]
    assert summed["auc_off_sum"] <= 0.002
    assert summed["epsilon"] is None
    assert 0 < noised["epsilon_found"] < noised["epsilon"]
