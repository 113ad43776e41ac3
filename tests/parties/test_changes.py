"""A restart with something changed is refused, and what changed is named; what cannot matter may change."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from parties import certs, checkpoints, row_files
from parties.certificate import key_fingerprint
from parties.changes import described, refuse_change_while_read, refuse_changes
from parties.config import Config, load
from parties.errors import AccountError, BudgetError, ConfigError, DataError, NetworkError
from parties.news import REASONS
from parties.previous import NOTHING, Previous
from parties.storage import run_folder
from parties.train import run_party
from parties.unfinished import Unfinished, forget, told, under_any_contract
from protos.rounds import PeerFailed
from splitnn.errors import LeakError

CONTRACT = """version = 1
name = "run"
label_holder = "ann"
seed = 1
ids.type = "email"
[parties.ann]
key = "{ann}"
[parties.bob]
key = "{bob}"
"""
PARTY = """party = "bob"
data = { file = "people.csv", id = "email", numeric = ["x"], categorical = ["c"] }
tls = { ca = "certs/ca.pem", certificate = "certs/bob.pem", key = "certs/bob.key" }
link = { hub = "ann:50051" }
training = { learning_rate = 0.01 }
"""
RUN = b"r" * 32


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Of bob, whose run was interrupted after the alignment."""
    certs.issue(tmp_path / "certs", ["ann", "bob"])
    pins = {
        name: key_fingerprint((tmp_path / "certs" / f"{name}.pem").read_bytes()) for name in ("ann", "bob")
    }
    (tmp_path / "run.toml").write_text(CONTRACT.format(**pins))
    (tmp_path / "party.toml").write_text(PARTY)
    (tmp_path / "people.csv").write_text("email,x,c\na@x.org,1,p\n")
    config = load(tmp_path / "party.toml")
    unfinished = Unfinished.of(config, described(config))
    unfinished.begin(RUN)
    unfinished.keep_alignment(RUN, np.array([0]), {})
    return tmp_path


def edit(file: str, old: str, new: str) -> Callable[[Path], None]:
    def change(home: Path) -> None:
        text = (home / file).read_text()
        assert old in text
        (home / file).write_text(text.replace(old, new))

    return change


def again(home: Path) -> Config:
    config = load(home / "party.toml")
    refuse_changes(config, described(config))
    return config


@pytest.mark.parametrize(
    ("change", "names"),
    [
        (edit("run.toml", "seed = 1", "seed = 2"), "run.toml: seed: 2 here, 1 at the unfinished run"),
        (
            edit("run.toml", "ids", "training.batch = 7\nids"),
            "run.toml: training.batch: 7 here, 256 at the unfinished run",
        ),
        (edit("run.toml", "ids", 'psi.protocol = "rr22"\nids'), "run.toml: psi.protocol: "),
        (edit("people.csv", "1", "2"), "people.csv: it is not what it was"),
        (edit("party.toml", '["x"]', '["x", "y"]'), "party.toml: data.numeric is not what it was"),
        (edit("party.toml", 'numeric = ["x"], ', ""), "party.toml: data.numeric is not what it was"),
        (edit("party.toml", "0.01", "0.02"), "party.toml: training.learning_rate is not what it was"),
        (edit("party.toml", "training", 'groups.g = ["x"]\ntraining'), "party.toml: groups"),
        (lambda home: (home / "runs" / "secret").unlink(), "secret"),
    ],
)
def test_refused(home: Path, change: Callable[[Path], None], names: str) -> None:
    change(home)
    with pytest.raises(ConfigError) as raised:
        again(home)
    line = str(raised.value)
    assert names in line
    assert "\n" not in line
    assert re.search(f"the unfinished run {RUN.hex()[:12]}", line)
    assert line.endswith("; put it back to go on, or begin anew with `party run --afresh`")
    for folder in under_any_contract(load(home / "party.toml")):
        forget(folder)
    again(home)


@pytest.mark.parametrize(
    "change",
    [
        lambda home: None,
        edit("party.toml", "ann:50051", "elsewhere:50052"),
        edit("party.toml", "hub =", "wait = 3, hub ="),
        edit("run.toml", 'name = "run"', 'name = "another"'),
        lambda home: (
            (home / "people.csv").rename(home / "new.csv")
            and edit("party.toml", "people.csv", "new.csv")(home)
        ),
        lambda home: next(home.rglob("alignment.parquet")).unlink(),
    ],
    ids=["nothing", "address", "patience", "another run", "place of the table", "nothing kept"],
)
def test_not_refused(home: Path, change: Callable[[Path], None]) -> None:
    change(home)
    again(home)


