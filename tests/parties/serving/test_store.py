"""A store finds who is in which row, overrides columns as another table would have them, and is renewed."""

from collections.abc import Callable
from dataclasses import replace
from datetime import date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import psi
from parties.errors import DataError, StorageError
from parties.id_kinds import digest_key
from parties.model import Model
from parties.serving.fresh import Fresh
from parties.serving.schema import schema_digest
from parties.serving.scorer import BadRequest, Scorer
from parties.serving.store import DigestIndex, Store, users_of
from parties.sources.files import source_of
from tests.parties.serving.conftest import HUB, PARTNER, PEOPLE

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


def test_who_is_excluded_while_it_serves_is_answered_for_no_more(
    trained: dict[str, Model], tmp_path: Path
) -> None:
    """At the label holder a request about him is refused; a feature holder has nothing of his to give."""
    gone = tmp_path / "gone.csv"
    gone.write_text("k\n")
    for name, model in trained.items():
        data = model.config.party.data.model_copy(update={"exclude_ids": gone})
        config = replace(model.config, party=model.config.party.model_copy(update={"data": data}))
        users, said = users_of(model.config, model), list[str]()
        stores = [Store.read(config, model, users)]
        fresh = Fresh(
            config.source,
            stores[0],
            lambda config=config, model=model, users=users: Store.read(config, model, users),
            stores.append,
            said.append,
            gone,
        )
        fresh.look()
        assert len(stores) == 1
        gone.write_text("k\n7\n")
        fresh.look()
        fresh.look()
        assert said[-1].startswith("1 rows take no part, as they have one of the 1 ids of ")
        before, now = stores
        digest = psi.digest_of(["7"], ["integer"], digest_key(config.contract.digest, model.kind))
        one = np.frombuffer(digest or b"", np.uint8).reshape(1, 16)
        assert (before.silent.find(one), now.silent.find(one)) == ([-1], [0])
        assert before.rows_of(one) != before.blank
        assert now.rows_of(one) == now.blank
        user = DigestIndex(users).find(one)[0]
        assert user >= 0
        assert now.rows[user] == now.blank
        assert (np.delete(now.rows, user) == np.delete(before.rows, user)).all()
        gone.write_text("k\n")
        if name == HUB:
            scorer = Scorer(config, model, now, users, [], 10, 1.0)
            with pytest.raises(BadRequest, match=r"id 2 is not scored: it is among data\.exclude_ids"):
                scorer.score([["8"], ["7"]], {})
