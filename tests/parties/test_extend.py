"""People who are added to a model's users: of three companies in one process, their files included."""

import shutil
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from parties.config import load
from parties.ending import ended
from parties.errors import AlignmentError, ContractError, StorageError
from parties.extend import Prepared, UnfinishedAddition, complete_extension, prepare, said, unfinished_with
from parties.model import Model
from parties.people import addition, digests_of, people_of
from protos.memory import together
from protos.rounds import PeerFailed, PeerRestarted, RoundsError
from protos.simulator import Faults, Simulation
from splitnn.plan import Plan

NAMES = ("advertiser", "logistics", "platform")
RUN = b"r" * 32
Sets = Mapping[str, set[int]]
CONTRACT = """version = 1
name = "small"
label_holder = "platform"
seed = 1
ids.type = "integer"
"""


def all_have(ids: set[int]) -> Sets:
    return dict.fromkeys(NAMES, ids)


class Companies:
    """Three, and the model of a run in which those of `old` were there."""

    def __init__(self, root: Path, certificates: Path, identities: dict[str, Any]) -> None:
        self.root, self.certificates, self.identities = root, certificates, identities

    def begin(self, old: Sets, psi: str = 'protocol = "insecure-hash", allow_insecure = true') -> None:
        pins = [f'[parties.{name}]\nkey = "{self.identities[name].fingerprint}"\n' for name in NAMES]
        contract = f"{CONTRACT}psi = {{ {psi} }}\n{''.join(pins)}"
        shutil.rmtree(self.root, ignore_errors=True)
        for name in NAMES:
            home, pem = self.root / name, self.certificates / name
            home.mkdir(parents=True)
            (home / "run.toml").write_text(contract)
            link = 'listen = "127.0.0.1:1"' if name == "platform" else 'hub = "127.0.0.1:1"'
            (home / "party.toml").write_text(
                f'party = "{name}"\ndata = {{ file = "table.parquet", id = "k" }}\n'
                f'tls = {{ ca = "{pem.parent}/ca.pem", certificate = "{pem}.pem", key = "{pem}.key" }}\n'
                f"link = {{ {link} }}\n"
            )
            (home / "model").mkdir()
            users = sorted(set.intersection(*old.values()), key=lambda one: one * 7 % 31)
            frame = pd.DataFrame({"row": 0, "id": pd.Series(users, dtype="int64")})
            frame.to_parquet(home / "model" / "alignment.parquet")

    def bring(self, sets: Sets) -> None:
        for name, ids in sets.items():
            frame = pd.DataFrame({"k": pd.Series(sorted(ids), dtype="int64")})
            frame.to_parquet(self.root / name / "table.parquet")

    def model(self, name: str, run: bytes = RUN) -> Model:
        config = load(self.root / name / "party.toml", for_training=False)
        return Model(config, self.root / name / "model", run, "integer", Plan(seed=b""), None, {})  # type: ignore[arg-type]

    def prepared(self, name: str, run: bytes = RUN) -> tuple[Prepared, UnfinishedAddition]:
        trained = self.model(name, run)
        return prepare(trained.config, trained), unfinished_with(trained)

    def extend(self, runs: Mapping[str, bytes] | None = None) -> dict[str, Any]:
        parties = {
            name: complete_extension(*self.prepared(name, (runs or {}).get(name, RUN))) for name in NAMES
        }
        return together(parties).results

    def users(self) -> list[list[int]]:
        """All lists, as all parties hold them, each in the ids of its file."""
        found, digests = [], []
        for name in NAMES:
            model = self.model(name)
            parts = people_of(model.config, model)
            digests.append(digests_of(model, parts))
            files = [
                model.folder / "alignment.parquet",
                *(addition(model, at) for at in range(1, len(parts))),
            ]
            found.append([pd.read_parquet(file)["id"].astype(int).tolist() for file in files])
        assert found[0] == found[1] == found[2]
        assert digests[0] == digests[1] == digests[2]
        return found[0]


@pytest.fixture
def companies(tmp_path: Path, certificates: Path, identities: dict[str, Any]) -> Companies:
    return Companies(tmp_path / "homes", certificates, identities)


IDS = st.sets(st.integers(0, 20), min_size=1)
SETS = st.fixed_dictionaries(dict.fromkeys(NAMES, IDS))


