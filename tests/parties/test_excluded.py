"""Who withdrew consent takes part in nothing: no alignment, run, prediction; nor does it go on with him."""

import hashlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from parties.align import alignment_only, ids_of_source
from parties.changes import described, refuse_change_while_read, refuse_changes
from parties.check import check
from parties.check_text import text
from parties.config import Config, load
from parties.drift_report import drift
from parties.errors import AlignmentError, ConfigError, DataError
from parties.excluded import RECORD, left_of
from parties.finished import finished
from parties.model import model
from parties.own import own_data, own_identity, own_protocols
from parties.predict import complete_prediction, prepare, to_score
from parties.prediction import unfinished_with
from parties.unfinished import Unfinished
from protos.memory import together
from psi import IdError, normalise
from tests.parties import small

NAMES = ("advertiser", "logistics", "platform")
SETS = st.fixed_dictionaries({name: st.sets(st.integers(0, 12), min_size=1) for name in NAMES})
LISTS = st.fixed_dictionaries({name: st.sets(st.integers(0, 14), max_size=5) for name in NAMES})


def write(root: Path, certificates: Path, identities: Mapping[str, Any], ids: str, own: str) -> None:
    """own: what `data` says beside the file and the list."""
    contract = f'version = 1\nname = "small"\nlabel_holder = "platform"\nseed = 1\n{ids}\n'
    contract += 'psi = { protocol = "insecure-hash", allow_insecure = true, minimum = 1 }\n'
    contract += "".join(f'[parties.{name}]\nkey = "{identities[name].fingerprint}"\n' for name in NAMES)
    for name in NAMES:
        home = root / name
        home.mkdir(exist_ok=True)
        (home / "run.toml").write_text(contract)
        for file in ("table.csv", "gone.csv"):
            (home / file).write_text("k\n0\n")
        link = 'listen = "127.0.0.1:1"' if name == "platform" else 'hub = "127.0.0.1:1"'
        (home / "party.toml").write_text(
            f'party = "{name}"\ndata = {{ file = "table.csv", exclude_ids = "gone.csv", {own} }}\n'
            f'tls = {{ ca = "{certificates}/ca.pem", certificate = "{certificates}/{name}.pem", '
            f'key = "{certificates}/{name}.key" }}\nlink = {{ {link} }}\n'
        )


def config_of(root: Path, name: str) -> Config:
    return load(root / name / "party.toml", for_training=False)


def quiet(*_: object) -> None:
    pass


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory, certificates: Path, identities: dict[str, Any]) -> Path:
    root = tmp_path_factory.mktemp("three")
    write(root, certificates, identities, 'ids.type = "email"', 'id = "k"')
    return root


@settings(deadline=None, max_examples=12)
@given(SETS, LISTS)
def test_what_is_common_is_the_intersection_less_the_excluded_of_all(
    three: Path, sets: dict[str, set[int]], lists: dict[str, set[int]]
) -> None:
    parties, tables = {}, {}
    for name in NAMES:
        config, home = config_of(three, name), three / name
        tables[name] = [f"u{n}@X.example" for n in sorted(sets[name])]
        pd.DataFrame({"k": tables[name]}).to_csv(home / "table.csv", index=False)
        pd.DataFrame({"k": [f" U{n}@x.EXAMPLE" for n in lists[name]]}).to_csv(home / "gone.csv", index=False)
        ids, excluded, _ = ids_of_source(config, quiet)
        assert excluded is not None
        assert (excluded.listed, len(excluded.rows)) == (len(lists[name]), len(sets[name] & lists[name]))
        parties[name] = alignment_only(config, own_identity(config), ids, own_protocols(config))
    wanted = set.intersection(*sets.values()) - set.union(*lists.values())
    outcomes = together(parties).results
    for name, outcome in outcomes.items():
        rows = [] if isinstance(outcome, AlignmentError) else outcome[1].rows
        common = [tables[name][row] for row in rows]
        assert sorted(common) == sorted(f"u{n}@X.example" for n in wanted)


ROWS = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=12)


