"""The committed stubs are what the .proto says."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def test_regeneration_changes_nothing(tmp_path: Path) -> None:
    pytest.importorskip("grpc_tools", reason="grpcio-tools is not installed")
    outs = [f"--{kind}={tmp_path}" for kind in ("python_out", "pyi_out", "grpc_python_out")]
    subprocess.run(
        [
            sys.executable,
            "-m",
            "grpc_tools.protoc",
            "-I.",
            *outs,
            "protos/party.proto",
            "protos/serving.proto",
        ],
        cwd=ROOT,
        check=True,
    )
    for name in (
        f"{one}{end}" for one in ("party", "serving") for end in ("_pb2.py", "_pb2.pyi", "_pb2_grpc.py")
    ):
        assert (tmp_path / "protos" / name).read_text() == (ROOT / "protos" / name).read_text(), (
            f"protos/{name} is out of date: run `make protos`"
        )
