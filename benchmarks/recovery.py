"""What it costs to be able to go on: checkpoints, and frames that are kept until they are acknowledged.

    python benchmarks/recovery.py --batch 1024 --json

The training of `benchmarks/training.py`, 20 epochs of 100 steps, three ways in turn: as `party run` does it
(a checkpoint in 500 steps), without checkpoints, and without those and without acknowledgements: then nothing
that was sent is kept. Figures are medians, over the runs, of ratios within one turn.
"""

import argparse
import json
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path[0] = str(Path(__file__).parents[1])  # benchmarks/psi.py would hide the package psi

from benchmarks.loopback import Job, measure
from benchmarks.training import NAMES, nothing, party
from parties import checkpoints
from parties.wire import Wire
from protos.line import Line
from protos.party_pb2 import Frame
from protos.rounds import Rounds

STEPS = 100
"""An epoch."""


def run_party(index: int, batch: int, epochs: int, folder: str, way: str) -> Rounds[Any]:
    if way == "nothing kept":
        forget_what_is_sent()
    training = party(index, batch, STEPS, epochs)
    if way != "all kept":
        return training
    stamp = checkpoints.Stamp(b"r" * 32, b"c" * 32, NAMES[index])
    return checkpoints.keeping(training, Path(folder) / NAMES[index], stamp, checkpoints.every(STEPS))


def forget_what_is_sent() -> None:
    post = Line.post

    def posted(line: Line, *said: Any) -> Frame:
        frame = post(line, *said)
        line._unacknowledged.clear()
        line.unacknowledged_bytes = 0
        return frame

    Line.post = posted  # type: ignore[method-assign]
    Wire.owe = lambda wire, size: None  # type: ignore[method-assign]


def seconds(batch: int, epochs: int, way: str) -> tuple[float, int]:
    """(of training at the label holder, checkpoints that it left)."""
    with tempfile.TemporaryDirectory() as folder:
        jobs = {
            name: Job(run_party, (i, batch, epochs, folder, way), nothing) for i, name in enumerate(NAMES)
        }
        hub = measure(NAMES[0], jobs)[NAMES[0]]
        return hub.ended - hub.began, len([*Path(folder, NAMES[0]).glob("*.safetensors")])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--batch", type=int, default=1024)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    ratios = []
    for _ in range(given.runs):
        (bare, none), (link, _), (whole, left) = (
            seconds(given.batch, given.epochs, way) for way in ("nothing kept", "no checkpoints", "all kept")
        )
        if none or left != min(checkpoints.KEPT, given.epochs // checkpoints.every(STEPS)):
            raise SystemExit(f"{left} checkpoints were left, and {none} where none was asked for")
        ratios.append((whole / bare, whole / link, link / bare, whole))
    both, kept, acknowledged, took = (statistics.median(column) for column in zip(*ratios, strict=True))
    result = {
        "batch": given.batch,
        "overhead": round(both - 1, 4),
        "checkpoints": round(kept - 1, 4),
        "acknowledgements": round(acknowledged - 1, 4),
        "seconds": round(took, 2),
    }
    print(json.dumps(result) if given.json else "\n".join(f"{k:<20}{v}" for k, v in result.items()))


if __name__ == "__main__":
    main()