@settings(deadline=None, max_examples=25)
@given(ROWS, st.sets(st.integers(0, 5), max_size=3), st.sampled_from(["mail", "tel"]))
def test_a_row_is_left_out_by_an_id_of_any_kind(
    tmp_path_factory: pytest.TempPathFactory,
    certificates: Path,
    identities: dict[str, Any],
    rows: list[tuple[int, int]],
    gone: set[int],
    listed: str,
) -> None:
    """Of the others each first row counts, as if the rows that are left out had no ids."""
    root = tmp_path_factory.mktemp("kinds")
    kinds = 'ids = [{ name = "tel", type = "integer" }, { name = "mail", type = "integer" }]'
    write(root, certificates, identities, kinds, 'id = { mail = "mail", tel = "tel" }')
    home, column = root / "platform", ["mail", "tel"].index(listed)
    pd.DataFrame(rows, columns=["mail", "tel"]).to_csv(home / "table.csv", index=False)
    pd.DataFrame({listed: sorted(gone)}).to_csv(home / "gone.csv", index=False)
    ids, excluded, _ = ids_of_source(config_of(root, "platform"), quiet)
    assert excluded is not None
    kept = [row for row, cells in enumerate(rows) if cells[column] not in gone]
    assert sorted({*range(len(rows))} - {*excluded.rows.tolist()}) == kept
    for at, kind in enumerate(("mail", "tel")):
        firsts = {rows[row][at]: row for row in reversed(kept)}
        assert ids[kind].rows.tolist() == sorted(firsts.values())
        withdrawn = {rows[row][at] for row in excluded.rows.tolist()} - {*firsts}
        withdrawn |= gone if kind == listed else set()
        assert len(np.unique(excluded.digests[kind], axis=0)) == len(withdrawn)


@given(st.lists(st.tuples(st.sampled_from([None, "", "1", "2", "3"]), st.booleans()), min_size=1))
def test_who_is_left_of_ids_is_whom_a_table_without_the_others_gives(
    rows: list[tuple[str | None, bool]],
) -> None:
    cells, takes_part = [cell for cell, _ in rows], np.array([part for _, part in rows])
    left = left_of(normalise([[cells]], ["k"], ["integer"], b""), takes_part)
    wanted = normalise([[cells]], ["k"], ["integer"], b"", takes_part=takes_part)
    assert (left.duplicate, left.total) == (wanted.duplicate, wanted.total)
    for name in ("digests", "rows", "repeats", "repeated"):
        assert np.array_equal(getattr(left, name), getattr(wanted, name)), name


def test_a_part_of_an_id_is_refused_and_not_passed_over(
    tmp_path: Path, certificates: Path, identities: dict[str, Any]
) -> None:
    kinds = 'ids = [{ name = "mail", type = "email" }, { name = "who", types = ["string", "integer"] }]'
    write(tmp_path, certificates, identities, kinds, 'id = { mail = "mail", who = ["surname", "zip"] }')
    home = tmp_path / "platform"
    (home / "table.csv").write_text("mail,surname,zip\na@x.example,Ann,1\nb@x.example,Ben,2\n")
    (home / "gone.csv").write_text("mail,surname\na@x.example,Ben\n")
    with pytest.raises(
        DataError, match=r"gone\.csv: has column surname, but not zip, which make an id \(who\)"
    ):
        ids_of_source(config_of(tmp_path, "platform"), quiet)
    for listed, rows in (("mail\na@x.example\n", 1), ("mail,surname,zip\na@x.example,Ben,2\n", 2)):
        (home / "gone.csv").write_text(listed)
        _, excluded, *_ = ids_of_source(config_of(tmp_path, "platform"), quiet)
        assert excluded is not None
        assert len(excluded.rows) == rows


@pytest.fixture
def homes(tmp_path: Path, certificates: Path, identities: dict[str, Any]) -> dict[str, Path]:
    """Two companies; the logistics one leaves out ten people, and an eleventh whom it does not know."""
    found = small.write(tmp_path, certificates, identities)
    small.agree(found, identities, model="{ cut = 3, bottom_hidden = [6], party_dropout = 0.2 }")
    leave_out(found["logistics"], [*range(10), 99_999])
    return found


def leave_out(home: Path, ids: list[int]) -> None:
    pd.DataFrame({"k": ids}).to_csv(home / "gone.csv", index=False)
    text = (home / "party.toml").read_text().replace(', exclude_ids = "gone.csv"', "")
    (home / "party.toml").write_text(text.replace('id = "k"', 'id = "k", exclude_ids = "gone.csv"'))


