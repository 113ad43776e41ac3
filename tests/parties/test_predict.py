"""Predictions of two companies in one process, their files included."""

import json
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from parties import scored
from parties.config import load
from parties.ending import ended
from parties.errors import AlignmentError, BudgetError, ConfigError, ContractError, DataError, StorageError
from parties.ledger import Ledger
from parties.model import chosen, model
from parties.predict import complete_prediction, prepare, said, to_score
from parties.prediction import Prepared, refuse_changes, unfinished_with
from parties.scored import Placed
from parties.unfinished import Unfinished
from protos.memory import Together, together
from protos.rounds import (
    Bind,
    PeerFailed,
    PeerRestarted,
    Progress,
    Round,
    Rounds,
    RoundsError,
    Send,
    mapped,
)
from protos.simulator import Faults, Simulation
from psi import Ids
from splitnn import scoring
from tests.parties import small

HOLES = "{ cut = 3, bottom_hidden = [6], top_hidden = [16], party_dropout = 0.2 }"
NOISE = "{ embedding_clip = 1.0, embedding_sigma = 8.0, embedding_budget = 2.2 }"


class Stopped(Exception):
    pass


@dataclass
class Companies:
    """Homes of the parties with a finished run. files: to score, by party; of the others their table."""

    homes: dict[str, Path]
    runs: list[dict[str, Any]]
    files: dict[str, Path] = field(default_factory=dict)
    said: list[str] = field(default_factory=list)

    def prepared(self, name: str, run: str | None = None) -> tuple[Prepared, Unfinished]:
        config = load(self.homes[name] / "party.toml")
        trained = model(config, chosen(config, run))
        source = config.newer(self.files[name]) if name in self.files else None
        config = to_score(config, trained, source)
        unfinished = unfinished_with(trained, config)
        refuse_changes(unfinished, config)
        return prepare(config, trained), unfinished

    def predict(self, stop_at: int | None = None, runs: dict[str, str] | None = None) -> Together[Any]:
        """stop_at: so many users scored at the label holder."""

        def hear(name: str, word: Round) -> None:
            done = isinstance(word, Progress) and word.phase == "scoring" and word.done
            if name == "platform" and done and stop_at is not None and done >= stop_at:
                raise Stopped

        parties = {}
        for name in self.homes:
            prepared, unfinished = self.prepared(name, (runs or {}).get(name))
            parties[name] = complete_prediction(prepared, unfinished, say=self.said.append)
        return together(parties, hear)

    def scores(self, summary: dict[str, Any]) -> pd.DataFrame:
        return pd.read_parquet(summary["platform"]["scores"])

    def tested(self) -> pd.DataFrame:
        folder = small.folder_of(self.homes["platform"], self.runs[-1]["platform"])
        return pd.read_parquet(folder / "test_scores.parquet")

    def bring(self, name: str, table: pd.DataFrame) -> None:
        self.files[name] = self.homes[name] / "new.parquet"
        table.to_parquet(self.files[name], index=False)


Made = Callable[..., Companies]


@pytest.fixture
def companies(tmp_path: Path, certificates: Path, identities: dict[str, Any]) -> Made:
    def make(calibrated: bool = False, **sections: str) -> Companies:
        more = {"platform": 'evaluation.calibration = "temperature"\n'} if calibrated else {}
        homes = small.write(tmp_path, certificates, identities, more)
        small.agree(homes, identities, **sections)
        return Companies(homes, [small.run(homes)])

    return make


@pytest.fixture
def in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (scoring, scored):
        monkeypatch.setattr(module, "EVALUATION_ROWS", 20)
        monkeypatch.setattr(module, "BLOCK", 40)


@pytest.mark.parametrize("calibrated", [False, True])
def test_a_score_is_that_of_the_run(companies: Made, calibrated: bool) -> None:
    made = companies(calibrated)
    results = made.predict().results
    found, tested = made.scores(results), made.tested()
    assert list(found.columns) == ["row", "id", "score", "logit", "parties"]
    assert found["row"].tolist() == [*range(small.PEOPLE)]
    assert found["id"].tolist() == pd.read_csv(made.homes["platform"] / "table.csv")["k"].astype(str).tolist()
    assert set(found["parties"]) == {"platform,logistics"}
    np.testing.assert_allclose(found["score"][tested["row"]], tested["score"], atol=1e-6)
    ours, theirs = results["platform"], results["logistics"]
    assert (ours["together"], ours["alone"], ours["unscored"]) == (small.PEOPLE, 0, 0)
    assert ours["run"] == theirs["run"] == made.runs[0]["platform"]["run"]
    assert ours["version"] == theirs["version"]
    assert ours["prediction"] == theirs["prediction"] != ours["run"]
    folder = Path(ours["scores"]).parent
    files = {"scores.parquet", "summary.json", "agreement.json", "audit.jsonl"}
    assert {path.name for path in folder.iterdir()} == files
    assert not (folder.parent / "prediction-unfinished").exists()
    there = small.folder_of(made.homes["logistics"], made.runs[0]["logistics"]) / folder.name
    assert {path.name for path in there.iterdir()} == files - {"scores.parquet"}
    assert "scores" not in theirs
    assert "240 rows: 240 scored by all parties, 0 alone, 0 without a score" in said(ours)
    assert said(theirs).startswith("240 common users scored for the label holder")


