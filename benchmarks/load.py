"""What a large table costs its party: memory and seconds to read it and make features of it; `party check`.

    python benchmarks/load.py --rows 10000000           # load and prepare 30 columns of Parquet
    python benchmarks/load.py --check --rows 1000000    # `party check` of 12 columns, CSV and Parquet

Each is measured in a fresh process. Beside the peak of resident memory stands its part that is not mapped
from files: what the kernel cannot take back when others need memory.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

sys.path[0] = str(Path(__file__).parents[1])  # this folder has a psi.py, too

from parties import certs
from parties.own import pin_of

AT_ONCE = 1 << 20
"""Rows that are made at a time."""
LEVELS = np.array([f"level {n}" for n in range(3000)])


def make(folder: Path, rows: int, columns: int, csv: bool = False) -> Path:
    """A label holder's home. Of the columns one is an id, one a label, one in six categories, the rest
    numbers, some of which are skewed, and some have gaps."""
    certs.issue(folder, ["ann", "bob"])
    pins = {name: pin_of(folder / f"{name}.pem") for name in ("ann", "bob")}
    table = folder / ("table.csv" if csv else "table.parquet")
    (folder / "run.toml").write_text(
        'version = 1\nname = "load"\nlabel_holder = "ann"\nseed = 1\nids.type = "email"\n'
        "psi.at_most = 20000000\n"
        + "".join(f'[parties.{name}]\nkey = "{pin}"\n' for name, pin in pins.items())
    )
    (folder / "party.toml").write_text(
        f'party = "ann"\ndata = {{ file = "{table.name}", id = "email", label = "bought" }}\n'
        'tls = { ca = "ca.pem", certificate = "ann.pem", key = "ann.key" }\nlink.listen = "127.0.0.1:47123"\n'
    )
    random, writer = np.random.default_rng(1), None
    for start in range(0, rows, AT_ONCE):
        size = min(AT_ONCE, rows - start)
        cells = {
            "email": pa.array([f"user{n:09}@mail.example" for n in range(start, start + size)]),
            "bought": pa.array(random.integers(0, 2, size)),
        }
        for place in range(columns - 2):
            gaps = random.random(size) < (0.1 if place % 4 == 1 else 0.0)
            if place % 6 == 5:
                levels = LEVELS[(random.pareto(1.0, size) * 3).astype(int).clip(max=len(LEVELS) - 1)]
                cells[f"c{place}"] = pa.array(levels, mask=gaps)
            else:
                numbers = random.normal(size=size)
                cells[f"x{place}"] = pa.array((np.exp(numbers) if place % 3 else numbers).round(4), mask=gaps)
        part = pa.table(cells)
        if writer is None:
            kind = pa.csv.CSVWriter if csv else pq.ParquetWriter
            writer = kind(table, part.schema)
        writer.write_table(part)
    writer.close()
    return folder / "party.toml"


def load(config: str) -> None:
    """In a process of its own: read, fit on 70 % of the rows, make features of all; prints what it took."""
    peak, over = [0], threading.Event()

    def look() -> None:
        while not over.wait(0.02):
            status = Path("/proc/self/status").read_text()
            peak[0] = max(peak[0], int(status.partition("RssAnon:")[2].split()[0]))

    threading.Thread(target=look, daemon=True).start()
    from parties.config import load
    from parties.features import Pipeline
    from parties.own import own_data
    from parties.phases import features_of

    libraries, began = peak[0], time.perf_counter()
    data = own_data(load(config))
    read = time.perf_counter()
    rows = np.random.default_rng(0).permutation(data.table.rows)
    pipeline = Pipeline.fit(data.table, rows[: int(0.7 * len(rows))])
    fitted = time.perf_counter()
    features = features_of(pipeline, data.table, rows)
    done = time.perf_counter()
    over.set()
    print(
        json.dumps(
            {
                "rows": len(features),
                "read_s": round(read - began, 1),
                "fit_s": round(fitted - read, 1),
                "features_s": round(done - fitted, 1),
                "core_s": round(time.process_time(), 1),
                "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
                "peak_not_of_files_mb": peak[0] // 1024,
                "libraries_mb": libraries // 1024,
            }
        )
    )


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    options.add_argument("--rows", type=int, default=1_000_000)
    options.add_argument("--check", action="store_true")
    options.add_argument("--load", help=argparse.SUPPRESS)
    options.add_argument("--folder", type=Path, help="where the files are made for the time; needs space")
    asked = options.parse_args()
    if asked.load:
        load(asked.load)
        return
    for csv in (True, False) if asked.check else (False,):
        with tempfile.TemporaryDirectory(dir=asked.folder) as made:
            config = make(Path(made), asked.rows, 12 if asked.check else 30, csv)
            began = time.perf_counter()
            if asked.check:
                command = [sys.executable, "-m", "parties", "check", "-c", str(config)]
                before = resource.getrusage(resource.RUSAGE_CHILDREN)
                done = subprocess.run(command, capture_output=True, text=True)
                after = resource.getrusage(resource.RUSAGE_CHILDREN)
                cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
                print(f"party check, {asked.rows:,} rows of {'CSV' if csv else 'Parquet'}: ", end="")
                print(f"{time.perf_counter() - began:.1f} s ({cpu:.1f} s of a core), ", end="")
                print(f"exit code {done.returncode}")
                if done.returncode:
                    print(done.stderr)
            else:
                subprocess.run([sys.executable, __file__, "--load", str(config)], check=True)


if __name__ == "__main__":
    main()
