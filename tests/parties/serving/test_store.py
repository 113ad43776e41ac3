"""A store finds who is in which row, overrides columns as another table would have them, and is renewed."""

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import psi
from parties.config import Config
from parties.errors import DataError, StorageError
from parties.id_kinds import digest_key
from parties.model import Model
from parties.serving.fresh import LONGEST, Fresh
from parties.serving.schema import schema_digest
from parties.serving.scorer import BadRequest, Scorer
from parties.serving.store import DigestIndex, Store, users_of
from parties.sources.files import source_of
from tests.parties.serving.conftest import HUB, PARTNER, PEOPLE, Serving

DIGEST = st.tuples(st.integers(0, 3), st.integers(0, 9))  # few first halves: they collide


def packed(pairs: list[tuple[int, int]]) -> np.ndarray:
    return np.array(pairs, "<u8").reshape(-1, 2).view(np.uint8).reshape(-1, 16)


@settings(deadline=None)
@given(st.lists(DIGEST, unique=True), st.lists(DIGEST))
def test_the_index_finds_each_digest_and_no_other(
    there: list[tuple[int, int]], wanted: list[tuple[int, int]]
) -> None:
    found = DigestIndex(packed(there)).find(packed(wanted))
    assert found.tolist() == [there.index(one) if one in there else -1 for one in wanted]


def read(model: Model, file: Path | None = None) -> Store:
    config = model.config
    if file is not None:
        data = config.party.data.model_copy(update={"file": file})
        config = replace(config, party=config.party.model_copy(update={"data": data}))
    return Store.read(config, model, users_of(model.config, model))


def equal(one: Any, other: Any) -> bool:
    if isinstance(one, tuple):
        return all(equal(*pair) for pair in zip(one, other, strict=True))
    return torch.equal(one, other)


def test_rows_in_another_order_are_the_same_users_and_who_is_gone_is_blank(
    trained: dict[str, Model], tmp_path: Path
) -> None:
    model = trained[PARTNER]
    before = read(model)
    table = pd.read_csv(model.config.party.data.file)
    table[::-1].iloc[: PEOPLE - 40].to_csv(tmp_path / "fresh.csv", index=False)
    after = read(model, tmp_path / "fresh.csv")
    assert after.schema == before.schema
    gone = after.rows == after.blank
    assert gone.sum() == 40
    assert equal(after.columns(after.rows[~gone]), before.columns(before.rows[~gone]))
    blank = before.columns(np.full(1, before.blank))
    assert equal(after.columns(after.rows[gone][:1]), blank)


def test_a_blank_row_is_one_whose_columns_are_all_missing(trained: dict[str, Model], tmp_path: Path) -> None:
    model = trained[PARTNER]
    table = pd.read_csv(model.config.party.data.file, dtype=str)
    table.loc[0, ["amount", "spent", "kind", "seen", "member", "since"]] = None
    table.to_csv(tmp_path / "one.csv", index=False)
    store = read(model, tmp_path / "one.csv")
    assert equal(store.columns(np.array([0])), store.columns(np.array([store.blank])))


@pytest.mark.parametrize(
    "context",
    [
        {"amount": "0.25"},
        {"spent": "3"},
        {"spent": ""},
        {"kind": "y"},
        {"kind": "?", "amount": "1"},
        {"member": "Yes"},
        {"member": "", "since": "2031-07-01"},
        {"since": "2024-02-29T08:30:00Z"},
        {"since": "NA"},
    ],
)
def test_an_override_is_what_a_table_with_that_value_gives(
    trained: dict[str, Model], tmp_path: Path, context: dict[str, str]
) -> None:
    model = trained[PARTNER]
    assert all(date.values and date.levels for date in model.pipeline.dates)
    table = pd.read_csv(model.config.party.data.file, dtype=str)
    for name, value in context.items():
        table[name] = table[name].where(table.index >= 9, value or None)
    table.to_csv(tmp_path / "other.csv", index=False)
    before, other, rows = read(model), read(model, tmp_path / "other.csv"), np.arange(9)
    assert equal(before.columns(rows, before.override(context)), other.columns(rows))


@pytest.mark.parametrize("text", ["1_000", "\u0663", "1e999", "many"])
def test_a_context_that_is_no_number_is_refused(trained: dict[str, Model], text: str) -> None:
    with pytest.raises(DataError, match="the value of 'x' is no number"):
        read(trained[HUB]).override({"x": text})
    store = read(trained[PARTNER])
    for name, kind in (("since", "date"), ("member", "boolean")):
        with pytest.raises(DataError, match=f"^context: the value of '{name}' is no {kind}$"):
            store.override({name: text})


def test_weights_that_are_not_finite_are_not_served(
    trained: dict[str, Model], monkeypatch: pytest.MonkeyPatch
) -> None:
    bottom = trained[HUB].bottom(trained[HUB].run)
    with torch.no_grad():
        for weights in bottom.parameters():
            weights.fill_(float("nan"))
    monkeypatch.setattr(Model, "bottom", lambda *_: bottom)
    with pytest.raises(StorageError, match="embeddings that are not finite; restore it from a copy"):
        read(trained[HUB])