def test_a_run_and_a_prediction_leave_them_out_and_keep_a_record(homes: dict[str, Path]) -> None:
    summaries = small.run(homes)
    sha256 = hashlib.sha256((homes["logistics"] / "gone.csv").read_bytes()).hexdigest()
    facts = summaries["logistics"]["excluded"]
    assert (facts["listed"], facts["rows"], facts["sha256"]) == (11, 10, sha256)
    assert "excluded" not in summaries["platform"]
    for name, home in homes.items():
        folder = small.folder_of(home, summaries[name])
        assert pd.read_parquet(folder / "alignment.parquet")["row"].min() >= 10
        assert (folder / RECORD).exists() == (name == "logistics")
        if name == "logistics":
            assert json.loads((folder / RECORD).read_text()) == facts
    leave_out(homes["platform"], [*range(200, 206)])
    parties = {}
    for name, home in homes.items():
        config = load(home / "party.toml")
        trained = model(config, small.folder_of(home, summaries[name]))
        config = to_score(config, trained, None)
        parties[name] = complete_prediction(prepare(config, trained), unfinished_with(trained, config))
    found = together(parties).results
    scores = pd.read_parquet(found["platform"]["scores"])
    assert scores["row"][scores["score"].isna()].tolist() == [*range(200, 206)]
    assert set(scores["parties"][:10]) == {"platform"}
    assert (found["platform"]["together"], found["platform"]["alone"]) == (small.PEOPLE - 16, 10)
    assert found["platform"]["excluded"]["rows"] == 6
    assert (Path(found["platform"]["scores"]).parent / RECORD).exists()
    assert drift(load(homes["platform"] / "party.toml"), None, None)["rows"]["now"] == small.PEOPLE - 6


def test_an_audit_reads_nobody_who_has_withdrawn_since(homes: dict[str, Path]) -> None:
    summaries = small.run(homes)
    leave_out(homes["platform"], [20])
    with pytest.raises(
        DataError, match=r"gone\.csv: lists people of the run in .*; train again without them"
    ):
        finished(
            load(homes["platform"] / "party.toml"), small.folder_of(homes["platform"], summaries["platform"])
        )
    leave_out(homes["platform"], [99_999])
    finished(
        load(homes["platform"] / "party.toml"), small.folder_of(homes["platform"], summaries["platform"])
    )


@pytest.mark.parametrize("task", ["multiclass", "binary", "regression"])
def test_labels_of_the_excluded_are_as_if_they_stood_nowhere(
    homes: dict[str, Path], identities: dict[str, Any], task: str
) -> None:
    """Nor their weight, list or times; rows have their numbers of the file."""
    cells = {"multiclass": ["a", "b", "c"], "binary": ["0", "1"], "regression": ["0.5", "2"]}[task]
    small.agree(homes, identities, model=f'{{ task = "{task}", cut = 3 }}')
    home = homes["platform"]
    table = pd.read_csv(home / "table.csv", dtype=str)
    table["bought"] = [cells[row % len(cells)] for row in range(len(table))]
    table["weight"] = "1"
    times = ""
    if task == "binary":
        table["list"] = "l"
        table["at"], times = "2026-11-01", ', event_time = "at", window = "1d"'
        table.loc[5, "at"] = "2026-11-09"
    table.loc[7, ["bought", "weight"]] = ["SECRETCLASS", "much"]
    if task == "binary":
        table.loc[7, ["list", "at"]] = ["", "2027-01-01"]
    table.to_csv(home / "table.csv", index=False)
    text = (home / "party.toml").read_text()
    lists = ', rank_within = "list"' if task == "binary" else ""
    named = f'label = "bought", weight = "weight"{lists}{times}'
    (home / "party.toml").write_text(text.replace('label = "bought"', named))
    with pytest.raises(DataError):
        own_data(load(home / "party.toml"))
    leave_out(home, [7])
    data = own_data(load(home / "party.toml"))
    assert data.labels is not None
    assert data.labels.names == (("a", "b", "c") if task == "multiclass" else ())
    wanted = [cells.index(cell) if task == "multiclass" else float(cell) for cell in table["bought"].drop(7)]
    assert np.delete(data.labels.values, 7).tolist() == wanted
    rows = next(iter(data.ids.values())).rows.tolist()
    young = {5} if task == "binary" else set()
    assert rows == [row for row in range(small.PEOPLE) if row not in {7, *young}]
    if task == "binary":
        assert data.delay is not None
        assert data.delay.facts() == {"as_of": "2026-11-09T00:00:00Z", "immature": 1, "late": 0}
    table.loc[9, "bought"] = ""
    table.to_csv(home / "table.csv", index=False)
    with pytest.raises(DataError, match=r"1 empty cell\(s\), the first in row 10;"):
        own_data(load(home / "party.toml"))
    leave_out(home, [*range(small.PEOPLE)])
    with pytest.raises(DataError, match=r"no row takes part: each has an id of data\.exclude_ids"):
        own_data(load(home / "party.toml"))


