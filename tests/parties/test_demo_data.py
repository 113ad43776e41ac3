"""The demo's tables: what the issue of honest data asks of them, and their truth."""

import json
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import roc_auc_score

from parties.demo_data import LABEL, DemoData, bayes_auc, generate, split_real
from parties.demo_population import PARTIES, POSITIVE_RATE, SHARE, population
from parties.errors import DataError
from parties.labels import yes_or_no
from parties.sources.files import source_of
from parties.table import read_table
from psi.canonical import canonical
from psi.ids import Ids, normalise

PEOPLE = 20_000
REAL = Path(os.environ.get("PARTY_DATA", Path(__file__).parents[3] / "shared" / "data"))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> DemoData:
    return generate(tmp_path_factory.mktemp("made"), seed=3, people=PEOPLE)


def normalised(column: "pd.Series[str]") -> tuple[Ids, list[str | None]]:
    """The ids of a column of e-mail addresses, and the canonical text of each."""
    ids = normalise([[column]], ["email"], ["email"], b"")
    return ids, [canonical(cell, "email") for cell in column.iloc[ids.rows]]


def ids_of(made: DemoData) -> dict[str, tuple[Ids, list[str | None]]]:
    return {
        party.name: normalised(read_table(source_of(party.file), [party.id_column]).ids["email"])
        for party in made.parties
    }


def truth_of(made: DemoData) -> pd.DataFrame:
    return pd.read_parquet(made.truth.with_suffix(".parquet"))


def test_the_true_intersection_is_what_normalised_ids_give(made: DemoData) -> None:
    common = set.intersection(*(set(texts) for _, texts in ids_of(made).values()))
    assert common == set(truth_of(made)["id"])
    assert json.loads(made.truth.read_text())["aligned"] == len(common)


def test_membership_ids_and_rates(made: DemoData) -> None:
    for name, (ids, _) in ids_of(made).items():
        assert abs(len(ids.rows) / PEOPLE - SHARE[name]) < 0.01
        assert abs(ids.duplicate / ids.total - 0.01) < 0.002
        assert 0 < ids.null < 0.006 * ids.total
        assert 0 < ids.blank < 0.006 * ids.total
    truth = truth_of(made)
    assert 0.30 < len(truth) / PEOPLE < 0.33
    assert abs(truth["label"].mean() - POSITIVE_RATE) < 0.02


def test_each_party_spells_an_id_in_its_own_way(made: DemoData) -> None:
    raw = {
        party.name: set(read_table(source_of(party.file), ["email"]).ids["email"].dropna())
        for party in made.parties
    }
    for one, other in ((0, 1), (0, 2), (1, 2)):
        shared = raw[PARTIES[one]] & raw[PARTIES[other]]
        assert len(shared) < 0.5 * len(truth_of(made)), "equality of raw text must not do"


def test_columns_are_as_a_company_has_them(made: DemoData) -> None:
    tables = {
        party.name: read_table(source_of(party.file), ["email"], labels=[party.label] if party.label else [])
        for party in made.parties
    }
    for party in made.parties:
        found = tables[party.name]
        assert list(found.numeric) == sorted(party.numeric), "kinds are inferred as the generator means them"
        assert list(found.categorical) == sorted(party.categorical)
        assert found.warnings == ()
        assert found.numeric.isna().any().any()
    products = tables["platform"].categorical["favourite_product"].value_counts()
    assert 1000 < len(products) <= 3000
    assert products.iloc[0] > 20 * products.iloc[99]


def test_values_are_missing_at_random_and_not(made: DemoData) -> None:
    frames = population(PEOPLE, np.random.default_rng(0)).frames
    young = frames["platform"].groupby("device")["age"].apply(lambda column: column.isna().mean())
    assert young["app"] > 5 * young["mobile"]
    basket = frames["platform"]["basket_amount"]
    assert basket.mean() < 0.95 * 38 * np.exp(0.7**2 / 2), "large amounts are those that are missing"


@pytest.mark.parametrize("holder", PARTIES)
def test_any_party_can_hold_the_label(tmp_path: Path, holder: str) -> None:
    made = generate(tmp_path, seed=3, people=2_000, label_holder=holder)
    assert made.label_holder == holder
    for party in made.parties:
        columns = pd.read_csv(party.file, nrows=1).columns
        assert (LABEL in columns) == (party.name == holder) == (party.label is not None)
    mine = next(party for party in made.parties if party.name == holder)
    table = read_table(source_of(mine.file), ["email"], mine.numeric, mine.categorical, [mine.label])
    ids, texts = normalised(table.ids["email"])
    values = pd.Series(yes_or_no(table.labels[mine.label], mine.positive or ())[ids.rows], index=texts)
    truth = truth_of(made)
    assert (values[truth["id"]].to_numpy() == truth["label"].to_numpy()).all()


def test_the_seed_decides_every_byte(tmp_path: Path) -> None:
    files = []
    for folder, seed in (("a", 5), ("b", 5), ("c", 6)):
        made = generate(tmp_path / folder, seed, people=500)
        files.append([party.file.read_bytes() for party in made.parties] + [made.truth.read_bytes()])
    assert files[0] == files[1]
    assert files[0][0] != files[2][0]


def test_an_unknown_label_holder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no company 'bank'"):
        generate(tmp_path, label_holder="bank")


def test_probability_is_a_function_of_the_tables_and_calibrated() -> None:
    """Equal columns would give equal probabilities; and labels come at the rate that they say."""
    made = population(60_000, np.random.default_rng(1))
    order = np.argsort(made.probability)
    for part in np.array_split(order, 12):
        expected = made.probability[part]
        error = 4 * np.sqrt(np.mean(expected * (1 - expected)) / len(part))
        assert abs(made.converted[part].mean() - expected.mean()) < error
    everywhere = np.logical_and.reduce(list(made.member.values()))
    realised = roc_auc_score(made.converted[everywhere], made.probability[everywhere])
    assert abs(bayes_auc(made.probability[everywhere]) - realised) < 0.01
    assert 0.85 < realised < 0.91