def test_fresh_rows_are_served_and_other_columns_are_not(trained: dict[str, Model], tmp_path: Path) -> None:
    model, file = trained[HUB], tmp_path / "table.csv"
    table = pd.read_csv(model.config.party.data.file)
    table.to_csv(file, index=False)
    stores, said = [read(model, file)], list[str]()
    fresh = Fresh(source_of(file), stores[0], lambda: read(model, file), stores.append, said.append)

    def changed(by: Callable[[pd.DataFrame], pd.DataFrame]) -> str:
        by(table.copy()).to_csv(file, index=False)
        fresh.look()
        fresh.look()
        fresh.look()
        return said[-1]

    assert "239 rows read anew" in changed(lambda one: one.iloc[:-1])
    assert len(stores) == 2
    assert "no column 'x', with which the model was trained; the rows before go on" in changed(
        lambda one: one.drop(columns="x")
    )
    assert "the rows before go on serving" in changed(lambda one: one.assign(x="many"))
    assert "the rows before go on serving" in changed(lambda one: one.iloc[:0].drop(columns="k"))
    assert len(stores) == 2
    assert "240 rows read anew" in changed(lambda one: one)
    assert len(said) == 5
    fresh.look(asked=True)
    assert len(stores) == 4


def test_the_schema_is_names_and_kinds(tmp_path: Path) -> None:
    def digest(**columns: Any) -> bytes:
        pq.write_table(pa.table(columns), tmp_path / "t.parquet")
        return schema_digest(source_of(tmp_path / "t.parquet"), ["a", "b"])

    first = digest(a=[1, 2], b=["x", "y"])
    assert digest(b=["z"], a=[0.5], c=[1]) == first
    assert digest(a=["1"], b=["x"]) != first
    assert digest(a=[1], b=[["x"]]) != first
    dates = digest(a=[1], b=[date(2026, 1, 1)])
    assert dates == digest(a=[1], b=[datetime(2026, 1, 1, 8)])
    assert dates not in (first, digest(a=[1], b=[b"x"]))
    with pytest.raises(DataError, match="no column 'b'"):
        digest(a=[1])
    (tmp_path / "t.parquet").write_bytes(b"PAR1 of another day")
    with pytest.raises(DataError, match="not a whole Parquet file"):
        schema_digest(source_of(tmp_path / "t.parquet"), ["a"])


@dataclass
class Watched:
    """What a party serves, and looks out for, of a table and a list of its own."""

    model: Model
    folder: Path
    stores: list[Store] = field(default_factory=list)
    said: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        data = self.model.config.party.data
        self.table, self.gone = self.folder / "table.csv", self.folder / "gone.csv"
        shutil.copy(data.file or "", self.table)
        self.gone.write_text("k\n")
        data = data.model_copy(update={"file": self.table, "exclude_ids": self.gone})
        self.config = replace(
            self.model.config, party=self.model.config.party.model_copy(update={"data": data})
        )
        self.users = users_of(self.config, self.model)
        self.stores.append(self.read())

    def read(self) -> Store:
        return Store.read(replace(self.config), self.model, self.users)

    def fresh(self) -> Fresh:
        return Fresh(
            self.config.source,
            self.stores[-1],
            self.read,
            self.stores.append,
            self.said.append,
            lambda store: store.excluding(self.config, self.model, self.users),
        )

    def silent(self, person: int) -> bool:
        """No row is his, and all others' are as before."""
        before, now = self.stores[0], self.stores[-1]
        one = digest_in(self.config, self.model, person)
        user = DigestIndex(self.users).find(one)[0]
        assert before.rows_of(one) != before.blank
        assert user >= 0
        out = now.silent.find(one)[0] >= 0
        assert (now.rows_of(one)[0] == now.blank) == (now.rows[user] == now.blank) == out
        assert (np.delete(now.rows, user) == np.delete(before.rows, user)).all()
        assert torch.equal(torch.from_numpy(now.embeddings), torch.from_numpy(before.embeddings))
        return bool(out)


def digest_in(config: Config, model: Model, person: int) -> np.ndarray:
    digest = psi.digest_of([str(person)], ["integer"], digest_key(config.contract.digest, model.kind))
    return np.frombuffer(digest or b"", np.uint8).reshape(1, 16)


@pytest.fixture(params=[HUB, PARTNER])
def watched(request: pytest.FixtureRequest, trained: dict[str, Model], tmp_path: Path) -> Watched:
    return Watched(trained[request.param], tmp_path)


