"""`party demo` itself; whole runs of it are in tests/e2e."""

from pathlib import Path

import pytest

from parties.demo import demo, tables
from parties.errors import ConfigError, DataError


def test_a_set_that_is_not_there_leaves_the_last_demo(tmp_path: Path) -> None:
    last = tmp_path / "demo"
    last.mkdir()
    (last / "truth.json").write_text("{}")
    with pytest.raises(DataError, match=r"no split\.json"):
        demo(last, data=tmp_path / "nope")
    assert (last / "truth.json").exists()


def test_tables_alone(tmp_path: Path) -> None:
    made = tables(tmp_path / "demo", people=1000, say=lambda line: None)
    assert {path.name for path in (tmp_path / "demo").rglob("*.csv")} == {"customers.csv"}
    assert [party.name for party in made.parties] == ["platform", "logistics", "advertiser"]
    assert not [*tmp_path.rglob("*.toml"), *tmp_path.rglob("*.pem")]


def test_a_folder_that_is_no_demo_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(ConfigError, match="not an earlier demo"):
        demo(tmp_path)
    assert (tmp_path / "thesis.tex").exists()
