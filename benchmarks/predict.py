"""`party predict` of many rows: three processes over mutual TLS, files, alignment and all.

    python benchmarks/predict.py --json

Three companies with 10 numeric and 2 categorical columns each train on 20,000 users, the default model, then
score --rows new ones that all know. rows_per_second: of the scoring, which begins after the alignment;
whole_rows_per_second: of the command from the meeting to its last file. peak_rss_mb: of the party that takes
most, from its start; alignment_seconds: of the intersection.
"""

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path[0] = str(Path(__file__).parents[1])  # benchmarks/psi.py would hide the package psi

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from parties import certs
from parties.own import pin_of

NAMES = ("platform", "logistics", "advertiser")
LEARNED = 20_000
AT_ONCE = 1 << 18
NUMERIC, CATEGORICAL = 10, 2


def table(party: int, first: int, rows: int, labelled: bool) -> pa.Table:
    """People from the first on."""
    draw = np.random.default_rng((party, first))
    cells: dict[str, Any] = {"id": np.arange(first, first + rows)}
    cells |= {f"n{place}": draw.normal(size=rows).astype(np.float32) for place in range(NUMERIC)}
    levels = np.array([f"level {number}" for number in range(50)])
    cells |= {f"c{place}": levels[draw.integers(0, 50, rows)] for place in range(CATEGORICAL)}
    if labelled:
        cells["label"] = (cells["n0"] + draw.normal(size=rows) > 0).astype(np.int64)
    return pa.table(cells)


def write(file: Path, party: int, first: int, rows: int, labelled: bool) -> None:
    writer = None
    for at in range(first, first + rows, AT_ONCE):
        part = table(party, at, min(AT_ONCE, first + rows - at), labelled)
        writer = writer or pq.ParquetWriter(file, part.schema)
        writer.write_table(part)
    assert writer is not None
    writer.close()


def homes(root: Path, rows: int, protocol: str) -> dict[str, Path]:
    certs.issue(root / "certs", NAMES)
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    contract = (
        f'version = 1\nname = "benchmark"\nlabel_holder = "{NAMES[0]}"\nseed = 1\nids.type = "integer"\n'
        f'psi = {{ protocol = "{protocol}", at_most = {max(rows, LEARNED, 1_000_000)} }}\n'
        'training = { epochs = 1 }\nevaluation.importance = "none"\n'
    )
    for name in NAMES:
        contract += f'[parties.{name}]\nkey = "{pin_of(root / "certs" / f"{name}.pem")}"\n'
    found, label = {}, ', label = "label"'
    for party, name in enumerate(NAMES):
        holds = party == 0
        found[name] = root / name
        found[name].mkdir()
        write(found[name] / "train.parquet", party, 0, LEARNED, holds)
        write(found[name] / "new.parquet", party, 10**9, rows, False)
        (found[name] / "run.toml").write_text(contract)
        tls = f'ca = "{root}/certs/ca.pem", certificate = "{root}/certs/{name}.pem"'
        (found[name] / "party.toml").write_text(
            f'party = "{name}"\ndata = {{ file = "train.parquet", id = "id"{label if holds else ""} }}\n'
            f'tls = {{ {tls}, key = "{root}/certs/{name}.key" }}\n'
            f'link = {{ {"listen" if holds else "hub"} = "{address}" }}\n'
        )
    return found


def start(homes: dict[str, Path], *command: str) -> dict[str, tuple[dict[str, Any], float]]:
    """What each party's command prints, and its peak memory in MB."""
    processes = {}
    for name, home in homes.items():
        with (home / "out").open("wb") as out, (home / "err").open("wb") as err:
            program = [sys.executable, "-m", "parties", *command, "--json"]
            processes[name] = subprocess.Popen(program, cwd=home, stdout=out, stderr=err)
    found = {}
    for name, process in processes.items():
        _, status, used = os.wait4(process.pid, 0)
        if status:
            sys.exit(f"{name}: {(homes[name] / 'err').read_text()}")
        found[name] = json.loads((homes[name] / "out").read_text()), used.ru_maxrss / 1024
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--protocol", default="rr22", help="of the alignment")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        made = homes(Path(folder), given.rows, given.protocol)
        start(made, "run")
        found = start(made, "predict", "--ids", "new.parquet")
    summary, _ = found[NAMES[0]]
    assert summary["together"] == given.rows
    result = {
        "rows": given.rows,
        "rows_per_second": summary["scoring"]["rows_per_second"],
        "whole_rows_per_second": round(given.rows / summary["seconds"], 1),
        "alignment_seconds": summary["psi"]["seconds"],
        "peak_rss_mb": round(max(peak for _, peak in found.values()), 1),
        "megabytes_received": round(summary["scoring"]["bytes_received"] / 1e6, 1),
    }
    print(json.dumps(result) if given.json else "\n".join(f"{k:<28}{v}" for k, v in result.items()))


if __name__ == "__main__":
    main()