def new_rows(made: Companies) -> pd.DataFrame:
    """Known and unknown people, one without an id, twenty who are there twice."""
    table = pd.read_csv(made.homes["platform"] / "table.csv").drop(columns="bought")
    strange = table[:30].assign(k=np.arange(5000, 5030))
    none = table[:1].assign(k=None)
    return pd.concat([table[100:], strange, none, table[100:120].assign(x=0.5)]).astype({"k": "Int64"})


def test_rows_outside_the_alignment_are_scored_alone(companies: Made) -> None:
    made = companies(model=HOLES)
    made.bring("platform", new_rows(made))
    outcome = made.predict()
    found, summary = made.scores(outcome.results), outcome.results["platform"]
    assert (summary["together"], summary["alone"], summary["unscored"]) == (160, 31, 0)
    together_ = found["parties"] == "platform,logistics"
    assert found.index[~together_].tolist() == [*range(140, 171)]
    assert set(found["parties"][~together_]) == {"platform"}
    assert found["score"].between(0, 1).all()
    # The same people with other columns of the label holder's own: other scores, by the same activations.
    assert found["id"][171:].tolist() == found["id"][:20].tolist()
    assert found["score"][171:].tolist() != found["score"][:20].tolist()
    # Own columns alone decide.
    prepared, _ = made.prepared("platform")
    columns = prepared.features.batch(torch.arange(140, 171))
    logits = scoring.score_alone(prepared.model.bottom(b""), prepared.model.top(b""), columns, 1)
    np.testing.assert_allclose(found["logit"][140:171], logits[:, 0].numpy(), atol=1e-6)
    # Nobody else was asked about them: as many rows cross as are common.
    sent = [len(word.payload) for word in outcome.transcript if word.kind == "prediction"]
    assert sent == [24 + 4 * 3 * 140]


def test_what_was_not_learned_is_not_made_up(companies: Made) -> None:
    made = companies()
    made.bring("platform", new_rows(made))
    results = made.predict().results
    found = made.scores(results)
    nobody = found["parties"].isna()
    assert nobody.sum() == results["platform"]["unscored"] == 31
    assert found["score"][nobody].isna().all()
    assert found["logit"][nobody].isna().all()
    assert found["score"][~nobody].notna().all()
    assert any("31 rows outside the alignment have no score" in line for line in made.said)


def test_a_feature_holder_may_bring_newer_rows(companies: Made) -> None:
    made = companies()
    before = made.scores(made.predict().results)
    table = pd.read_csv(made.homes["logistics"] / "table.csv")
    table.loc[:29, "amount"] += 2
    made.bring("logistics", table.sample(frac=1, random_state=1))
    results = made.predict().results
    assert [results[name]["drift"]["alerts"] for name in made.homes] == [0, 0]
    after = made.scores(results)
    assert after["score"][:30].tolist() != before["score"][:30].tolist()  # not each: some units are silent
    np.testing.assert_allclose(after["score"][30:], before["score"][30:], atol=1e-6)


def test_drift_of_what_is_scored_is_told_at_home(companies: Made) -> None:
    made = companies()
    table = pd.read_csv(made.homes["logistics"] / "table.csv")
    strange = table[:200].assign(k=np.arange(5000, 5200), spent=9e9)
    made.bring("logistics", pd.concat([table.assign(amount=table["amount"] + 3), strange]))
    results = made.predict().results
    lines = [line for line in made.said if line.startswith("drift")]
    assert [line.split(": PSI")[0] for line in lines] == ["drift: alert: column 'amount'"]
    found = results["logistics"]["drift"]
    assert found["columns"][0]["name"] == "amount"
    assert (found["alerts"], found["rows"]["now"]) == (1, small.PEOPLE)  # strangers were not scored
    assert results["platform"]["drift"]["alerts"] == 0
    [statistics] = made.homes["logistics"].glob("runs/*/logistics/statistics.json")
    statistics.unlink()  # as of a model of an earlier release
    assert "drift" not in made.predict().results["logistics"]


