"""Online scores of three processes over mutual TLS on this machine, the model of the demo.

    python benchmarks/serving.py --json

The demo's companies with `model.party_dropout`, aligned and trained for two epochs in this process; then
`party serve` at each. Three loads, one after another: single ids, evenly 100 a second, the cache off (each
asks both partners); batches of 256 as fast as two callers can; and single ids while a partner is killed and
started anew. Latencies are of the calls as the application sees them.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

sys.path[0] = str(Path(__file__).parents[1])  # benchmarks/psi.py would hide the package psi

import grpc
import numpy as np
import pandas as pd
import torch

from parties import certs, demo
from parties.certificate import key_fingerprint
from parties.config import load
from parties.demo_data import generate
from parties.phases import prepare
from parties.train import complete_run
from parties.unfinished import Unfinished
from protos.memory import together
from protos.serving_pb2 import Id, ScoreRequest, ScoreResponse

HUB = "platform"
BATCH = 256


def companies(folder: Path, people: int) -> list[str]:
    """Trained, with what they need to serve; the first is the label holder. Returns ids of common users."""
    made = generate(folder, 7, people, HUB)
    demo._configure(folder, made, 7)
    certs.issue(folder / "shop", ["shop"])
    pin = key_fingerprint((folder / "shop" / "shop.pem").read_bytes())
    partners, applications = (f"127.0.0.1:{demo_port()}" for _ in range(2))
    names = [party.name for party in made.parties]
    for name in names:
        run = folder / name / "run.toml"
        run.write_text(
            run.read_text() + '\n[psi]\nprotocol = "insecure-hash"\nallow_insecure = true\n'
            "\n[model]\nparty_dropout = 0.1\n\n[training]\nepochs = 2\n"
        )
        keys = f'hub = "{partners}"\nids_per_second = 1e6\n'
        if name == HUB:
            keys = (
                f'listen = "{partners}"\napplications = "{applications}"\nclients = ["{pin}"]\n'
                f'client_ca = "{folder}/shop/ca.pem"\ncache_seconds = 0\nids_per_second = 1e6\n'
            )
        with (folder / name / "party.toml").open("a") as file:
            file.write(f"\n[serve]\n{keys}")
    torch.set_num_threads(1)
    configs = {name: load(folder / name / "party.toml") for name in names}
    together({name: complete_run(prepare(one), Unfinished.of(one, {})) for name, one in configs.items()})
    (folder / "address").write_text(applications)
    (alignment,) = (folder / HUB / "runs").glob(f"*/{HUB}/alignment.parquet")
    ids: list[str] = pd.read_parquet(alignment).iloc[:, 1].astype(str).tolist()
    return ids


def demo_port() -> int:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
        return port


def start(folder: Path, name: str) -> "subprocess.Popen[bytes]":
    log = (folder / name / "serve.log").open("ab")
    program = [sys.executable, "-m", "parties", "serve", "--log", "json"]
    here = str(Path(__file__).parents[1])
    return subprocess.Popen(
        program, cwd=folder / name, stdout=log, stderr=log, env=os.environ | {"PYTHONPATH": here}
    )


@contextmanager
def caller(folder: Path) -> Iterator[Any]:
    _, key, certificate = [
        (folder / "shop" / name).read_bytes() for name in ("ca.pem", "shop.key", "shop.pem")
    ]
    ca = (folder / HUB / "ca.pem").read_bytes()
    credentials = grpc.ssl_channel_credentials(ca, key, certificate)
    options = [("grpc.ssl_target_name_override", HUB), ("grpc.use_local_subchannel_pool", 1)]
    with grpc.secure_channel((folder / "address").read_text(), credentials, options) as channel:
        call = channel.unary_unary(
            "/vertical.serving.v1.Scoring/Score", ScoreRequest.SerializeToString, ScoreResponse.FromString
        )
        yield lambda ids: call(ScoreRequest(ids=[Id(parts=[one]) for one in ids]), timeout=1.0)


def whole(response: ScoreResponse) -> bool:
    """Did all three take part, of every id?"""
    return all(len(response.took_part[one.took_part].parties) == 3 for one in response.scored)


def wait_for_all(call: Any, ids: list[str], within: float = 120.0) -> float:
    began = time.monotonic()
    while time.monotonic() - began < within:
        try:
            if whole(call(ids[:1])):
                return time.monotonic() - began
        except grpc.RpcError:
            pass
        time.sleep(0.05)
    raise SystemExit("the companies never served together; see their serve.log")


class Load:
    """Latencies in seconds of the calls that were answered, and what became of the others."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.failed = self.fallback = 0

    def one(self, call: Any, ids: list[str]) -> None:
        began = time.perf_counter()
        try:
            response = call(ids)
        except grpc.RpcError:
            self.failed += 1
            return
        self.seconds.append(time.perf_counter() - began)
        self.fallback += not whole(response)

    def steady(self, call: Any, ids: list[str], rate: float, seconds: float) -> None:
        """Evenly, by two threads in turn, so that a slow answer does not put off the next question."""
        draw, began = np.random.default_rng(1), time.perf_counter()
        wanted = [ids[i] for i in draw.integers(0, len(ids), int(rate * seconds))]

        def every_other(first: int) -> None:
            for place in range(first, len(wanted), 2):
                time.sleep(max(0.0, began + place / rate - time.perf_counter()))
                self.one(call, [wanted[place]])

        self._both(every_other)

    def flat_out(self, call: Any, ids: list[str], seconds: float) -> float:
        """Batches; ids a second."""
        began = time.perf_counter()

        def go(seed: int) -> None:
            draw = np.random.default_rng(seed)
            while time.perf_counter() < began + seconds:
                self.one(call, [ids[i] for i in draw.choice(len(ids), BATCH, replace=False)])

        self._both(go)
        return len(self.seconds) * BATCH / (time.perf_counter() - began)

    @staticmethod
    def _both(work: Any) -> None:
        threads = [threading.Thread(target=work, args=(place,)) for place in range(2)]
        for one in threads:
            one.start()
        for one in threads:
            one.join()

    def percentile(self, of: float) -> float:
        return round(float(np.percentile(self.seconds, of)) * 1000, 3) if self.seconds else float("nan")


