"""Parties as separate processes on this machine, over the real link with mutual TLS, for the benchmarks."""

import multiprocessing
import os
import resource
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.emulated_line import EmulatedLine, Line
from parties import certs
from parties.certificate import key_fingerprint
from parties.dial import Spoke
from parties.hub import Hub
from protos.rounds import Progress, Rounds, Traffic


@dataclass(frozen=True)
class Measured:
    """One party's run. began, ended: monotonic seconds, one clock for all processes of a machine.
    steps: when each Progress came. result: what `conclude` made of the protocol's result.
    """

    began: float
    ended: float
    cpu_seconds: float
    peak_rss_mb: float
    traffic: Traffic
    steps: list[float]
    result: Any


@dataclass(frozen=True)
class Job:
    """Picklable: `start(*arguments)` makes the party's rounds, `conclude` what is kept of their result."""

    start: Callable[..., Rounds[Any]]
    arguments: tuple[Any, ...]
    conclude: Callable[[Any], Any]


def measure(hub: str, jobs: Mapping[str, Job], line: Line | None = None) -> dict[str, Measured]:
    """Run every party in a process of its own; the clocks start when all are connected and ready.

    line: what lies between the hub and each other party; None: loopback itself.
    """
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder, ExitStack() as lines:
        certs.issue(Path(folder), list(jobs), host="localhost")
        port, barrier = context.Value("i", 0), context.Barrier(len(jobs))
        dialled = port if line is None else context.Value("i", 0)
        results = context.SimpleQueue()
        processes = [
            context.Process(
                target=_party, args=(name, hub, list(jobs), folder, port, dialled, barrier, job, results)
            )
            for name, job in jobs.items()
        ]
        for process in processes:
            process.start()
        if line is not None:
            dialled.value = lines.enter_context(EmulatedLine(_known(port), line)).port
        measured = dict(results.get() for _ in processes)
        for process in processes:
            process.join()
    return measured


def _party(
    name: str,
    hub: str,
    names: list[str],
    folder: str,
    port: Any,
    dialled: Any,
    barrier: Any,
    job: Job,
    results: Any,
) -> None:
    at = Path(folder)
    identity = certs.load(at / "ca.pem", at / f"{name}.pem", at / f"{name}.key", name)
    others = [other for other in names if other not in (name, hub)]
    link: Hub | Spoke
    if name == hub:
        pins = {other: key_fingerprint((at / f"{other}.pem").read_bytes()) for other in others}
        link = Hub(identity, "127.0.0.1:0", pins)
        link.open()
        port.value = link.port
        link.wait_for_peers(60)
    else:
        link = Spoke(identity, hub, f"127.0.0.1:{_known(dialled)}", others)
        link.open(60)
    steps: list[float] = []

    def note(progress: Progress, traffic: Traffic) -> None:
        steps.append(time.monotonic())

    with link:
        rounds = job.start(*job.arguments)
        barrier.wait()
        began, cpu = time.monotonic(), time.process_time()
        result = link.drive(rounds, on_progress=note)
        ended, cpu = time.monotonic(), time.process_time() - cpu
    rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    results.put((name, Measured(began, ended, cpu, rss, link.traffic, steps, job.conclude(result))))
    os._exit(0)  # as parties.__main__ does


def _known(port: Any) -> int:
    while port.value == 0:
        time.sleep(0.01)
    return int(port.value)
