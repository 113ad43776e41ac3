"""Real processes as a service manager sees them: JSON lines, status, metrics, health, a graceful end."""

import json
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from parties.hub import SERVICE
from tests.ports import free_port

Federate = Callable[..., Any]

pytestmark = pytest.mark.slow

SERVING, NOT_SERVING = (
    health_pb2.HealthCheckResponse.ServingStatus.Value(name) for name in ("SERVING", "NOT_SERVING")
)


def lines(made: Any, name: str) -> list[dict[str, Any]]:
    """Each line on stderr is an object with time, level and event."""
    found = [json.loads(line) for line in made.stderr(name).splitlines()]
    assert all({"time", "level", "event"} <= one.keys() for one in found)
    return found


def status(made: Any, name: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "parties", "status", "--json"]
    ended = subprocess.run(command, cwd=made.home(name), capture_output=True, text=True, check=True)
    return dict(json.loads(ended.stdout))


def trains(made: Any, name: str) -> dict[str, Any]:
    """Its status, once it says that it trains."""
    deadline = time.monotonic() + 60
    while (found := status(made, name)).get("phase") != "training" or not found["step"]:
        assert time.monotonic() < deadline, found
        assert made.processes[name].poll() is None, made.stderr(name)
    return found


def test_a_service_and_its_graceful_end(federation: Federate) -> None:
    made = federation()
    made.agree("epochs = 200, patience = 3", "epochs = 100000, patience = 100000")
    metrics = f"127.0.0.1:{free_port()}"
    made.edit("platform", "party.toml", "[link]\n", f'[metrics]\nlisten = "{metrics}"\n\n[link]\n')
    made.start(command=["run", "--json", "--log", "json"])

    hub, spoke = (trains(made, name) for name in ("platform", "logistics"))
    assert (hub["state"], hub["pid"]) == ("running", made.processes["platform"].pid)
    assert set(hub["peers"]) == {"logistics", "advertiser"}
    assert set(spoke["peers"]) == {"platform"}
    assert all(peer["connected"] for peer in [*hub["peers"].values(), *spoke["peers"].values()])
    assert hub["bytes_sent"] > 0

    with urllib.request.urlopen(f"http://{metrics}/metrics", timeout=10) as answer:
        page = answer.read().decode()
    assert 'party_phase{phase="training"} 1.0' in page
    assert 'party_connected{peer="advertiser"} 1.0' in page

    files = [made.home("platform") / name for name in ("ca.pem", "platform.key", "platform.pem")]
    credentials = grpc.ssl_channel_credentials(*(file.read_bytes() for file in files))
    options = [("grpc.ssl_target_name_override", "platform"), ("grpc.enable_http_proxy", 0)]
    with grpc.secure_channel(made.address, credentials, options) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        watched = health.Watch(health_pb2.HealthCheckRequest(service=SERVICE), timeout=60)
        assert next(watched).status == SERVING
        made.processes["platform"].send_signal(signal.SIGTERM)
        assert next(watched).status == NOT_SERVING

    ends = made.ends(within=60)
    assert {name: end.code for name, end in ends.items()} == {
        "platform": 130,
        "logistics": 8,
        "advertiser": 8,
    }
    for name in made.names:
        *_, last = lines(made, name)
        assert (last["event"], last["exit_code"]) == ("error", ends[name].code)
        assert last["message"] == ends[name].json["error"]["message"]
        assert status(made, name)["state"] == "ended"
        assert status(made, name)["end"]["exit_code"] == ends[name].code
        assert not list((made.home(name) / "runs").rglob(".*"))
        seen_outside = made.stderr(name) + (made.home(name) / "runs" / f"{name}.status.json").read_text()
        assert "mail.example" not in seen_outside.lower()
    assert "interrupted on its side" in ends["logistics"].json["error"]["message"]


def test_a_killed_process_has_died(federation: Federate) -> None:
    made = federation(("platform", "logistics"))
    made.start("platform", command=["run", "--json", "--log", "json"])
    made.listens()
    deadline = time.monotonic() + 30
    while not (Path(made.home("platform")) / "runs" / "platform.status.json").exists():
        assert time.monotonic() < deadline
    made.processes["platform"].kill()
    made.processes["platform"].wait(10)
    assert status(made, "platform")["state"] == "died"
