"""Commands of the pages, run as they stand there."""

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest

from parties.certs import issue
from parties.init import init
from parties.own import pin_of
from tests.ports import free_port

DOCS = Path(__file__).parents[2] / "docs"
INSTALLING = ("git clone ", "make setup", "source ")
TOGETHER = ("party run ", "party predict ")
"""Commands that wait for one another: blocks of these that follow each other are run at the same time."""


class Block(NamedTuple):
    where: str
    lines: str

    @property
    def waits_for_others(self) -> bool:
        return self.lines.startswith(TOGETHER)


def blocks(page: str) -> Iterator[Block]:
    """Of the page's shell; a first line that is a comment says where."""
    text = (DOCS / page).read_text()
    for found in re.finditer(r"^```bash\n(?:# ([^\n]+)\n)?(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        lines = [line for line in found[2].splitlines() if not line.startswith(INSTALLING)]
        if lines:
            yield Block(found[1] or "", "\n".join(lines))


def start(lines: str, folder: Path, port: int) -> subprocess.Popen[str]:
    """On one machine, and at a port that is free."""
    folder.mkdir(exist_ok=True)
    for own in folder.glob("**/party.toml"):
        own.write_text(own.read_text().replace(":50051", f":{port}"))
    lines = lines.replace("platform.example.com:", "localhost:")
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    return subprocess.Popen(
        ["bash", "-euc", lines],
        cwd=folder,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def follow(page: str, folder: Path) -> str:
    """Run the page's blocks, in folders of their names; returns what they printed."""
    port, printed = free_port(), ""
    under_way: list[tuple[Block, subprocess.Popen[str]]] = []
    todo = [*blocks(page), Block("", ":")]
    for block in todo:
        if not block.waits_for_others:
            for earlier, process in under_way:
                printed += ended(earlier, process)
            under_way = []
        here = folder / block.where if re.fullmatch(r"[a-z]+", block.where) else folder
        under_way.append((block, start(block.lines, here, port)))
        if not block.waits_for_others:
            printed += ended(*under_way.pop())
    return printed


def ended(block: Block, process: subprocess.Popen[str]) -> str:
    said, _ = process.communicate(timeout=300)
    assert process.returncode == 0, f"{block}\n{said}"
    return said


def test_the_quickstart_is_short() -> None:
    shell = re.findall(r"^```bash\n(.*?)^```$", (DOCS / "quickstart.md").read_text(), re.M | re.S)
    assert sum(len(block.splitlines()) for block in shell) <= 12


@pytest.mark.slow
def test_the_quickstart_as_it_stands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    draw = np.random.default_rng(5)
    emails = [f"person{number}@example.org" for number in range(2_000)]
    shop = pd.DataFrame(
        {"email": emails, "age": draw.integers(18, 80, 2_000), "visits": draw.poisson(4, 2_000)}
    )
    carrier = pd.DataFrame(
        {"email": emails, "parcels": draw.poisson(3, 2_000), "town": draw.choice(["Bonn", "Ulm"], 2_000)}
    )
    shop["bought"] = (shop.visits + 2 * carrier.parcels + draw.normal(0, 2, 2_000) > 10).astype(int)
    shop[:1_800].to_csv(tmp_path / "shop.csv", index=False)
    carrier[200:].to_csv(tmp_path / "carrier.csv", index=False)
    began = time.monotonic()
    printed = follow("quickstart.md", tmp_path)
    with capsys.disabled():
        print(f"\nquickstart, without installing: {time.monotonic() - began:.1f} s")
    assert "1,600 common to all parties" in printed
    federation, alone = (float(auc) for auc in re.findall(r"^test +AUC ([\d.]+)", printed, re.M)[:2])
    assert federation > alone


@pytest.mark.slow
def test_the_tutorial_as_it_stands(tmp_path: Path) -> None:
    printed = follow("tutorial.md", tmp_path)
    assert "All is well." in printed
    assert len(list(tmp_path.glob("*/runs/*/*/summary.json"))) == 3
    [scores] = tmp_path.glob("platform/runs/*/platform/predictions-*/scores.parquet")
    scored = pd.read_parquet(scores)
    assert len(scored) == 999
    assert scored["score"].notna().sum() > 100


def test_certificates_as_they_stand(tmp_path: Path) -> None:
    """On one machine and in one folder, so that no file has to be sent."""
    printed = ""
    for block in blocks("howto-certificates.md"):
        if "verify" in block.lines:
            issue(tmp_path / "others", ["platform", "advertiser"])
            for name in ("platform", "advertiser"):
                shutil.copy(tmp_path / "others" / f"{name}.pem", tmp_path)
            (tmp_path / "table.csv").touch()
            told = {"certs": tmp_path, "file": tmp_path / "table.csv", "label": "bought"}
            init(tmp_path, "logistics", label_holder=True, seed=7, **told)
        printed += ended(block, start(block.lines, tmp_path, 50051))
    assert f'key = "{pin_of(tmp_path / "logistics.pem")}"' in printed
    assert "fault" not in printed