def test_a_class_of_the_excluded_is_in_nothing_that_a_run_leaves(
    homes: dict[str, Path], identities: dict[str, Any]
) -> None:
    small.agree(homes, identities, model='{ task = "multiclass", cut = 3, bottom_hidden = [6] }')
    home = homes["platform"]
    table = pd.read_csv(home / "table.csv")
    table["bought"] = np.where(table["bought"] == 1, "yes", "no")
    table.loc[200, "bought"] = "SECRETCLASS"
    table.to_csv(home / "table.csv", index=False)
    leave_out(home, [200])
    summary = small.run(homes)["platform"]
    folder = small.folder_of(home, summary)
    assert json.loads((folder / "target.json").read_text())["names"] == ["no", "yes"]
    assert not [file for file in folder.rglob("*") if file.is_file() and b"SECRETCLASS" in file.read_bytes()]
    finished(load(home / "party.toml"), folder)
    leave_out(home, [])
    with pytest.raises(DataError, match="has other classes or targets than the run in "):
        finished(load(home / "party.toml"), folder)


def test_check_says_how_many(homes: dict[str, Path]) -> None:
    shown = text(check(load(homes["logistics"] / "party.toml")))
    assert "10 rows take no part" in " ".join(shown.split())
    assert "none of them" not in shown
    leave_out(homes["logistics"], [99_999])
    shown = text(check(load(homes["logistics"] / "party.toml")))
    assert "none of them is in the table; are they written" in " ".join(shown.split())


def test_a_run_does_not_go_on_with_another_list(homes: dict[str, Path]) -> None:
    config = load(homes["logistics"] / "party.toml")
    own = described(config)
    unfinished = Unfinished.of(config, own)
    unfinished.begin(b"r" * 32)
    unfinished.keep_alignment(b"r" * 32, np.array([20]), {})
    refuse_changes(config, described(config))
    leave_out(homes["logistics"], [20])
    with pytest.raises(
        ConfigError, match=r"exclude_ids lists other people than when .* `party run --afresh`"
    ):
        refuse_changes(config, described(config))
    with pytest.raises(DataError, match=r"gone\.csv: has changed while it was read"):
        refuse_change_while_read(config, own)


@pytest.mark.parametrize(
    ("content", "kind", "wanted"),
    [
        ("mail\n1\n", DataError, "gone.csv: has no column k: the ids must stand there under that name"),
        ("k\n1\nabc\n", IdError, "gone.csv: column 'k': 1 row (2) cannot be read as integers"),
        ("", DataError, "gone.csv: the file is empty"),
        (None, DataError, "gone.csv: no such file"),
    ],
)
def test_a_list_that_cannot_be_used(
    homes: dict[str, Path], content: str | None, kind: type[Exception], wanted: str
) -> None:
    config, file = load(homes["logistics"] / "party.toml"), homes["logistics"] / "gone.csv"
    file.unlink() if content is None else file.write_text(content)
    with pytest.raises(kind) as caught:
        own_data(config)
    assert wanted in str(caught.value)
    assert "abc" not in str(caught.value)


def test_a_list_of_nobody(homes: dict[str, Path]) -> None:
    leave_out(homes["logistics"], [])
    data = own_data(load(homes["logistics"] / "party.toml"))
    assert data.excluded is not None
    assert (data.excluded.listed, len(data.excluded.rows)) == (0, 0)
    assert len(data.ids["integer"].rows) == small.PEOPLE
    shutil.rmtree(homes["logistics"] / "runs", ignore_errors=True)
