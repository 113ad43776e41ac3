"""`make faults`: faults at random points of real runs over mutual TLS, compared with an uninterrupted run.

    python -m tests.faults.real --seed 1 --points 200

Its last line is one JSON document. points: faults that hit. bit_identical: of runs that went on by
themselves and ended with the oracle's weights and alignment, bit by bit. typed_errors: faults longer than the
budget; all that waited ended in time by a typed error that names the peer, and started again, came to the
oracle's weights. hangs, wrong: all else; the points of a run that ended so count there, all of them.
The same seed draws the same points.
"""

import argparse
import json
import shutil
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path

from tests.faults.real.faulted import Faulted, Verdict
from tests.faults.real.homes import AWAY, SHAPES, copied, prepare
from tests.faults.real.points import Plan, draw


def oracle(folder: Path, shape: str) -> dict[str, str]:
    """What an uninterrupted run from the prepared homes leaves."""
    with copied(folder / shape, folder / f"{shape}-oracle", SHAPES[shape]) as made:
        made.start()
        for name in made.names:
            made.processes[name].join(300)
            if made.code(name) != 0:
                raise SystemExit(f"the uninterrupted run failed: {name}: {made.last_line(name)}")
        return made.results()


def show(number: int, plan: Plan, verdict: Verdict) -> None:
    points = [
        f"{point.kind}{' beyond the budget' * point.outlasting} of {point.victim} at {at}"
        for point, at in verdict.hit
    ]
    print(f"{number:3} {plan.shape:<10} {verdict.kind:<14} {verdict.seconds:5.0f} s  {'; '.join(points)}")
    if verdict.why:
        print(f"    {verdict.why}")
    sys.stdout.flush()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--points", type=int, default=200)
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=[*SHAPES])
    parser.add_argument("--jobs", type=int, default=2, help="runs at the same time")
    parser.add_argument("--keep", type=Path, help="a folder for the homes of runs that did not end well")
    given = parser.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        oracles = {}
        for shape in given.shapes:
            prepare(folder / shape, SHAPES[shape])
            oracles[shape] = oracle(folder, shape)
        print(f"oracles of {', '.join(oracles)} after {time.monotonic() - began:.0f} s", flush=True)
        numbers = count(1)

        def run(plan: Plan) -> Verdict:
            number = next(numbers)
            home = folder / f"{plan.shape}-{number}"
            with copied(folder / plan.shape, home, SHAPES[plan.shape]) as made:
                verdict = Faulted(made, oracles[plan.shape]).run(plan.points)
            if verdict.why and given.keep is not None:
                shutil.copytree(home, given.keep / home.name)
            shutil.rmtree(home)
            show(number, plan, verdict)
            return verdict

        shapes = {name: SHAPES[name].names for name in given.shapes}
        with ThreadPoolExecutor(given.jobs) as pool:
            total, seed = Counter[str](), given.seed
            while total["points"] < given.points:  # some moments never come: then more are drawn
                for verdict in pool.map(run, draw(seed, given.points - total["points"], shapes, AWAY)):
                    total.update(tally(verdict))
                seed += 1_000_003
    keys = ("points", "bit_identical", "typed_errors", "hangs", "wrong")
    seconds = round(time.monotonic() - began)
    print(json.dumps({key: total[key] for key in keys} | {"seed": given.seed, "seconds": seconds}))
    sys.exit(1 if total["hangs"] or total["wrong"] else 0)


def tally(verdict: Verdict) -> dict[str, int]:
    points = len(verdict.hit)
    if verdict.kind != "bit_identical":
        return {"points": points, verdict.kind: max(points, 1)}
    outlasted = verdict.outlasted
    return {"points": points, "bit_identical": points - outlasted, "typed_errors": outlasted}


if __name__ == "__main__":
    main()
