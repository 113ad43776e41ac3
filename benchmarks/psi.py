"""Private set intersection between processes over mutual TLS: seconds, bytes, memory, exactness.

    python benchmarks/psi.py --protocol rr22 --parties 3 --log2 20 --json

Half of each party's ids are common to all; the time runs from ids in memory to the alignment everywhere.
Each process first aligns a few ids alone, so that code is loaded and compiled before the clocks start; with
--cold it does not, and finds nothing compiled.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
from pathlib import Path

sys.path[0] = str(Path(__file__).parents[1])  # benchmarks/psi.py would hide the package psi

import numpy as np
from numpy.typing import NDArray

import psi
from benchmarks.loopback import Job, measure
from protos.memory import together
from protos.rounds import Rounds
from psi import buckets

WARM_UP = 1 << 13
"""Ids that each process aligns before the clocks start."""


def common(ids: int) -> NDArray[np.uint8]:
    """[ids / 2, 16]: what every party holds."""
    return np.random.default_rng(0).integers(0, 256, (ids // 2, 16), np.uint8)


def digests(ids: int, party: int) -> NDArray[np.uint8]:
    """[ids, 16]: the common half and others, in an order of each party's own."""
    own = np.random.default_rng(party + 1)
    rows = np.concatenate((common(ids), own.integers(0, 256, (ids - ids // 2, 16), np.uint8)))
    return rows[own.permutation(ids)]


def align(
    protocol: str, me: int, names: tuple[str, ...], ids: int, warm_up: bool
) -> Rounds[NDArray[np.int64]]:
    if warm_up:
        together({name: _aligning(protocol, i, names, WARM_UP) for i, name in enumerate(names)})
    return _aligning(protocol, me, names, ids)


def _aligning(protocol: str, me: int, names: tuple[str, ...], ids: int) -> Rounds[NDArray[np.int64]]:
    setting = psi.Setting(names[me], names, b"benchmark".ljust(32), at_most=ids)
    return buckets.align(psi.load(protocol), setting, digests(ids, me), buckets.count(ids))


def exact(alignments: list[NDArray[np.int64]], ids: int) -> bool:
    """The same ids in the same order everywhere, and all that are common."""
    first = digests(ids, 0)[alignments[0]]
    same = all(
        np.array_equal(first, digests(ids, party)[rows]) for party, rows in enumerate(alignments[1:], start=1)
    )
    return same and np.array_equal(_sorted(first), _sorted(common(ids)))


def _sorted(rows: NDArray[np.uint8]) -> NDArray[np.uint8]:
    words = np.ascontiguousarray(rows).view("<u8")
    return rows[np.lexsort((words[:, 0], words[:, 1]))]


def case(protocol: str, parties: int, ids: int, warm_up: bool = True) -> dict[str, object]:
    names = tuple(f"party-{i}" for i in range(parties))
    jobs = {name: Job(align, (protocol, i, names, ids, warm_up), np.asarray) for i, name in enumerate(names)}
    measured = measure(names[0], jobs)
    every = [measured[name] for name in names]
    return {
        "protocol": protocol,
        "parties": parties,
        "ids": ids,
        "seconds": round(max(m.ended for m in every) - min(m.began for m in every), 2),
        "cpu_seconds": round(sum(m.cpu_seconds for m in every), 2),
        "bytes_per_id": round(sum(m.traffic.sent for m in every) / ids, 1),
        "peak_rss_mb": [round(m.peak_rss_mb) for m in every],
        "exact": exact([m.result for m in every], ids),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--protocol", default="rr22")
    parser.add_argument("--parties", type=int, default=3)
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--log2", type=int, default=16, help="ids a party: 2 to this power")
    size.add_argument("--ids", type=int, help="ids a party")
    parser.add_argument("--runs", type=int, default=1, help="the median by seconds is printed")
    parser.add_argument("--cold", action="store_true", help="compile within the time that is measured")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    ids = given.ids or 1 << given.log2
    cases = []
    for _ in range(given.runs):
        with tempfile.TemporaryDirectory() as nothing_compiled:
            if given.cold:
                os.environ["NUMBA_CACHE_DIR"] = nothing_compiled
            cases.append(case(given.protocol, given.parties, ids, warm_up=not given.cold))
    middle = statistics.median_low(float(str(c["seconds"])) for c in cases)
    result = next(c for c in cases if c["seconds"] == middle)
    print(json.dumps(result) if given.json else "\n".join(f"{k:<14}{v}" for k, v in result.items()))


if __name__ == "__main__":
    main()
