"""The example feature holder by itself: an implementation of its own comes to the vectors of the wire."""

import ast
import json
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
EXAMPLE, VECTORS = ROOT / "examples" / "feature_holder", ROOT / "tests" / "vectors"
ROOMS = {"protos", "psi", "splitnn", "parties", "tests"}


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModuleType]:
    """Imported with stubs that stand for those that its README makes."""
    from protos import party_pb2

    stubs = ModuleType("party_pb2_grpc")
    added = {"party_pb2": party_pb2, "party_pb2_grpc": stubs}
    sys.modules |= added
    sys.path.insert(0, str(EXAMPLE))
    try:
        import feature_holder

        yield feature_holder
    finally:
        sys.path.remove(str(EXAMPLE))
        for name in (*added, "feature_holder", "line", "intersection"):
            sys.modules.pop(name, None)


def golden(name: str) -> dict:
    return json.loads((VECTORS / f"{name}.json").read_text())


def test_it_imports_nothing_of_this_project() -> None:
    for path in EXAMPLE.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            else:
                continue
            assert ROOMS.isdisjoint(name.split(".")[0] for name in names), f"{path}: {names}"


def test_the_contract(example: ModuleType) -> None:
    """Of two parties: the third of the vectors' is left out here and there."""
    told = golden("contract")["defaults"]
    agreed, canonical = tomllib.loads(told["toml"]), json.loads(told["canonical"])
    agreed["parties"].pop("advertiser")
    canonical["parties"].pop("advertiser")
    assert example.contract_of(agreed) == canonical
    told = golden("contract")["numbers"]
    agreed, canonical = tomllib.loads(told["toml"]), json.loads(told["canonical"])
    agreed["parties"].pop("advertiser")
    agreed["codec"] = {}
    found = json.dumps(example.contract_of(agreed)["training"])
    assert found == json.dumps(json.loads(found) | canonical["training"])


def test_ids(example: ModuleType) -> None:
    told = golden("ids")
    for kind in ("string", "email"):
        for cell in told["single"][kind]["cells"]:
            if cell["canonical"] is None:
                with pytest.raises(example.Refused):
                    example.digests_of([cell["cell"]], {"name": kind, "type": kind}, b"")
                continue
            contract = bytes.fromhex(told["contract"])
            _, digests = example.digests_of([cell["cell"]], {"name": kind, "type": kind}, contract)
            assert b"".join(digests).hex() == cell["digest"]


def test_parts_and_batches(example: ModuleType) -> None:
    told = golden("schedule")
    seed = bytes.fromhex(told["seed"])
    shares = {"evaluation": {"validation": 0.15, "test": 0.15}}
    parts = example.parts_of(shares, np.arange(told["users"]), seed)
    assert [part.tolist() for part in parts] == list(told["parts"].values())
    for epoch, batches in enumerate(told["batches of epochs"]):
        order = example.permutation(seed, f"epoch {epoch}", 21)
        assert [batch.tolist() for batch in order.split(8)] == batches


def test_the_oblivious_prf(example: ModuleType) -> None:
    """RFC 9497, appendix A.1.1, the first vector: H1 of the input, blinded, by the server's key."""
    key = bytes.fromhex("5ebcea5ee37023ccb9fc2d2019f9d7737be85591ae8652ffa9ef0f4d37063b0e")
    blind = bytes.fromhex("64d37aed22a27f5191de1c1d69fadb899d8862b58eb4220029e036ec4c1f6706")
    intersection = sys.modules["intersection"]
    blinded = intersection.evaluated(blind, intersection.to_group(b"\0"))
    assert blinded.hex() == "609a0ae68c15a3cf6903766461307e5c8bb2f95e7e6550e1ffa2dc99e412803c"
    answer = intersection.evaluated(key, blinded)
    assert answer.hex() == "7ec6578ae5120958eb2db1745758ff379e77cb64fe77b0b2d8cc917ea0869c7e"
    for invalid in (bytes(32), b"\xff" * 32, answer[:31] + bytes([answer[31] | 0x80])):
        with pytest.raises(example.Refused, match="an invalid group element"):
            intersection.evaluated(key, answer + invalid)


def test_the_readme_says_how_to_make_the_stubs(tmp_path: Path) -> None:
    pytest.importorskip("grpc_tools", reason="grpcio-tools is not installed")
    [line] = [line for line in (EXAMPLE / "README.md").read_text().splitlines() if "protoc" in line]
    words = line.split()[1:]
    words = [word.replace("=.", f"={tmp_path}") for word in words]
    subprocess.run([sys.executable, *words], cwd=EXAMPLE, check=True)
    assert {path.name for path in tmp_path.iterdir()} == {"party_pb2.py", "party_pb2_grpc.py"}
