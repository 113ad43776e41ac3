"""`make fuzz`: each decoder fuzzed with coverage as the guide (atheris), one JSON line for each at the end.

python -m tests.fuzz.run [NAME ...]    FUZZ_SECONDS each, FUZZ_JOBS at a time. A finding is kept as a file,
which `python -m tests.fuzz.run NAME FILE` runs again, without atheris.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

SECONDS = int(os.environ.get("FUZZ_SECONDS", "600"))
JOBS = int(os.environ.get("FUZZ_JOBS", "1"))
FINDINGS = Path(os.environ.get("FUZZ_FINDINGS", "fuzz-findings"))

MOST_MEMORY = 4096
"""MiB: 0.4 GB is torch, and the fuzzer itself keeps some 100 bytes of every input; more is a finding."""

LONGEST = 60
"""Seconds: an input that takes more is a finding."""

MACHINE_CODE = ("exconv", "field8", "lanes", "matching", "peeling", "gf128", "ggm", "ristretto8")
"""Modules of psi whose functions numba compiles: their bytecode must stay as it is."""


def child(name: str, corpus: str, findings: str) -> None:
    """One decoder in a process of its own; libFuzzer ends it."""
    import atheris

    with atheris.instrument_imports(
        include=["protos", "psi", "splitnn", "parties", "json"],
        exclude=[f"psi.{module}" for module in MACHINE_CODE],
    ):
        from tests.fuzz.targets import TARGETS

    target = TARGETS[name]()
    for number, data in enumerate(target.corpus):
        (Path(corpus) / f"{number:03}").write_bytes(data)
    longest = max([4096, *map(len, target.corpus)])
    flags = [f"-max_total_time={SECONDS}", f"-max_len={longest}", f"-rss_limit_mb={MOST_MEMORY}"]
    flags += [f"-timeout={LONGEST}", "-print_final_stats=1", f"-artifact_prefix={findings}/{name}-"]
    atheris.Setup([sys.argv[0], *flags, corpus], target.hear)
    atheris.Fuzz()


def fuzz(name: str) -> dict[str, object]:
    FINDINGS.mkdir(exist_ok=True)
    before, start = {*FINDINGS.iterdir()}, time.monotonic()
    with tempfile.TemporaryDirectory() as corpus:
        command = [sys.executable, "-m", "tests.fuzz.run", "--child", name, corpus, str(FINDINGS)]
        ended = subprocess.run(command, capture_output=True, text=True, errors="replace")
        found = {*FINDINGS.iterdir()} - before
        stats = dict(re.findall(r"stat::(\w+):\s+(\d+)", ended.stderr))
        coverage = re.findall(r"cov: (\d+)", ended.stderr)
        crashes = sorted(path.name for path in found if path.name.startswith(f"{name}-"))
        if ended.returncode and not crashes:
            crashes = [f"exit code {ended.returncode}: {ended.stderr[-300:]}"]
        (FINDINGS / f"{name}.log").write_text(ended.stderr[-20_000:])
    return {
        "decoder": name,
        "seconds": round(time.monotonic() - start),
        "executions": int(stats.get("number_of_executed_units", 0)),
        "coverage": int(coverage[-1]) if coverage else 0,
        "crashes": len(crashes),
        "found": crashes,
        "peak_rss_mb": int(stats.get("peak_rss_mb", 0)),
    }


def main(words: list[str]) -> int:
    if words[:1] == ["--child"]:
        child(*words[1:])
        return 0
    from tests.fuzz.targets import TARGETS

    if len(words) == 2 and Path(words[1]).is_file():
        TARGETS[words[0]]().hear(Path(words[1]).read_bytes())
        return 0
    found = 0
    with ThreadPoolExecutor(JOBS) as pool:
        for line in pool.map(fuzz, words or TARGETS):
            print(json.dumps(line), flush=True)
            found += bool(line["crashes"])
    return min(found, 1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