def test_who_is_excluded_while_it_serves_is_answered_for_no_more(watched: Watched) -> None:
    """At the label holder a request about him is refused; a feature holder has nothing of his to give."""
    fresh = watched.fresh()
    fresh.look()
    assert len(watched.stores) == 1
    watched.gone.write_text("k\n7\n")
    fresh.look()
    fresh.look()
    assert [
        line.startswith("1 rows take no part, as they have one of the 1 ids of ") for line in watched.said
    ] == [True]
    assert watched.silent(7)
    if watched.model.config.name == HUB:
        scorer = Scorer(watched.config, watched.model, watched.stores[-1], watched.users, [], 10, 1.0)
        with pytest.raises(BadRequest, match=r"id 2 is not scored: it is among data\.exclude_ids"):
            scorer.score([["8"], ["7"]], {})
    watched.gone.write_text("k\n")
    fresh.look()
    fresh.look()
    assert not watched.silent(7)


def test_what_is_cached_of_him_is_used_no_more(
    serving: Callable[..., Serving], trained: dict[str, Model], tmp_path: Path
) -> None:
    watched, served = Watched(trained[HUB], tmp_path), serving(cached=60.0)
    served.answer()
    for _ in range(2):
        served.ask([7])
    assert (served.partner.counts.asked, served.partner.counts.cached) == (1, 1)
    watched.gone.write_text("k\n7\n")
    fresh = watched.fresh()
    fresh.look()
    fresh.look()
    served.scorer.store = watched.stores[-1]
    with pytest.raises(grpc.RpcError) as caught:
        served.ask([7])
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert served.partner.counts.cached == 1


def test_a_list_counts_at_once_though_the_database_is_away(trained: dict[str, Model], tmp_path: Path) -> None:
    """Which is asked again, and each fault said once."""
    watched, base, away = Watched(trained[PARTNER], tmp_path), tmp_path / "shop.db", tmp_path / "away.db"
    with closing(sqlite3.connect(base)) as connection:
        pd.read_csv(watched.table).to_sql("people", connection, index=False)
    query = {"file": None, "query": "SELECT * FROM people", "database": {"sqlite": base}}
    data = watched.config.party.data.model_copy(update=query)
    party = watched.config.party.model_copy(update={"data": data, "storage": tmp_path})
    watched.config = replace(watched.config, party=party)
    watched.stores[:] = [watched.read()]
    fresh = watched.fresh()
    base.rename(away)
    fresh.look(asked=True)
    assert watched.said[-1].endswith("; the rows before go on serving")
    watched.gone.write_text("k\n7\n")
    for _ in range(20):
        fresh.look()
    assert watched.silent(7)
    assert len(watched.said) == 2
    away.rename(base)
    for _ in range(LONGEST):
        fresh.look()
    assert len(watched.stores) == 3
    assert watched.said[2] == "data.query: 240 rows read anew"
    assert watched.silent(7)


def test_a_list_counts_while_the_table_is_away(watched: Watched) -> None:
    fresh = watched.fresh()
    watched.table.rename(watched.folder / "away.csv")
    watched.gone.write_text("k\n7\n")
    for _ in range(20):
        fresh.look()
    assert watched.silent(7)
    assert [line.split("; ")[-1] for line in watched.said if "no such file" in line] == [
        "the rows before go on serving"
    ]
    (watched.folder / "away.csv").rename(watched.table)
    for _ in range(LONGEST):
        fresh.look()
    assert sum("240 rows read anew" in line for line in watched.said) == 1
    assert watched.silent(7)


def test_what_changed_since_the_store_was_read_counts(watched: Watched) -> None:
    """As `party serve` starts, or as a table is read."""
    watched.gone.write_text("k\n7\n")
    fresh = watched.fresh()
    fresh.look()
    fresh.look()
    assert watched.silent(7)
    read = watched.read

    def slow() -> Store:
        store = read()
        watched.gone.write_text("k\n7\n8\n9\n")
        return store

    watched.stores[:] = [read()]
    fresh._read = slow
    fresh.look(asked=True)
    fresh.look()
    fresh.look()
    assert watched.said[-1].startswith("3 rows take no part")
    pd.read_csv(watched.table).iloc[:-1].to_csv(watched.table, index=False)
    fresh = Fresh(watched.config.source, watched.stores[-1], read, watched.stores.append, watched.said.append)
    fresh.look()
    fresh.look()
    assert watched.stores[-1].blank == PEOPLE - 1


@pytest.mark.parametrize("bad", [None, "k\nabc\n", "mail\n7\n", ""])
def test_a_list_that_cannot_be_read_any_more_holds_as_it_was(watched: Watched, bad: str | None) -> None:
    watched.gone.write_text("k\n7\n")
    fresh = watched.fresh()
    fresh.look()
    fresh.look()
    watched.said.clear()
    watched.gone.unlink() if bad is None else watched.gone.write_text(bad)
    for _ in range(20):
        fresh.look()
    assert watched.silent(7)
    [line] = watched.said
    assert line.startswith(str(watched.gone))
    assert line.endswith("; the people left out before stay so")
    assert "abc" not in line
    fresh.look(asked=True)
    assert watched.silent(7)
    watched.gone.write_text("k\n8\n9\n")
    fresh.look()
    fresh.look()
    assert watched.said[-1].startswith("2 rows take no part")
