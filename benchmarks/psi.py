"""Private set intersection between processes over mutual TLS: seconds, bytes, memory, exactness.

    python benchmarks/psi.py --protocol ecdh --parties 3 --log2 16 --json

Half of each party's ids are common to all; the time runs from ids in memory to the alignment everywhere.
"""

import argparse
import json
import statistics
import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).parents[1])  # benchmarks/psi.py would hide the package psi

import numpy as np
from numpy.typing import NDArray

import psi
from benchmarks.loopback import Job, measure
from protos.rounds import Rounds


def digests(ids: int, party: int) -> NDArray[np.uint8]:
    """[ids, 16]: the first half the same at every party, in an order of each party's own."""
    common = np.random.default_rng(0).integers(0, 256, (ids // 2, 16), np.uint8)
    own = np.random.default_rng(party + 1)
    rows = np.concatenate((common, own.integers(0, 256, (ids - ids // 2, 16), np.uint8)))
    return own.permutation(rows)


def align(protocol: str, me: int, names: tuple[str, ...], ids: int) -> Rounds[NDArray[np.int64]]:
    setting = psi.Setting(names[me], names, b"benchmark".ljust(32), at_most=ids)
    return psi.load(protocol).align(setting, digests(ids, me))


def exact(alignments: list[NDArray[np.int64]], ids: int) -> bool:
    """The same ids in the same order everywhere, and the plain intersection."""
    rows = [digests(ids, party)[alignment] for party, alignment in enumerate(alignments)]
    plain = {row.tobytes() for row in digests(ids, 0)}
    for party in range(1, len(alignments)):
        plain &= {row.tobytes() for row in digests(ids, party)}
    same = all(np.array_equal(rows[0], other) for other in rows[1:])
    return same and {row.tobytes() for row in rows[0]} == plain and len(rows[0]) == len(plain)


def case(protocol: str, parties: int, ids: int) -> dict[str, object]:
    names = tuple(f"party-{i}" for i in range(parties))
    jobs = {name: Job(align, (protocol, i, names, ids), np.asarray) for i, name in enumerate(names)}
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
    parser.add_argument("--protocol", default="ecdh")
    parser.add_argument("--parties", type=int, default=3)
    parser.add_argument("--log2", type=int, default=16, help="ids a party: 2 to this power")
    parser.add_argument("--runs", type=int, default=1, help="the median by seconds is printed")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    cases = [case(given.protocol, given.parties, 1 << given.log2) for _ in range(given.runs)]
    middle = statistics.median_low(float(str(c["seconds"])) for c in cases)
    result = next(c for c in cases if c["seconds"] == middle)
    print(json.dumps(result) if given.json else "\n".join(f"{k:<14}{v}" for k, v in result.items()))


if __name__ == "__main__":
    main()
