"""A table that is replaced, or not there, while a command needs it: a line says so, nothing is half-done."""

import sqlite3
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from parties.changes import described, refuse_change_while_read, refuse_changes
from parties.config import load
from parties.errors import ConfigError, DataError
from parties.train import run_party
from parties.unfinished import Unfinished
from tests.parties import small


@pytest.fixture
def home(tmp_path: Path, certificates: Path, identities: dict[str, Any]) -> Path:
    return small.write(tmp_path, certificates, identities)["logistics"]


def brings(home: Path, data: str) -> None:
    text = (home / "party.toml").read_text()
    (home / "party.toml").write_text(text.replace('file = "table.csv"', data))


def test_a_folder_of_which_a_file_is_replaced(home: Path) -> None:
    table = small.tables()["logistics"]
    for part in (0, 1):
        (home / "table" / f"part={part}").mkdir(parents=True)
        table[part::2].to_parquet(home / "table" / f"part={part}" / "a.parquet")
    brings(home, 'file = "table", exclude = ["part"]')
    config = load(home / "party.toml")
    own = described(config)
    refuse_change_while_read(config, own)
    table[:9].to_parquet(home / "table" / "part=1" / "a.parquet")
    with pytest.raises(DataError, match="/table: has changed while it was read; start again"):
        refuse_change_while_read(config, own)


def test_a_query_that_gives_other_rows_later(home: Path) -> None:
    """The rows of this command stay as they are; one that was interrupted does not go on with others."""
    with sqlite3.connect(home / "own.db") as database:
        small.tables()["logistics"].to_sql("people", database, index=False)
    brings(home, 'query = "SELECT * FROM people ORDER BY k", database = { sqlite = "own.db" }')
    config = load(home / "party.toml")
    own = described(config)
    unfinished = Unfinished.of(config, own)
    unfinished.begin(b"r" * 32)
    unfinished.keep_alignment(b"r" * 32, np.array([3]), {})
    refuse_changes(load(home / "party.toml"), described(load(home / "party.toml")))
    with sqlite3.connect(home / "own.db") as database:
        database.execute("UPDATE people SET amount = 0 WHERE k = 7")
    database.close()
    refuse_change_while_read(config, own)
    later = load(home / "party.toml")
    with pytest.raises(ConfigError, match=r"data\.query: it is not what it was when the unfinished run 7272"):
        refuse_changes(later, described(later))


def test_a_database_that_is_down_leaves_nothing(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOP_URL", "postgresql://alice:sesame@127.0.0.1:1/shop")
    brings(home, 'query = "SELECT * FROM people", database = { env = "SHOP_URL" }')
    with pytest.raises(DataError, match=r"\$SHOP_URL: the database cannot be reached"):
        run_party(load(home / "party.toml"), lambda *_: None, lambda line: None)
    assert not [path for path in (home / "runs").iterdir() if path.is_dir()]
    kept = [path.read_bytes() for path in (home / "runs").iterdir()]
    assert not [content for content in kept if b"sesame" in content or b"alice" in content]


def test_a_query_without_the_id_and_one_of_changing_types(home: Path) -> None:
    with sqlite3.connect(home / "own.db") as database:
        pd.DataFrame({"id": [1, 2], "x": [0.5, 1.5]}).to_sql("people", database, index=False)
        database.execute("INSERT INTO people VALUES (3, 'many')")
    database.close()
    brings(home, 'query = "SELECT * FROM people", database = { sqlite = "own.db" }')
    settings = (home / "party.toml").read_text()
    for query, wanted in (
        ("SELECT id FROM people", r"data\.query: no column 'k', 'seen'; it has id"),
        (
            "SELECT id AS k, x, x AS seen FROM people",
            r"data\.query: column 'x': holds values of several types",
        ),
    ):
        (home / "party.toml").write_text(settings.replace("SELECT * FROM people", query))
        with pytest.raises(DataError, match=wanted):
            run_party(load(home / "party.toml"), lambda *_: None, lambda line: None)
        assert not [path for path in (home / "runs").iterdir() if path.is_dir()]
