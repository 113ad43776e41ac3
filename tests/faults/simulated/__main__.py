"""`make simulate`: whole runs with their files under seeded faults, in virtual time, on all cores.

    make simulate                       10,000 seeds from 1 on
    make simulate SEED=123 SEEDS=1      one, with what went wrong in it

The last line is one JSON document: `seeds`; `right`, where every party has what an undisturbed run leaves;
`typed_errors`, where a party stayed dead and the others ended with a typed error; and what may never be:
`wrong`, `untyped`, `hangs`. A seed that fails tells how to run it again.
"""

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

from psi.cores import available
from tests.faults.simulated.judge import Verdict, verdicts

SHARE = 250
"""Seeds for which a process makes its worlds anew."""


def simulate(first: int, count: int) -> Iterator[tuple[int, Verdict]]:
    cores = available()
    share = min(SHARE, -(-count // cores))
    blocks = [range(at, min(at + share, first + count)) for at in range(first, first + count, share)]
    with ProcessPoolExecutor(cores, get_context("spawn")) as pool:
        for found in pool.map(verdicts, blocks):
            yield from found


def went_wrong(verdict: Verdict) -> Iterator[str]:
    """In which kinds of world, and what: to be counted."""
    plan = verdict.plan
    yield "kills" if plan.faults.kills and plan.faults.restarts else ""
    yield "deaths for good" if plan.faults.kills and not plan.faults.restarts else ""
    yield "cuts" if plan.faults.cuts else ""
    yield "freezes" if plan.faults.freezes else ""
    yield "slowness" if plan.faults.slow > 1 else ""
    yield "lost frames" if plan.faults.drop else ""
    yield "repeated frames" if plan.faults.duplicate else ""
    for what in {happened.partition(": ")[2] for happened in verdict.happened}:
        operation, at, _ = what.partition(" at ")
        yield f"disk: {operation}" if at else "damaged files" if " is " in what else what


def main(args: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults.simulated")
    parser.add_argument("--seeds", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1, help="the first")
    given = parser.parse_args(args)
    began, starts = time.monotonic(), 0
    kinds, worlds, faults = Counter[str](), Counter[str](), Counter[str]()
    alone = given.seeds == 1
    found = verdicts([given.seed]) if alone else simulate(given.seed, given.seeds)
    for number, (seed, verdict) in enumerate(found, 1):
        kinds[verdict.kind] += 1
        starts += verdict.starts
        worlds[verdict.plan.shape] += 1
        faults.update(went_wrong(verdict))
        if not verdict.is_fine:
            print(
                f"seed {seed}: {verdict.kind}: {verdict.why}; again: make simulate SEED={seed} SEEDS=1",
                flush=True,
            )
        if alone:
            print("\n".join([repr(verdict.plan), *verdict.happened, f"seed {seed} is {verdict.kind}"]))
        if number % 1000 == 0:
            print(f"{number:,} seeds, {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
    del faults[""]
    record = {"seeds": given.seeds, "right": kinds["right"], "typed_errors": kinds["typed"]}
    record |= {"wrong": kinds["wrong"], "untyped": kinds["untyped"], "hangs": kinds["hang"]}
    record |= {"starts": starts, "seconds": round(time.monotonic() - began)}
    record |= {"worlds": dict(worlds), "faults": dict(faults)}
    print(json.dumps(record))
    return 1 if record["wrong"] or record["untyped"] or record["hangs"] else 0


if __name__ == "__main__":
    sys.exit(main())
