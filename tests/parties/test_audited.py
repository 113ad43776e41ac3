"""The offline attacks on what real runs of three parties have left, and what they refuse."""

import json
import math
import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from parties import process
from parties.audit_completion import completion
from parties.audit_inversion import inversion
from parties.audited import numbers, state_of
from parties.config import Config, load
from parties.errors import ConfigError, DataError, StorageError
from parties.finished import finished
from parties.phases import prepare
from parties.train import complete_run
from parties.unfinished import Unfinished
from protos.memory import together
from psi import IdError
from splitnn import feature_inversion, model_completion
from splitnn.spread import Estimate

NAMES = ("advertiser", "logistics", "platform")
PEOPLE = 700


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_completion, "STEPS", 3)
    monkeypatch.setattr(model_completion, "STRENGTHS", (0.1,))
    monkeypatch.setattr(feature_inversion, "STEPS", 50)


def person(number: int) -> str:
    return f"p{number}@mail.example"


def tables() -> dict[str, pd.DataFrame]:
    """Each lacks a few people and has the others in its own order; of some, platform has two rows."""
    random = np.random.default_rng(1)
    columns = {name: random.normal(size=PEOPLE) for name in ("a", "b", "c")}
    kind = random.choice(["x", "y", "z"], PEOPLE)
    yes = (columns["a"] + columns["b"] + random.normal(size=PEOPLE) / 2 > 0).astype(int)
    email = [person(number) for number in range(PEOPLE)]
    made = {
        "platform": pd.DataFrame({"email": email, "c": columns["c"], "bought": yes}),
        "logistics": pd.DataFrame({"email": email, "a": columns["a"], "kind": kind}),
        "advertiser": pd.DataFrame({"email": email, "b": columns["b"]}),
    }
    made["platform"] = pd.concat([made["platform"], made["platform"][:50]])
    return {
        name: table[20 * place :].sample(frac=1, random_state=place)
        for place, (name, table) in enumerate(made.items())
    }


def trained(
    root: Path, certificates: Path, identities: dict[str, Any], fusion: str = "concat", privacy: str = ""
) -> dict[str, Path]:
    """The run's folder of each party, which is <home>/runs/<run>/<party>; party.toml is in <home>."""
    configs = {}
    contract = (
        'version = 1\nname = "small"\nlabel_holder = "platform"\nseed = 1\nids.type = "email"\n'
        'psi = { protocol = "insecure-hash", allow_insecure = true }\nexamples.per_entity = "several"\n'
        f'model = {{ cut = 4, bottom_hidden = [8], top_hidden = [8], fusion = "{fusion}" }}\n'
        'evaluation = { test = 0.4, importance = "none" }\n'
        f"training = {{ epochs = 3, batch = 32, learning_rate = 0.01 }}\n{privacy}"
    ) + "".join(f'[parties.{name}]\nkey = "{identities[name].fingerprint}"\n' for name in NAMES)
    for name, table in tables().items():
        home = root / name
        home.mkdir()
        table.to_csv(home / "table.csv", index=False)
        (home / "run.toml").write_text(contract)
        holds = name == "platform"
        label = ', label = "bought"' if holds else ""
        (home / "party.toml").write_text(
            f'party = "{name}"\ndata = {{ file = "table.csv", id = "email"{label} }}\n'
            f'tls = {{ ca = "{certificates}/ca.pem", certificate = "{certificates}/{name}.pem", '
            f'key = "{certificates}/{name}.key" }}\n'
            f'link = {{ {"listen" if holds else "hub"} = "127.0.0.1:1" }}\n'
            + ("evaluation = { keep_activations = true }\n" if holds and fusion == "concat" else "")
        )
        configs[name] = load(home / "party.toml")
    torch.set_num_threads(1)
    together({name: complete_run(prepare(one), Unfinished.of(one, {})) for name, one in configs.items()})
    return {name: next((root / name / "runs").glob(f"small-*/{name}/summary.json")).parent for name in NAMES}


