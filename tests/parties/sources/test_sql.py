"""Queries: the rows of a database, whatever its types; nothing of its URL is told; a real PostgreSQL."""

import os
import shutil
import sqlite3
import subprocess
import tempfile
import traceback
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest

from parties.config import load
from parties.errors import ConfigError, DataError, PartyError
from parties.own import own_data
from parties.sources import source
from parties.sources.database import Database
from parties.sources.source import read_batches, read_columns
from parties.sources.sql import SqlQuery
from tests.parties import small

SECRET = "o-p%en/sesame"
BINARIES = sorted(Path("/usr/lib/postgresql").glob("*/bin"))


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    with sqlite3.connect(tmp_path / "shop.db") as database:
        database.execute("CREATE TABLE people (id INTEGER, name TEXT, paid REAL, mixed)")
        rows = [(n, None if n == 3 else f"name {n}", n / 2, n) for n in range(7)]
        database.executemany("INSERT INTO people VALUES (?, ?, ?, ?)", rows)
    database.close()
    return tmp_path / "shop.db"


def query(text: str, shop: Path, **database: Any) -> SqlQuery:
    return SqlQuery(text, Database(**(database or {"sqlite": shop})), shop.parent / "runs")


def said(work: Callable[[], object], kind: type[PartyError] = DataError) -> str:
    """The one line of an error, of which no trace tells more."""
    with pytest.raises(kind) as caught:
        work()
    text = str(caught.value)
    assert "\n" not in text
    everything = "".join(traceback.format_exception(caught.value))
    for word in (SECRET, "sesame", "alice", "127.0.0.1"):
        assert word not in everything.replace(__file__, "")
    return text


def test_a_query_is_read_once_and_holds_its_rows(shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "BLOCK", 3)
    people = query(
        "SELECT id, name, paid FROM people WHERE name IS NULL OR name LIKE 'name%' ORDER BY id", shop
    )
    assert [len(batch["id"]) for batch in read_batches(people, ["id"])] == [3, 3, 1]
    before = people.fingerprint()
    with sqlite3.connect(shop) as database:
        database.execute("DELETE FROM people WHERE id > 4")
    found = {name: column.to_pylist() for name, column in read_columns(people, [], True).items()}
    assert found["id"] == [*range(7)]
    assert found["name"] == [None if n == 3 else f"name {n}" for n in range(7)]
    assert found["paid"] == [n / 2 for n in range(7)]
    assert people.fingerprint() == before
    assert query("SELECT id, name, paid FROM people ORDER BY id", shop).fingerprint() != before
    assert not list((shop.parent / "runs").iterdir())


def test_one_type_a_column_however_the_rows_are_cut(shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "SELECT CASE WHEN id < 3 THEN NULL WHEN id = 5 THEN 0.5 ELSE id END AS x FROM people ORDER BY id"
    for block in (1, 2, 7):
        monkeypatch.setattr(source, "BLOCK", block)
        people = query(text, shop)
        assert read_columns(people, ["x"], False)["x"].to_pylist() == [None, None, None, 3, 4, 0.5, 6]
        assert str(people.schema().field("x").type) == "double"
    text = "SELECT CASE WHEN id < 3 THEN id ELSE 'three' END AS x FROM people ORDER BY id"
    for block, wanted in (
        (
            3,
            "data.query: column 'x': is of type int64 in rows 1 to 3, but of type string in rows 4 to",
        ),
        (
            7,
            "data.query: column 'x': holds values of several types, or of none that is known; cast",
        ),
    ):
        monkeypatch.setattr(source, "BLOCK", block)
        assert said(lambda: query(text, shop).schema()).startswith(wanted)


def test_days_and_times_of_one_column_are_refused(shop: Path) -> None:
    """SQLite's drivers give what its owner registers; Arrow would make days of both."""
    people, day, moment = query("SELECT 1", shop), date(2026, 1, 1), datetime(2026, 1, 1, 8, 30)
    for cells in ([day, moment], [None, moment, day]):
        assert said(lambda cells=cells: people._column("x", cells)).startswith(  # type: ignore[misc]
            "data.query: column 'x': holds values of several types"
        )
    assert people._column("x", [moment, None]).to_pylist() == [moment, None]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("SELECT name FROM people", "data.query: no column 'id'; it has name"),
        ("SELECT id, id FROM people", "data.query: column 'id' stands in the header twice"),
        ("SELECT id FROM people WHERE id > 99", "data.query: a header, but no rows"),
        (
            "SELECT 'sesame' FROM nowhere",
            "data.query: is refused by the database (OperationalError SQLITE",
        ),
        (
            "SELEC 'sesame'",
            "data.query: is refused by the database (OperationalError SQLITE_ERROR); try",
        ),
        ("DELETE FROM people", "data.query: is refused by the database (OperationalError SQLITE_READONLY)"),
        ("PRAGMA user_version = 0", "data.query: "),
    ],
)
def test_a_query_that_cannot_be_used(shop: Path, text: str, wanted: str) -> None:
    before = shop.read_bytes()
    assert said(lambda: read_columns(query(text, shop), ["id"], False)).startswith(wanted)
    assert shop.read_bytes() == before
    assert not list((shop.parent / "runs").iterdir())