def measure(people: int, rate: float, seconds: float) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as root:
        folder = Path(root)
        ids = companies(folder, people)
        names = [
            HUB,
            *sorted({one.name for one in folder.iterdir() if (one / "party.toml").exists()} - {HUB}),
        ]
        processes = {name: start(folder, name) for name in names}
        try:
            with caller(folder) as call:
                wait_for_all(call, ids)
                Load().steady(call, ids, rate, 1.0)  # warm
                single, batches, killed = Load(), Load(), Load()
                single.steady(call, ids, rate, seconds)
                a_second = batches.flat_out(call, ids, seconds)
                victim = names[1]

                def kill() -> None:
                    time.sleep(seconds / 4)
                    os.kill(processes[victim].pid, signal.SIGKILL)
                    processes[victim].wait()
                    time.sleep(seconds / 4)
                    processes[victim] = start(folder, victim)

                killer = threading.Thread(target=kill)
                killer.start()
                killed.steady(call, ids, rate, seconds)
                killer.join()
                recovered = wait_for_all(call, ids)
        finally:
            for one in processes.values():
                one.terminate()
            for one in processes.values():
                one.wait(20)
    loads = (single, batches, killed)
    return {
        "p50_ms": single.percentile(50),
        "p99_ms": single.percentile(99),
        "requests_per_second": rate,
        "ids_per_second": round(a_second),
        "batch_p50_ms": batches.percentile(50),
        "batch_p99_ms": batches.percentile(99),
        "failed": sum(one.failed for one in loads),
        "fallback": single.fallback + batches.fallback,
        "killed_fallback": killed.fallback,
        "killed_p99_ms": killed.percentile(99),
        "killed_max_ms": killed.percentile(100),
        "recovered_after_s": round(recovered, 2),
    }


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    arguments.add_argument("--people", type=int, default=20_000)
    arguments.add_argument("--rate", type=float, default=100.0, help="single ids a second")
    arguments.add_argument("--seconds", type=float, default=10.0, help="of each load")
    arguments.add_argument("--json", action="store_true", help="one JSON line")
    given = arguments.parse_args()
    found = measure(given.people, given.rate, given.seconds)
    print(json.dumps(found) if given.json else "\n".join(f"{key}: {value}" for key, value in found.items()))


if __name__ == "__main__":
    main()
