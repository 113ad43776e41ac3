"""Runs of two small companies, whose pages are looked at."""

from pathlib import Path
from typing import Any

import pytest

from tests.parties import small

HOSTILE = "<script>alert(1)</script>"


@pytest.fixture(scope="package")
def runs(
    tmp_path_factory: pytest.TempPathFactory, certificates: Path, identities: dict[str, Any]
) -> list[dict[str, Path]]:
    """Folders, by party, of two runs whose feature holder has a column with a hostile name."""
    homes = small.write(tmp_path_factory.mktemp("report"), certificates, identities)
    table = homes["logistics"] / "table.csv"
    table.write_text(table.read_text().replace("amount", HOSTILE, 1))
    noise = "{ embedding_clip = 1.0, embedding_sigma = 1.0 }"
    small.agree(homes, identities, evaluation='{ importance = "columns" }', privacy=noise)
    made = [small.run(homes)]
    small.agree(homes, identities)
    made.append(small.run(homes))
    return [
        {name: small.folder_of(home, summaries[name]) for name, home in homes.items()} for summaries in made
    ]


@pytest.fixture(scope="package")
def made(runs: list[dict[str, Path]]) -> dict[str, Path]:
    return runs[0]
