"""What the federation is worth: test AUC over several seeds, from whole runs of `party demo`.

    python benchmarks/accuracy.py --seeds 5 [--data FOLDER] [--json]

Each seed makes other tables, another split, and (as in production) another initialisation.
"""

import argparse
import json
import statistics
import sys
import tempfile
from pathlib import Path

sys.path[0] = str(Path(__file__).parents[1])  # benchmarks/psi.py would hide the package psi

from parties.demo import demo

NAMES = ("alone", "alone_all_rows", "test", "pooled")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument(
        "--data", type=Path, help="a folder with split.json and its CSV; else made-up companies"
    )
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--people", type=int, default=100_000, help="of the made-up population")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    runs = []
    for seed in range(1, given.seeds + 1):
        with tempfile.TemporaryDirectory() as folder:
            runs.append(demo(Path(folder), given.data, seed, given.people, say=lambda line: None))
        if not given.json:
            print(f"seed {seed}: " + ", ".join(f"{n} {runs[-1]['metrics'][n]['auc']:.4f}" for n in NAMES))
    result: dict[str, object] = {"data": given.data.name if given.data else "generated", "seeds": given.seeds}
    for name in NAMES:
        values = [run["metrics"][name]["auc"] for run in runs]
        result[name] = round(statistics.mean(values), 4)
        result[f"{name}_spread"] = round(statistics.stdev(values), 4) if len(values) > 1 else 0.0
    if given.data is None:
        result["bayes_auc"] = round(statistics.mean(run["bayes_auc"] for run in runs), 4)
    result["alignment_exact"] = all(run["alignment_exact"] for run in runs)
    result["weights_equal_pooled"] = all(run["weights_equal_pooled"] for run in runs)
    result["aligned"] = round(statistics.mean(run["aligned"] for run in runs))
    print(json.dumps(result) if given.json else "\n".join(f"{k:<24}{v}" for k, v in result.items()))


if __name__ == "__main__":
    main()