@pytest.fixture(scope="module")
def federation(
    tmp_path_factory: pytest.TempPathFactory, certificates: Path, identities: dict[str, Any]
) -> dict[str, Path]:
    return trained(tmp_path_factory.mktemp("federation"), certificates, identities)


def config_of(folder: Path) -> Config:
    return load(folder.parents[2] / "party.toml")


def labels(folder: Path, people: Any = range(100, 500), name: str = "labels.csv", **more: Any) -> Path:
    """What somebody knows of these people's labels; ids are written in another way."""
    bought = tables()["platform"].drop_duplicates("email").set_index("email")["bought"]
    emails = [person(number) for number in people]
    table = {"email": [email.upper() for email in emails], "bought": bought[emails].to_numpy(), **more}
    pd.DataFrame(table).to_csv(folder / name, index=False)
    return folder / name


def test_a_feature_holder_completes_its_own_model(federation: dict[str, Path], tmp_path: Path) -> None:
    run = finished(config_of(federation["logistics"]), federation["logistics"])
    found = completion(run, labels(tmp_path, [*range(10, 500), 5]), None, 60)
    assert found.record["users"] == 460  # advertiser and logistics lack the first 40
    assert (found.record["known"], found.record["classes"]) == (60, 2)
    assert found.record["run"] == json.loads((run.folder / "summary.json").read_text())["run"]
    assert found.lines[-1] == found.record["verdict"]
    assert found.record["verdict"].split(":")[0] == state_of(Estimate(**found.record["gain"]))
    assert found.record["attack"]["linear"]["mean"] > 0.7  # the label depends on its column
    assert found == completion(run, tmp_path / "labels.csv", "bought", 60)
    assert completion(run, labels(tmp_path, range(100, 180)), None, None).record["known"] == 40


def test_a_feature_holder_inverts_what_it_sends(federation: dict[str, Path]) -> None:
    run = finished(config_of(federation["logistics"]), federation["logistics"])
    found = inversion(run, known=300)
    assert [*found.record["columns"]] == ["a", "kind"]
    assert found.record["users"] == len(run.rows) == PEOPLE - 40
    assert found.record["columns"]["a"]["state"] == "leaks"
    assert found.record["columns"]["a"]["r2"]["mean"] > 0.5
    assert found.record["verdict"].startswith("leaks: activations tell more than its mean does of a (R2 ")
    assert found.lines[-1] == found.record["verdict"]


def test_the_label_holder_inverts_what_it_received(federation: dict[str, Path], tmp_path: Path) -> None:
    """Of a user with two examples only one counts."""
    run = finished(config_of(federation["platform"]), federation["platform"])
    leaked = tables()["logistics"].sample(frac=1, random_state=9).assign(one=1)
    leaked.to_csv(tmp_path / "leaked.csv", index=False)
    found = inversion(run, tmp_path / "leaked.csv", "logistics", 150)
    tested = pd.read_parquet(run.folder / "test_scores.parquet")["id"]
    assert found.record["users"] == tested.nunique()
    assert found.record["columns"].keys() == {"a", "kind"}
    assert found.lines[0] == found.record["left_out"][0]
    assert found.lines[0].endswith("column 'one' is left out: constant in training")
    column = found.record["columns"]["a"]
    assert column["state"] == "leaks"
    assert column["r2"]["mean"] > column["baseline"]["mean"] + 0.2  # the label tells some of it
    # What was received is what the other party's own audit computes.
    theirs = finished(config_of(federation["logistics"]), federation["logistics"])
    of_email = dict(zip(tested, run.tensors("activations.safetensors")["logistics"], strict=True))
    emails = pd.read_parquet(theirs.folder / "alignment.parquet")["id"]
    with torch.no_grad():
        sent = theirs.bottom(b"any").eval()(*theirs.features(theirs.rows).batch(torch.arange(len(emails))))
    for email, activation in zip(emails, sent, strict=True):
        assert email not in of_email or torch.allclose(of_email[email], activation, atol=1e-5)