CHANCE = st.sampled_from([0.1, 0.2, 0.5, 0.9]) | st.floats(0.05, 0.95)


@settings(deadline=None, max_examples=60)
@given(arrays(np.float64, st.integers(2, 12), elements=CHANCE))
def test_bayes_auc_is_the_sum_over_pairs(probability: np.ndarray) -> None:
    right = total = 0.0
    for i, one in enumerate(probability):
        for j, other in enumerate(probability):
            if i != j:
                weight = one * (1 - other)
                total += weight
                right += weight * ((one > other) + 0.5 * (one == other))
    assert bayes_auc(probability) == pytest.approx(right / total)


def small_set(folder: Path) -> Path:
    split = {
        "name": "small",
        "label": "y",
        "positive": ["yes"],
        "label_holder": "shop",
        "parties": {"shop": ["a"], "bank": ["b", "c"], "mill": ["d"], "inn": ["e"]},
        "categorical": ["b"],
        "not_features": ["f"],
    }
    rows = [f"{i},b{i % 3},007,{i / 4},,f,{'yes' if i % 5 else 'no'}" for i in range(1000)]
    (folder / "split.json").write_text(json.dumps(split))
    (folder / "small.csv").write_text("a,b,c,d,e,f,y\n" + "\n".join(rows))
    return folder


def respell(folder: Path, old: str, new: str) -> None:
    text = (folder / "split.json").read_text()
    assert old in text
    (folder / "split.json").write_text(text.replace(old, new))


def test_a_set_is_cut_by_its_split(tmp_path: Path) -> None:
    made = split_real(small_set(tmp_path), tmp_path / "out", seed=1)
    assert [party.name for party in made.parties] == ["shop", "bank", "mill", "inn"]
    assert [party.label for party in made.parties] == ["y", None, None, None]
    assert made.parties[1].categorical == ["b"]
    assert made.parties[1].numeric == ["c"]
    for party in made.parties:
        frame = pd.read_csv(party.file, dtype=str)
        label = [party.label] if party.label else []
        assert sorted(frame) == sorted(["email", *party.numeric, *party.categorical, *label])
        assert 900 <= len(frame) <= 910
    assert (pd.read_csv(made.parties[1].file, dtype=str)["c"] == "007").all(), "values are copied as written"
    common = set.intersection(*(set(texts) for _, texts in ids_of_real(made).values()))
    assert common == set(truth_of(made)["id"])
    assert 600 < len(common) < 700


def ids_of_real(made: DemoData) -> dict[str, tuple[Ids, list[str | None]]]:
    found = {}
    for party in made.parties:
        column = pd.read_csv(party.file, dtype=str, keep_default_na=False)["email"]
        found[party.name] = normalised(column)
    return found


def test_a_person_is_the_same_row_at_every_party(tmp_path: Path) -> None:
    made = split_real(small_set(tmp_path), tmp_path / "out", seed=1)
    columns = {}
    for party, (ids, texts) in zip(made.parties, ids_of_real(made).values(), strict=True):
        frame = pd.read_csv(party.file, dtype=str).iloc[ids.rows]
        columns[party.name] = frame.set_index(pd.Index(texts))
    common = truth_of(made)["id"]
    a = columns["shop"].loc[common, "a"].astype(int).to_numpy()
    assert (columns["mill"].loc[common, "d"].astype(float).to_numpy() == a / 4).all()
    assert (columns["bank"].loc[common, "b"].to_numpy() == [f"b{value % 3}" for value in a]).all()


@pytest.mark.parametrize(
    ("spoil", "wanted"),
    [
        (lambda folder: (folder / "split.json").unlink(), "no split.json"),
        (lambda folder: (folder / "split.json").write_text("{"), "not JSON"),
        (lambda folder: (folder / "split.json").write_text("[]"), "missing"),
        (lambda folder: respell(folder, '{"shop": ["a"]', '{"shop": "a"'), "list of columns"),
        (lambda folder: respell(folder, '"label_holder": "shop"', '"label_holder": "port"'), "label_holder"),
        (lambda folder: (folder / "small.csv").unlink(), "download"),
        (lambda folder: (folder / "small.csv").write_text("a,b\n1,2\n"), "no column 'y'"),
    ],
)
def test_a_folder_that_cannot_be_cut(tmp_path: Path, spoil: object, wanted: str) -> None:
    spoil(small_set(tmp_path))  # type: ignore[operator]
    with pytest.raises(DataError, match=wanted):
        split_real(tmp_path, tmp_path / "out")
    assert not (tmp_path / "out").exists(), "nothing half-written"


@pytest.mark.parametrize(("name", "aligned"), [("online_shoppers", 8_850), ("in_vehicle_coupon", 9_100)])
def test_the_real_sets(tmp_path: Path, name: str, aligned: int) -> None:
    if not (REAL / name).is_dir():
        pytest.skip(f"{REAL / name} is not here; set PARTY_DATA to a folder with the public sets")
    made = split_real(REAL / name, tmp_path, seed=7)
    assert abs(json.loads(made.truth.read_text())["aligned"] - aligned) < 100
    for party in made.parties:
        table = read_table(
            source_of(party.file),
            ["email"],
            party.numeric,
            party.categorical,
            [party.label] if party.label else [],
        )
        assert party.label is None or yes_or_no(table.labels[party.label], party.positive or ()).mean() > 0.1