def test_a_checkpoint_without_its_alignment_is_of_other_data_too(home: Path) -> None:
    [folder] = under_any_contract(again(home))
    (folder / "alignment.parquet").unlink()
    checkpoints.keep(folder, checkpoints.Stamp(RUN, again(home).contract.digest, "bob"), 3, b"weights")
    edit("people.csv", "1", "2")(home)
    with pytest.raises(ConfigError, match=r"people\.csv: it is not what it was"):
        again(home)


def test_before_its_alignment_a_run_that_began_with_other_data_is_not_brought_to_the_others(
    home: Path,
) -> None:
    next(home.rglob("alignment.parquet")).unlink()
    assert brought(home) == (RUN, False, ())
    edit("people.csv", "a@x.org", "b@x.org")(home)
    assert brought(home) == NOTHING


def brought(home: Path) -> Previous:
    return Unfinished.of(again(home), described(again(home))).previous()


def test_a_table_that_changes_while_it_is_read_is_named(home: Path) -> None:
    config = again(home)
    own = described(config)
    refuse_change_while_read(config, own)
    edit("people.csv", "1", "2")(home)
    with pytest.raises(DataError, match=r"people\.csv: has changed while it was read; start again"):
        refuse_change_while_read(config, own)


def test_what_is_noted_quotes_no_cell_and_no_secret(home: Path) -> None:
    own = json.dumps(described(load(home / "party.toml")))
    assert "a@x.org" not in own
    assert (home / "runs" / "secret").read_bytes().hex() not in own


def test_a_run_id_alone_will_do(home: Path) -> None:
    """As when it was chosen beforehand."""
    config = again(home)
    [folder] = under_any_contract(config)
    (folder / "run.json").write_text(json.dumps({"run": RUN.hex()}))
    edit("people.csv", "1", "2")(home)
    assert Unfinished.of(again(home), {}).previous() == (RUN, True, ())
    assert row_files.read(folder / "alignment.parquet") is not None


@pytest.mark.parametrize(
    ("change", "names"),
    [
        (edit("run.toml", "seed = 1", "seed = 2"), "run.toml: seed: 2 here, 1 at"),
        (edit("run.toml", "ids", 'psi.protocol = "rr22"\nids'), 'run.toml: psi.protocol: "rr22" here'),
        (edit("party.toml", '["x"]', "[]"), "party.toml: data.numeric is not what it was"),
        (edit("people.csv", "a@x.org", "b@x.org"), "people.csv: it is not what it was"),
    ],
    ids=["seed", "protocol", "schema", "ids"],
)
def test_party_run_refuses_it_before_anybody_is_met(
    home: Path, change: Callable[[Path], None], names: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    change(home)
    monkeypatch.setattr("parties.ending.connected", lambda *_: pytest.fail("somebody was met"))
    with pytest.raises(ConfigError, match=re.escape(names)):
        run_party(load(home / "party.toml"), lambda *_: None, lambda line: None)


def test_the_code_of_ones_own_class(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(home)
    (home / "ours_for_this_test.py").write_text("class Half: ...\n")
    edit("party.toml", "training =", 'model.bottom = "ours_for_this_test:Half"\ntraining =')(home)
    config = load(home / "party.toml")
    Unfinished.of(config, described(config)).begin(RUN, Previous(RUN, True))
    again(home)
    (home / "ours_for_this_test.py").write_text("class Half: half = 1\n")
    with pytest.raises(ConfigError, match="the code of ours_for_this_test:Half is not what it was"):
        again(home)


@pytest.mark.parametrize(
    ("error", "advice"),
    [
        (BudgetError("over the budget"), "would end so again: agree on a change, then `party run --afresh`"),
        (LeakError("at step 3"), "would end so again"),
        (PeerFailed("ann", "training", REASONS["training"]), "would end so again"),
        (PeerFailed("ann", "training", REASONS["lost"]), "kept: start the same command again at all parties"),
        (PeerFailed("ann", "psi", REASONS["error"]), "kept: once ann has mended its error, start the same"),
        (AccountError("changed"), "kept: start the same command again at all parties"),
    ],
)
def test_whether_to_go_on_or_to_begin_anew_is_told(error: Exception, advice: str) -> None:
    said: list[str] = []
    with pytest.raises(type(error)), told(lambda: "the alignment", said.append):
        raise error
    assert advice in said[-1]


def test_results_that_are_whole_are_told(home: Path) -> None:
    """Where the others have gone, and only the end of it was missed."""
    config, said = load(home / "party.toml"), list[str]()
    unfinished = Unfinished.of(config, described(config))
    whole = run_folder(config.party.storage, "run", RUN, "bob")
    for expected in ("kept: start the same command again", f"results are whole in {whole};"):
        with pytest.raises(NetworkError), told(unfinished.holds, said.append, unfinished.results):
            raise NetworkError("nobody there")
        assert expected in said[-1]
        (whole / "summary.json").write_text("{}")
