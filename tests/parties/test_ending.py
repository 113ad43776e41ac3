"""The end of a run or a prediction, missed by a party: who knows that all results are whole tells it."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from parties.certs import Identity
from parties.changes import described
from parties.config import Config, load
from parties.dial import Spoke
from parties.errors import RunFinished, StorageError
from parties.hub import Hub
from parties.model import chosen, model
from parties.predict import predict_party, to_score
from parties.prediction import unfinished_with
from parties.storage import run_folder
from parties.train import run_party
from parties.unfinished import Unfinished
from protos.rounds import Receive, Rounds, Send
from tests.parties import small
from tests.ports import free_port

RUN = b"r" * 32


@pytest.fixture
def homes(tmp_path: Path, certificates: Path, identities: dict[str, Identity]) -> dict[str, Path]:
    """Of two parties who meet at a free port."""
    made, port = small.write(tmp_path, certificates, identities), free_port()
    for home in made.values():
        file = home / "party.toml"
        file.write_text(file.read_text().replace("127.0.0.1:1", f"127.0.0.1:{port}"))
    return made


def end(unfinished: Unfinished, whole: Path) -> None:
    """The results of both are whole; the label holder was killed as it was about to say so."""
    unfinished.begin(RUN)
    (whole / "summary.json").write_text(f'{{"of": "{unfinished.party}"}}')
    if unfinished.party == "platform":
        unfinished.end()
        assert unfinished.ended()


def end_run(homes: dict[str, Path]) -> None:
    for name, home in homes.items():
        config = load(home / "party.toml")
        whole = run_folder(config.party.storage, "small", RUN, name)
        end(Unfinished.of(config, described(config)), whole)


def told(homes: dict[str, Path], command: Callable[[Config, Callable[[str], None]], Any]) -> list[str]:
    """What each party says last as both are started again."""
    said: dict[str, list[str]] = {name: [] for name in homes}
    with ThreadPoolExecutor(len(homes)) as pool:
        ends = {
            name: pool.submit(command, load(home / "party.toml"), said[name].append)
            for name, home in homes.items()
        }
        assert {name: end.result(60) for name, end in ends.items()} == {name: {"of": name} for name in homes}
    return [[line for line in lines if "report.html" not in line][-1] for lines in said.values()]


def test_who_missed_the_end_is_told_of_it(homes: dict[str, Path]) -> None:
    end_run(homes)
    assert told(homes, lambda config, say: run_party(config, lambda *_: None, say)) == [
        f"results in {home / 'runs' / f'small-{RUN.hex()[:12]}' / name}" for name, home in homes.items()
    ]
    assert not [found for home in homes.values() for found in home.glob("runs/*-unfinished")]


def test_who_calls_as_the_label_holder_begins_to_listen_is_told_too(
    homes: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    listen = Hub.open

    def slowly(hub: Hub) -> None:
        listen(hub)
        time.sleep(1.0)  # time enough to dial

    monkeypatch.setattr(Hub, "open", slowly)
    end_run(homes)
    for line in told(homes, lambda config, say: run_party(config, lambda *_: None, say)):
        assert line.startswith("results in ")


def test_who_missed_the_end_of_a_prediction_is_told_of_it(homes: dict[str, Path]) -> None:
    small.run(homes)
    folders = []
    for home in homes.values():
        config = load(home / "party.toml")
        trained = model(config, chosen(config, None))
        folders.append(trained.folder / f"predictions-{RUN.hex()[:12]}")
        folders[-1].mkdir()
        end(unfinished_with(trained, to_score(config, trained, None)), folders[-1])
    said = told(homes, lambda config, say: predict_party(config, None, None, lambda *_: None, say))
    assert said == [f"results in {folder}" for folder in folders]
    assert not [found for home in homes.values() for found in home.glob("runs/*/*/*-unfinished")]


def test_results_that_are_gone_are_no_success(homes: dict[str, Path]) -> None:
    """The label holder's: its feature holder has its own, and ends well."""
    end_run(homes)
    config = load(homes["platform"] / "party.toml")
    (run_folder(config.party.storage, "small", RUN, "platform") / "summary.json").unlink()
    with ThreadPoolExecutor(1) as pool:
        there = load(homes["logistics"] / "party.toml")
        other = pool.submit(run_party, there, lambda *_: None, lambda line: None)
        with pytest.raises(StorageError, match="the results of a run that has ended are gone"):
            run_party(config, lambda *_: None, lambda line: None)
        assert other.result(60) == {"of": "logistics"}


def test_a_new_process_of_a_party_that_has_not_heard_the_end_is_told(identities: dict[str, Identity]) -> None:
    """And the hub, which waited for it, ends at once."""
    hub = Hub(identities["platform"], "127.0.0.1:0", {"logistics": identities["logistics"].fingerprint})
    hub.open()

    def calls() -> Spoke:
        return Spoke(identities["logistics"], "platform", f"127.0.0.1:{hub.port}")

    def until_killed() -> Rounds[None]:
        yield Send("platform", "kept", b"")
        yield Receive("platform", "all kept", 0)
        before._hang_up()  # no word of its end
        before._closing.set()

    def all_kept() -> Rounds[None]:
        yield Receive("logistics", "kept", 0)
        yield Send("logistics", "all kept", b"")

    before = calls()
    with ThreadPoolExecutor(3) as pool:
        pool.submit(lambda: (before.open(10), before.drive(until_killed())))
        hub.wait_for_peers(10)
        hub.drive(all_kept())
        closed = pool.submit(hub.close)
        with pytest.raises(RunFinished), calls() as again:
            again.open(30)
        closed.result(30)