def test_where_the_database_is(shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    named = Path(shop.parent / "url")
    for url, wanted in (
        (f"//alice:{SECRET}@127.0.0.1", f"{named}: holds no URL of a database; such as"),
        (f"mysql+sesame://alice:{SECRET}@127.0.0.1/x", f"{named}: no driver for this kind of database"),
        (f"postgresql://alice:{SECRET}@h/x\nx", f"{named}: holds several lines; write"),
        (f"sqlite:///{shop}", f"{named}: names a SQLite file; name it in data.database.sqlite"),
    ):
        named.write_text(url)
        assert said(lambda: query("SELECT 1", shop, file=named).schema(), ConfigError).startswith(wanted)
    named.write_bytes(b"\xff\xff")
    assert "cannot be read as text" in said(lambda: query("SELECT 1", shop, file=named).schema(), ConfigError)
    monkeypatch.delenv("SHOP_URL", raising=False)
    unset = said(lambda: query("SELECT 1", shop, env="SHOP_URL").schema(), ConfigError)
    assert unset == "data.database.env: $SHOP_URL is not set; set it to the database's URL"
    monkeypatch.setenv("SHOP_URL", f"postgresql://alice:{SECRET.replace('%', '%25')}@127.0.0.1:1/shop")
    down = said(lambda: query("SELECT 1", shop, env="SHOP_URL").schema())
    assert down == (
        "data.query: $SHOP_URL: the database cannot be reached, or does not let us in (OperationalError); "
        "is it up, and is the URL right?"
    )
    shop.unlink()
    assert "cannot be reached" in said(lambda: query("SELECT 1", shop).schema())
    assert not shop.exists()


def test_a_party_whose_table_is_a_query(
    tmp_path: Path, certificates: Path, identities: dict[str, Any]
) -> None:
    """party.toml says so, and what is read is what the same rows in a file are."""
    home = small.write(tmp_path, certificates, identities)["logistics"]
    of_file = own_data(load(home / "party.toml"))
    with sqlite3.connect(home / "own.db") as database:
        small.tables()["logistics"].to_sql("people", database, index=False)
    text = (home / "party.toml").read_text()
    of_query = 'query = "SELECT * FROM people ORDER BY k", database = { sqlite = "own.db" }'
    (home / "party.toml").write_text(text.replace('file = "table.csv"', of_query))
    config = load(home / "party.toml")
    data = own_data(config)
    assert data.table.numeric.equals(of_file.table.numeric)
    assert data.table.categorical.equals(of_file.table.categorical)
    assert [ids.digests.tobytes() for ids in data.ids.values()] == [
        ids.digests.tobytes() for ids in of_file.ids.values()
    ]
    assert "own.db" not in config.contract.canonical.decode()


# ---- PostgreSQL -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def server() -> Iterator[tuple[str, Callable[..., None]]]:
    """The URL of a server of Debian's package that is started for these tests, and its pg_ctl."""
    if not BINARIES:
        pytest.skip("no PostgreSQL in /usr/lib/postgresql: apt-get install postgresql")
    as_user: dict[str, Any] = {"user": "postgres"} if os.getuid() == 0 else {}
    home = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))
    (home / "password").write_text(SECRET)
    if as_user:
        for path in (home, home / "password"):
            shutil.chown(path, "postgres")

    def run(program: str, *words: object) -> None:
        command = [BINARIES[-1] / program, "-D", home / "data", *words]
        done = subprocess.run([*map(str, command)], **as_user, cwd=home, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr

    run("initdb", "-U", "alice", "-A", "scram-sha-256", f"--pwfile={home / 'password'}", "-N", "-E", "UTF8")
    options = f"-c listen_addresses= -c unix_socket_directories={home} -c fsync=off"
    try:
        run("pg_ctl", "-w", "-l", home / "log", "-o", options, "start")
        yield (
            f"postgresql://alice:{SECRET.replace('%', '%25').replace('/', '%2F')}@/postgres?host={home}",
            run,
        )
    finally:
        if (home / "data" / "postmaster.pid").exists():
            run("pg_ctl", "-m", "immediate", "stop")
        shutil.rmtree(home)


def test_postgresql(
    server: tuple[str, Callable[..., None]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, run = server
    monkeypatch.setenv("SHOP_URL", url)
    monkeypatch.setattr(source, "BLOCK", 100)
    with psycopg.connect(url) as database:
        database.execute(
            "CREATE TABLE people AS SELECT n AS id, 'n%' || n AS name, n::numeric / 4 AS paid,"
            " n % 2 = 0 AS even, NULLIF(n, 5) AS gap, ARRAY['a', 'b'] AS tags, gen_random_uuid() AS code,"
            " '2026-11-20 08:30:00+01'::timestamptz AS at, NULL::int AS none"
            " FROM generate_series(1, 250) AS n"
        )
        database.execute("CREATE SEQUENCE counted")

    def people(text: str) -> SqlQuery:
        return SqlQuery(text, Database(env="SHOP_URL"), tmp_path / "runs")

    whole = people("SELECT * FROM people WHERE name LIKE 'n%' ORDER BY id::int")
    found = {name: column.to_pylist() for name, column in read_columns(whole, [], True).items()}
    assert [len(batch["id"]) for batch in read_batches(whole, ["id"])] == [100, 100, 50]
    assert found["id"] == [*range(1, 251)]
    assert found["paid"] == [n / 4 for n in range(1, 251)]
    assert found["gap"][3:6] == [4, None, 6]
    assert found["name"][:2] == ["n%1", "n%2"]
    assert found["even"][:2] == [False, True]
    assert found["tags"][0] == ["a", "b"]
    assert found["at"][0] == datetime(2026, 11, 20, 7, 30, tzinfo=UTC)
    assert found["none"] == [None] * 250
    assert len(set(found["code"])) == 250
    assert whole.fingerprint() == people("SELECT * FROM people ORDER BY id").fingerprint()

    delete = "DELETE FROM people RETURNING id"
    assert "is refused by the database (SyntaxError 42601)" in said(lambda: people(delete).schema())
    writes = "SELECT nextval('counted')"
    assert "(ReadOnlySqlTransaction 25006)" in said(lambda: people(writes).schema())
    assert len(read_columns(people("SELECT id FROM people"), ["id"], False)["id"]) == 250
    assert "(UndefinedTable 42P01)" in said(lambda: people("SELECT 1 FROM nowhere").schema())
    late = "SELECT 100 / (200 - n) AS x FROM generate_series(1, 250) AS n"
    assert said(lambda: people(late).schema()) == "data.query: broke off (DivisionByZero 22012); start again"
    monkeypatch.setenv("SHOP_URL", url.replace("alice:", "alice:not-"))
    locked_out = people("SELECT 1")
    assert "does not let us in (OperationalError" in said(locked_out.schema)
    monkeypatch.setenv("SHOP_URL", url)
    assert "does not let us in" in said(locked_out.fingerprint), "it does not log in again"
    run("pg_ctl", "-m", "fast", "stop")
    assert "$SHOP_URL: the database cannot be reached" in said(lambda: people("SELECT 1").schema())
    assert not list((tmp_path / "runs").iterdir())