def test_under_a_secure_sum_a_feature_holder_inverts_what_the_others_hide(
    tmp_path: Path, certificates: Path, identities: dict[str, Any]
) -> None:
    folder = trained(tmp_path, certificates, identities, "secure-sum")["logistics"]
    found = inversion(finished(config_of(folder), folder), known=150)
    assert found.lines[0].endswith("its own columns, as if all other feature holders told what they send")
    assert found.record["columns"]["a"]["state"] == "leaks"


def test_noise_on_activations_is_in_what_a_feature_holder_inverts(
    federation: dict[str, Path], tmp_path: Path, certificates: Path, identities: dict[str, Any]
) -> None:
    noise = "privacy = { embedding_clip = 1.0, embedding_sigma = 4.0 }\n"
    noisy = trained(tmp_path, certificates, identities, privacy=noise)["logistics"]
    told = [
        inversion(finished(config_of(folder), folder), known=150).record["columns"]["a"]
        for folder in (federation["logistics"], noisy)
    ]
    assert told[0]["r2"]["low"] > 0.5
    assert told[1]["r2"]["mean"] < 0.1


def test_the_command(
    federation: dict[str, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = federation["logistics"]
    monkeypatch.chdir(folder.parents[2])
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    labels(folder.parents[2])

    def party(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["party", "audit", *words])
        with pytest.raises(SystemExit) as ended:
            process.main()
        said = capsys.readouterr()
        return int(ended.value.code or 0), said.out, said.err

    code, out, err = party("completion", str(folder), "--labels", "labels.csv", "--json")
    assert (code, err) == (0, "")
    assert json.loads(out)["known"] == 100
    code, out, err = party("inversion", str(folder), "--known", "100")
    assert (code, err) == (0, "")
    assert out.splitlines()[1].startswith("100 of 660 users known, in 10 draws;")
    code, out, err = party("inversion", "runs")
    assert (code, out) == (2, "")
    assert err == "party: runs: holds no finished run; give a run's folder, the one of its summary.json\n"


Spoil = Callable[[Path], Any]


def broken(file: str, content: bytes = b"{") -> Spoil:
    return lambda folder: (folder / file).write_bytes(content)


def other_table(folder: Path) -> None:
    table = pd.read_csv(folder.parents[2] / "table.csv")
    table[::-1].to_csv(folder.parents[2] / "table.csv", index=False)


def other_contract(folder: Path) -> None:
    path = folder.parents[2] / "run.toml"
    path.write_text(path.read_text().replace("epochs = 3", "epochs = 4"))


@pytest.mark.parametrize(
    ("spoil", "error", "said"),
    [
        (lambda folder: (folder / "summary.json").unlink(), ConfigError, "holds no finished run"),
        (broken("summary.json"), StorageError, "damaged"),
        (broken("summary.json", b'{"party": "bank"}'), ConfigError, "is not a run of logistics"),
        (broken("pipeline.json"), StorageError, "pipeline is damaged"),
        (broken("model.safetensors"), StorageError, "damaged"),
        (broken("alignment.parquet"), StorageError, "damaged"),
        (other_table, DataError, "is not the table of the run"),
        (other_contract, ConfigError, "training.epochs: 4 here, 3 at the run"),
    ],
)
def test_a_run_that_cannot_be_read(
    federation: dict[str, Path], tmp_path: Path, spoil: Spoil, error: type[Exception], said: str
) -> None:
    home = federation["logistics"].parents[2]
    shutil.copytree(home, tmp_path / "home")
    folder = tmp_path / "home" / federation["logistics"].relative_to(home)
    spoil(folder)
    with pytest.raises(error, match=said) as told:
        finished(config_of(folder), folder)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("known", "error", "said"),
    [
        (lambda folder: labels(folder, range(100, 110)), DataError, "12 are needed: bring more labels"),
        (lambda folder: labels(folder, range(20, 39)), DataError, "of 0 common users"),
        (
            lambda folder: labels(folder, bought=1),
            DataError,
            "has 1 distinct values",
        ),
        (lambda folder: labels(folder, bought=range(400)), DataError, "has 400 distinct values"),
        (lambda folder: labels(folder, other=1), DataError, "--label: bought, other"),
        (lambda folder: labels(folder, email=""), DataError, "of 0 common users"),
        (lambda folder: labels(folder, email="no address"), IdError, "labels.csv: column 'email'"),
    ],
)
def test_labels_that_will_not_do(
    federation: dict[str, Path], tmp_path: Path, known: Any, error: type[Exception], said: str
) -> None:
    run = finished(config_of(federation["logistics"]), federation["logistics"])
    with pytest.raises(error, match=said) as told:
        completion(run, known(tmp_path), None, None)
    assert "\n" not in str(told.value)
    assert "p100@" not in str(told.value)


def test_a_label_file_without_the_ids(federation: dict[str, Path], tmp_path: Path) -> None:
    run = finished(config_of(federation["logistics"]), federation["logistics"])
    pd.DataFrame({"user": [1], "bought": [1]}).to_csv(tmp_path / "labels.csv", index=False)
    with pytest.raises(DataError, match="has no column email: its users' ids"):
        completion(run, tmp_path / "labels.csv", None, None)
    with pytest.raises(DataError, match=r"must be 4 to 380 of these 400; set --known"):
        completion(run, labels(tmp_path), None, 390)


def test_what_is_for_the_other_role_is_refused(federation: dict[str, Path], tmp_path: Path) -> None:
    runs = {name: finished(config_of(folder), folder) for name, folder in federation.items()}
    file = labels(tmp_path)
    for call, said in (
        (lambda: completion(runs["platform"], file, None, None), "platform holds the label"),
        (lambda: inversion(runs["logistics"], file), "--columns and --partner are for the label holder"),
        (lambda: inversion(runs["platform"]), "--columns is missing"),
        (lambda: inversion(runs["platform"], file), "--partner must be one of advertiser, logistics"),
        (lambda: inversion(runs["platform"], file, "bank"), "--partner must be one of advertiser, logistics"),
    ):
        with pytest.raises(ConfigError, match=said):
            call()
    few = labels(tmp_path, range(100, 110), "few.csv")
    with pytest.raises(DataError, match="of its users are among the run's test users, and 40 are needed"):
        inversion(runs["platform"], few, "logistics")
    with pytest.raises(DataError, match="known must be at least 20"):
        inversion(runs["logistics"], known=1)


def test_what_a_run_leaves_is_its_owners_alone(federation: dict[str, Path]) -> None:
    for name, folder in federation.items():
        left = {path.name: path.stat().st_mode & 0o077 for path in [folder, *folder.iterdir()]}
        assert not any(left.values())
        assert {"model.safetensors", "pipeline.json", "alignment.parquet", "summary.json"} <= left.keys()
        assert ("test_scores.parquet" in left) == (name == "platform")


def test_activations_are_kept_on_demand_only(federation: dict[str, Path], tmp_path: Path) -> None:
    """Readable by their owner alone; a feature holder cannot ask for it, and has none."""
    kept = federation["platform"] / "activations.safetensors"
    assert kept.stat().st_mode & 0o777 == 0o600
    assert not (federation["logistics"] / "activations.safetensors").exists()
    hidden = tmp_path / "hidden"
    os.rename(kept, hidden)
    try:
        run = finished(config_of(federation["platform"]), federation["platform"])
        with pytest.raises(ConfigError, match=r"evaluation.keep_activations = true"):
            inversion(run, labels(tmp_path), "logistics")
    finally:
        os.rename(hidden, kept)


def test_states() -> None:
    assert numbers(Estimate(math.nan, math.nan, math.nan)) == {"mean": None, "low": None, "high": None}
    assert state_of(Estimate(math.nan, math.nan, math.nan)) == "not decided"
    assert state_of(Estimate(0.1, 0.02, 0.2)) == "leaks"
    assert state_of(Estimate(0.0, -0.02, 0.005)) == "no leak"
    assert state_of(Estimate(0.1, -0.02, 0.2)) == "not decided"