def test_an_interrupted_prediction_goes_on(companies: Made, in_blocks: None) -> None:
    made = companies(privacy=NOISE)
    with pytest.raises(Stopped):
        made.predict(stop_at=140)
    [folder] = made.homes["platform"].glob("runs/*/platform/prediction-unfinished")
    assert {path.name for path in folder.glob("scores*")} == {f"scores-{n:06}.safetensors" for n in (1, 2, 3)}
    assert made.prepared("platform")[1].holds() == "the alignment and 3 scored block(s)"
    run = json.loads((folder / "run.json").read_text())["run"]
    outcome = made.predict()
    assert outcome.results["platform"]["prediction"] == run
    assert f"prediction {run[:12]} goes on" in made.said
    sent = [len(word.payload) for word in outcome.transcript if word.kind == "prediction"]
    assert sent == [24 + 4 * 3 * 20] * 6
    assert not [word for word in outcome.transcript if word.kind == "terms"]
    # With noise of one prediction, however often it was begun: charged once.
    config = load(made.homes["logistics"] / "party.toml")
    own = Ledger(config.party.storage, "logistics", config.contract.parties["logistics"].key)
    assert [(charge.run, charge.releases) for charge in own.charges()][1:] == [(run, 1)]
    assert not folder.exists()
    assert made.scores(outcome.results)["score"].notna().all()


def test_what_has_changed_is_refused_and_may_be_dropped(companies: Made, in_blocks: None) -> None:
    made = companies()
    with pytest.raises(Stopped):
        made.predict(stop_at=100)
    made.bring("platform", new_rows(made))
    with pytest.raises(ConfigError, match=r"new\.parquet: it is not what it was .*`party predict --afresh`"):
        made.prepared("platform")
    made.files.clear()
    [folder] = made.homes["platform"].glob("runs/*/platform/prediction-unfinished")
    whole = (folder / "run.json").read_bytes()
    (folder / "run.json").write_bytes(whole[:20])
    with pytest.raises(StorageError, match=r"damaged; begin anew with `party predict --afresh`"):
        made.prepared("platform")
    (folder / "run.json").write_bytes(whole)
    [folder] = made.homes["logistics"].glob("runs/*/logistics/prediction-unfinished")
    (folder / "alignment.parquet").unlink()
    results = made.predict().results
    assert results["platform"]["together"] == small.PEOPLE
    assert any("is dropped, as not all parties have it; a new one begins" in line for line in made.said)


def test_other_versions_do_not_meet(companies: Made, identities: dict[str, Any]) -> None:
    made = companies()
    made.runs.append(small.run(made.homes))
    first = made.runs[0]["platform"]["run"]
    for outcome in made.predict(runs={"logistics": first}).results.values():
        assert isinstance(outcome, ContractError)
        assert "the parties would score with different models: digest " in str(outcome)
        assert str(outcome).count("\n") == 0
    assert made.predict(runs=dict.fromkeys(made.homes, first)).results["platform"]["run"] == first
    assert made.predict().results["platform"]["run"] == made.runs[1]["platform"]["run"]
    folder = small.folder_of(made.homes["platform"], made.runs[0]["platform"])
    assert made.prepared("platform", str(folder))[0].model.run.hex() == first
    small.agree(made.homes, identities, training="{ epochs = 1, batch = 32 }")
    with pytest.raises(ConfigError, match="holds no finished run under this contract"):
        made.predict()
    with pytest.raises(ConfigError, match=r"training\.epochs"):
        made.prepared("platform", str(folder))


BAD: dict[str, tuple[Callable[[pd.DataFrame], pd.DataFrame], str]] = {
    "no rows": (lambda table: table[:0], "a header, but no rows"),
    "another schema": (lambda table: table.rename(columns={"x": "y"}), "no column 'x'"),
    "no ids": (lambda table: table.drop(columns="k"), "no column 'k'"),
    "text": (lambda table: table.assign(x="many"), "column 'x': 240 cell"),
    "infinite": (lambda table: table.assign(x=np.inf), "an infinite or absurd number"),
    "no lists": (lambda table: table.assign(pages=1.5), "column 'pages' is of type double; a bag needs"),
}


