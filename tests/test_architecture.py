"""The walls of the house: who may import whom (docs/architecture.md)."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = ("protos", "psi", "splitnn", "parties")
MAY_IMPORT = {
    "protos": {"protos"},
    "psi": {"psi", "protos.rounds"},
    "splitnn": {"splitnn", "protos.rounds"},
    "parties": {"parties", "psi", "splitnn", "protos"},
}
MAY_IMPORT_GRPC = {
    *(f"parties/{name}.py" for name in ("channels", "hub", "dial")),
    *("protos/party_pb2_grpc.py", "protos/serving_pb2_grpc.py"),
    *(f"parties/serving/{name}.py" for name in ("hub", "dial", "applications")),
}
NOT_IN = {
    "psi": {"torch", "socket", "requests"},
    "splitnn": {"socket", "requests"},
    "protos": {"torch", "pandas"},
}

SOURCES = sorted(path for room in ROOMS for path in (ROOT / room).rglob("*.py"))


def imported(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return names


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_walls(path: Path) -> None:
    room = path.relative_to(ROOT).parts[0]
    for name in imported(path):
        top = name.split(".")[0]
        if top in ROOMS:
            assert any(f"{name}.".startswith(f"{allowed}.") for allowed in MAY_IMPORT[room]), (
                f"imports {name}"
            )
        assert top not in NOT_IN.get(room, set()), f"imports {name}"
        if top in ("grpc", "grpc_health"):
            assert str(path.relative_to(ROOT)) in MAY_IMPORT_GRPC, "one place knows gRPC"


def test_the_test_sees_the_sources() -> None:
    assert {path.parent.name for path in SOURCES} >= set(ROOMS)
    assert "protos.rounds.Send" in imported(ROOT / "protos" / "memory.py")