@settings(deadline=None, max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(old=SETS, news=st.lists(SETS, min_size=1, max_size=2))
def test_users_and_additions_are_what_whole_alignments_give(
    companies: Companies, old: Sets, news: list[Sets]
) -> None:
    companies.begin(old)
    wanted = set.intersection(*old.values())
    for new in news:
        companies.bring(new)
        known, results = set(wanted), companies.extend()
        wanted |= set.intersection(*new.values())
        users = [one for part in companies.users() for one in part]
        assert len(users) == len({*users})
        assert {*users} == wanted
        for name, summary in results.items():
            assert (summary["known"], summary["added"]) == (len(known), len(wanted) - len(known))
            assert summary["gone"] == len(known - new[name])
            assert summary["psi"]["sizes"][name] == len(new[name] - known)  # what is told of sizes
    assert not [*companies.root.rglob("people-unfinished")]


@pytest.mark.parametrize("protocol", ["ecdh", "rr22"])
def test_whichever_the_protocol_and_where_somebody_brings_nobody(companies: Companies, protocol: str) -> None:
    old = all_have({*range(9)})
    companies.begin(old, f'protocol = "{protocol}"')
    companies.bring({**old, "platform": {*range(5, 12)}, "advertiser": {*range(30)}})
    results = companies.extend()  # logistics has nobody who is not known
    assert {name: (found["added"], found["gone"]) for name, found in results.items()} == {
        "advertiser": (0, 0), "logistics": (0, 0), "platform": (0, 5),
    }  # fmt: skip
    assert len(companies.users()) == 1
    companies.bring(all_have({*range(12)}))
    assert said(companies.extend()["platform"]).startswith("3 users added, 12 now; 0 are in the file no more")
    assert {*companies.users()[1]} == {9, 10, 11}


def test_what_one_party_has_lost_is_found_again(companies: Companies) -> None:
    companies.begin(all_have({1, 2}))
    for last in (3, 4):
        companies.bring(all_have({*range(last + 1)}))
        companies.extend()
    assert [len(part) for part in companies.users()] == [2, 2, 1]
    addition(companies.model("logistics"), 2).unlink()
    companies.bring(all_have({3, 4, 5}))
    companies.extend()
    assert [{*part} for part in companies.users()] == [{1, 2}, {0, 3}, {4, 5}]
    path = addition(companies.model("platform"), 1)
    shutil.copy(addition(companies.model("platform"), 2), path)  # other people than the others hold
    companies.extend()
    assert [{*part} for part in companies.users()] == [{1, 2}, {3, 4, 5}]


def test_other_users_another_model_and_damaged_files_are_refused(companies: Companies) -> None:
    everybody = all_have({1, 2})
    companies.begin(everybody)
    companies.bring(everybody)
    for outcome in companies.extend({"logistics": b"o" * 32}).values():
        assert isinstance(outcome, ContractError)
        assert "with different models" in str(outcome)
    companies.bring(all_have({1, 2, 3}))
    companies.extend()
    model = companies.model("platform")
    with pytest.raises(StorageError, match="is not of this model of platform"):
        people_of(model.config, companies.model("platform", b"o" * 32))
    whole = addition(model, 1).read_bytes()
    addition(model, 1).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(StorageError, match="damaged, or not there; restore it"):
        companies.prepared("platform")
    addition(model, 1).write_bytes(whole)
    (companies.root / "platform" / "party.toml").write_text(
        (companies.root / "platform" / "party.toml").read_text().replace('id = "k"', 'id = { integer = "k" }')
    )
    companies.prepared("platform")
    pd.DataFrame({"row": [0], "id": [9]}).to_parquet(model.folder / "alignment.parquet")
    for outcome in companies.extend().values():
        assert isinstance(outcome, AlignmentError)
        assert "do not hold the same users of this model's run" in str(outcome)


def test_all_hold_the_same_whoever_is_killed(companies: Companies) -> None:
    """Under faults, each process started again until it knows the end."""

    def process(name: str) -> Any:
        _, hub = companies.prepared("platform")
        one, unfinished = companies.prepared(name)
        while not unfinished.ended():
            try:
                return (yield lambda: complete_extension(one, unfinished))
            except PeerRestarted:
                continue
            except PeerFailed:
                if unfinished.results() is None or not (hub.ended() or not hub.folder.exists()):
                    raise
                break  # the label holder tells who calls
        return ended(unfinished, lambda line: None)

    for seed in range(3):
        companies.begin(all_have({*range(10)}))
        for count in (15, 20):
            companies.bring(all_have({*range(5, count)}))
            faults = Faults(drop=0.02, cuts=1, kills=2, words=60)
            again = lambda name, error: 3.0 if isinstance(error, RoundsError) else None  # noqa: E731
            programs = {name: partial(process, name) for name in NAMES}
            ends = Simulation({}, "platform", f"{seed} {count}", faults, programs=programs, again=again).run()
            assert not [end for end in ends.values() if isinstance(end, Exception)], ends
            users = companies.users()
            assert sorted(one for part in users for one in part) == [*range(count)]
            assert not [*companies.root.rglob("*.partial")]