def test_a_file_that_does_not_fit_is_refused_before_anybody_is_met(companies: Made) -> None:
    made = companies()
    table = pd.read_csv(made.homes["platform"] / "table.csv")
    for spoil, why in BAD.values():
        made.bring("platform", spoil(table))
        with pytest.raises(DataError, match=why):
            made.prepared("platform")
    folder = small.folder_of(made.homes["platform"], made.runs[0]["platform"])
    made.files.clear()
    for name in ("target.json", "model.safetensors", "pipeline.json"):
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[: len(content) // 2])
        with pytest.raises((StorageError, DataError), match="damaged"):
            made.prepared("platform")
        (folder / name).write_bytes(content)
    made.prepared("platform")


def test_unknown_ids_only(companies: Made) -> None:
    made = companies()
    made.bring("platform", new_rows(made)[140:170])
    for outcome in made.predict().results.values():
        assert isinstance(outcome, AlignmentError)
        assert "0 users in common, fewer than psi.minimum = 100" in str(outcome)
    assert not [*made.homes["platform"].glob("runs/*/platform/prediction-unfinished")]


def test_each_prediction_is_charged(companies: Made) -> None:
    """A run of two epochs, then predictions until the budget ends."""
    made = companies(privacy=NOISE)
    outcome = made.predict().results["logistics"]["privacy"]["partners"]["platform"]
    assert (outcome["releases"], outcome["rows"], outcome["runs"]) == (1, small.PEOPLE, 2)
    assert outcome["epsilon"] < outcome["total"]
    assert "privacy" not in made.predict().results["platform"]
    with pytest.raises(BudgetError, match="over the budget"):
        made.predict()


def test_the_same_scores_whoever_is_killed(companies: Made, in_blocks: None) -> None:
    """Under faults, each process started again until it has its results: nothing is scored twice with other
    noise, and nothing is left half-written."""
    made = companies(privacy=NOISE.replace("2.2", "1000.0"))
    folders = {name: small.folder_of(home, made.runs[0][name]) for name, home in made.homes.items()}
    prepared = {name: made.prepared(name) for name in made.homes}
    sent: dict[tuple[bytes, int], bytes] = {}

    def heard(rounds: Rounds[Any]) -> Rounds[Any]:
        run = b""

        def each(word: Round) -> Generator[Round, Any, Any]:
            nonlocal run
            match word:
                case Bind(found):
                    run = found
                case Send("platform", "prediction", bytes() as payload):
                    number = int.from_bytes(payload[8:16], "little")
                    assert sent.setdefault((run, number), payload) == payload
            return (yield word)

        return mapped(rounds, each)

    def process(name: str) -> Any:
        one, unfinished = prepared[name]
        _, hub = prepared["platform"]
        while not unfinished.ended():
            rounds = complete_prediction(one, unfinished)
            try:
                return (yield lambda rounds=rounds: heard(rounds))
            except PeerRestarted:
                continue
            except PeerFailed:
                if unfinished.results() is None or not (hub.ended() or not hub.folder.exists()):
                    raise
                break  # the label holder tells who calls
        return ended(unfinished, lambda line: None)

    went_on = 0
    for seed in range(6):
        programs = {name: partial(process, name) for name in made.homes}
        faults = Faults(drop=0.02, cuts=1, kills=2, words=250)
        again = lambda name, error: 3.0 if isinstance(error, RoundsError) else None  # noqa: E731
        ends = Simulation({}, "platform", seed, faults, programs=programs, again=again).run()
        assert not [end for end in ends.values() if isinstance(end, Exception)], ends
        assert len({end["prediction"] for end in ends.values()}) == 1
        found = pd.read_parquet(ends["platform"]["scores"])
        assert found["score"].notna().all()
        assert not [path for folder in folders.values() for path in folder.rglob("*.partial")]
        runs = {run for run, _ in sent}
        went_on += len(sent) == 12 * len(runs)
        sent.clear()
    assert went_on > 0
    config = load(made.homes["logistics"] / "party.toml")
    own = Ledger(config.party.storage, "logistics", config.contract.parties["logistics"].key)
    assert {charge.releases for charge in own.charges()[1:]} <= {0, 1}


@given(data=st.data(), known=st.integers(1, 12))
def test_every_row_of_a_user_is_placed_with_him(data: Any, known: int) -> None:
    """The file's rows: which of the known users each is of."""
    of = data.draw(st.lists(st.integers(0, known - 1), min_size=1, max_size=40))
    first = {user: of.index(user) for user in dict.fromkeys(of)}
    users = [*first]  # in the order of their first rows
    later = [row for row, user in enumerate(of) if first[user] != row]
    ids = Ids(
        np.zeros((len(users), 16), np.uint8),
        np.array([first[user] for user in users]),
        len(of),
        0,
        0,
        len(later),
        np.array(later, np.int64),
        np.array([users.index(of[row]) for row in later], np.int64),
    )
    common = data.draw(st.lists(st.sampled_from(users), unique=True))
    placed = Placed.of(ids, np.array([first[user] for user in common], np.int64))
    found = []
    for at in range(0, len(common), 5):
        chunk = range(at, min(at + 5, len(common)))
        for rows, place in placed.chunk(chunk, lambda rows: (rows,)):
            found += [(int(row), common[at + int(p)]) for row, p in zip(rows[0], place, strict=True)]
    assert sorted(found) == [(row, user) for row, user in enumerate(of) if user in common]
    assert [row for row, _ in found] == placed.block(1).tolist()
    assert torch.tensor([len(placed.starts) - 1]).item() == len(common)
