"""`party serve` as real processes over mutual TLS: the offline scores on every path; a partner killed under
load; a store replaced; told to stop."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import grpc
import numpy as np
import pandas as pd
import pytest
import torch

from parties import certs
from parties.config import load
from parties.model import chosen, model
from parties.own import pin_of
from parties.serving.store import Store, users_of
from protos.serving_pb2 import Id, ScoreRequest, ScoreResponse
from tests.e2e.conftest import NAMES, Federation
from tests.ports import free_port

HUB, KILLED, OTHER = NAMES
EVERYONE = (HUB, *sorted((KILLED, OTHER)))


def add_serve(one: Federation, more: str = "cache_seconds = 0\n") -> str:
    """To each party.toml; more: to the label holder's. Returns where applications ask."""
    partners, applications = f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}"
    certs.issue(one.folder / "certs", ["webshop"])
    pin = pin_of(one.folder / "certs" / "webshop.pem")
    for name in one.names:
        keys = f'hub = "{partners}"\n'
        if name == one.label_holder:
            keys = f'listen = "{partners}"\napplications = "{applications}"\nclients = ["{pin}"]\n'
            keys += f"deadline_ms = 500\n{more}"
        with (one.home(name) / "party.toml").open("a") as file:
            file.write(f"\n[serve]\n{keys}")
    return applications


@contextmanager
def asking(one: Federation, address: str, name: str = "webshop") -> Iterator[Callable[..., ScoreResponse]]:
    folder = one.folder / "certs"
    files = [(folder / file).read_bytes() for file in ("ca.pem", f"{name}.key", f"{name}.pem")]
    options = [("grpc.ssl_target_name_override", one.label_holder)]
    with grpc.secure_channel(address, grpc.ssl_channel_credentials(*files), options) as channel:
        call = channel.unary_unary(
            "/vertical.serving.v1.Scoring/Score", ScoreRequest.SerializeToString, ScoreResponse.FromString
        )

        def ask(*people: int, timeout: float = 5.0, **context: str) -> ScoreResponse:
            ids = [Id(parts=[one.email(number)]) for number in people]
            found: ScoreResponse = call(ScoreRequest(ids=ids, context=context), timeout=timeout)
            return found

        yield ask


def who(found: ScoreResponse) -> list[tuple[str, ...]]:
    return [tuple(found.took_part[one.took_part].parties) for one in found.scored]


def until(ask: Callable[..., Any], person: int, parties: tuple[str, ...], within: float = 180.0) -> None:
    deadline = time.monotonic() + within
    while True:
        try:
            if who(ask(person)) == [parties]:
                return
        except grpc.RpcError as error:
            if error.code() is not grpc.StatusCode.UNAVAILABLE:
                raise
        assert time.monotonic() < deadline, f"never scored by {parties}"
        time.sleep(0.05)


def offline(one: Federation) -> dict[str, float]:
    """By e-mail address, of both halves' weights in one process."""
    cut: dict[str, Any] = {}
    for name, config in one.configs().items():
        part = model(config, chosen(config, None))
        store = Store.read(config, part, users_of(config, part))
        with torch.no_grad():
            cut[name] = part.bottom(part.run).eval()(*store.columns(store.rows))
    config = load(one.home(one.label_holder) / "party.toml")
    part = model(config, chosen(config, None))
    with torch.no_grad():
        order = [one.label_holder, *config.feature_holders]
        logits = part.top(part.run).eval()([cut[name] for name in order])
    files = [part.folder / "alignment.parquet", *sorted(part.folder.glob("people-*.parquet"))]
    emails = pd.concat(pd.read_parquet(file) for file in files).iloc[:, 1]
    return dict(zip(emails, part.target().scores(logits).tolist(), strict=True))


def trained(one: Federation) -> None:
    one.agree("dropout = 0.2 }", "dropout = 0.2, party_dropout = 0.3 }")
    one.agree("epochs = 200", "epochs = 4")
    quick = 'psi = { minimum = 20, protocol = "insecure-hash", allow_insecure = true }'
    one.agree("psi.minimum = 20", quick)
    assert all(end.code == 0 for end in one.run(within=240.0).values())


@pytest.mark.slow
def test_serving_from_beginning_to_end(federation: Callable[..., Federation]) -> None:
    one = federation()
    trained(one)
    address, everyone = add_serve(one), EVERYONE
    one.start(command=["serve"])
    people = [number for number in range(one.people) if number % 7 >= 3]  # those whom all know
    with asking(one, address) as ask:
        until(ask, people[0], everyone)

        known = offline(one)
        wanted = np.array([known[one.email(number)] for number in people])
        whole = ask(*people)
        assert who(whole) == [everyone] * len(people)
        assert np.abs(np.array([row.score[0] for row in whole.scored]) - wanted).max() < 1e-6
        single = [ask(number).scored[0].score[0] for number in people[:20]]
        assert np.abs(np.array(single) - wanted[:20]).max() < 1e-6
        assert who(ask(7 * 40)) == [(HUB,)]  # whom the label holder does not know

        with asking(one, address, KILLED) as stranger, pytest.raises(grpc.RpcError) as caught:
            stranger(people[0])
        assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED

        sets, stop = list[tuple[str, ...]](), threading.Event()

        def load_it() -> None:
            while not stop.is_set():
                sets.extend(who(ask(people[len(sets) % len(people)], timeout=2.0)))  # no call may fail

        failed: list[BaseException] = []

        def careful() -> None:
            try:
                load_it()
            except BaseException as error:
                failed.append(error)

        threads = [threading.Thread(target=careful) for _ in range(3)]
        for thread in threads:
            thread.start()
        time.sleep(0.5)
        os.kill(one.processes[KILLED].pid, signal.SIGKILL)
        one.processes[KILLED].wait()
        until(ask, people[0], (HUB, OTHER))
        one.start(KILLED, command=["serve"])
        until(ask, people[0], everyone)
        stop.set()
        for thread in threads:
            thread.join()
        assert failed == []
        assert {*sets} >= {everyone, (HUB, OTHER)}

        os.kill(one.processes[HUB].pid, signal.SIGKILL)
        one.processes[HUB].wait()
        one.start(HUB, command=["serve"])
        until(ask, people[0], everyone)

        os.kill(one.processes[OTHER].pid, signal.SIGSTOP)  # frozen: there, but silent
        until(ask, people[0], (HUB, KILLED))
        os.kill(one.processes[OTHER].pid, signal.SIGCONT)
        until(ask, people[0], everyone)

        table = pd.read_csv(one.home(OTHER) / "people.csv")
        table.drop(columns="amount").to_csv(one.home(OTHER) / "people.csv", index=False)
        one.says(OTHER, "no column 'amount', with which the model was trained; the rows before go on serving")
        assert ask(people[3]).scored[0].score[0] == pytest.approx(wanted[3], abs=1e-6)
        table.assign(amount=9.0).to_csv(one.home(OTHER) / "people.csv", index=False)
        one.says(OTHER, "rows read anew")
        assert ask(people[3]).scored[0].score[0] != pytest.approx(wanted[3], abs=1e-6)

    for process in one.processes.values():
        process.send_signal(signal.SIGTERM)
    assert {end.code for end in one.ends().values()} == {0}


def predicted(one: Federation) -> dict[str, float]:
    """By e-mail address, of `party predict` for all rows of the label holder."""
    table = pd.read_csv(one.home(HUB) / "people.csv")
    table.to_parquet(one.home(HUB) / "new.parquet", index=False)
    one.start(HUB, command=["predict", "--ids", "new.parquet", "--json"])
    one.start(KILLED, OTHER, command=["predict", "--json"])
    ends = one.ends(within=240.0)
    assert all(end.code == 0 for end in ends.values()), ends
    found = pd.read_parquet(ends[HUB].json["scores"])
    together = (found["parties"] == ",".join(EVERYONE)).to_numpy()
    return dict(zip(table["email"][together], found["score"][together], strict=True))


def counted(address: str, end: str) -> float:
    """party_embeddings_total with this end, of all partners."""
    with urllib.request.urlopen(f"http://{address}/metrics", timeout=5) as page:
        lines = page.read().decode().splitlines()
    return sum(float(one.split()[-1]) for one in lines if f'party_embeddings_total{{end="{end}"' in one)


@pytest.mark.slow
def test_a_served_score_is_the_predicted_one_on_every_path(federation: Callable[..., Federation]) -> None:
    one = federation(people=700)
    one.edit(HUB, "party.toml", "[link]", '[evaluation]\ncalibration = "temperature"\n[link]')
    trained(one)
    wanted = predicted(one)
    seen = f"127.0.0.1:{free_port()}"
    with (one.home(HUB) / "party.toml").open("a") as file:
        file.write(f'\n[metrics]\nlisten = "{seen}"\n')
    address = add_serve(one, "hold_us = 50000\ncache_seconds = 600\n")
    one.start(command=["serve"])
    people = [number for number in range(one.people) if number % 7 >= 3]  # those whom all know
    first, alone, many, batch, after = np.split(np.array(people), [1, 21, 81, 337])
    with asking(one, address) as ask:

        def agree(found: ScoreResponse, asked: np.ndarray) -> None:
            assert who(found) == [EVERYONE] * len(asked)
            assert all(of.calibrated for of in found.took_part)
            expected = [wanted[one.email(number)] for number in asked]
            assert np.abs(np.array([row.score[0] for row in found.scored]) - expected).max() < 1e-6

        until(ask, first[0], EVERYONE)
        asked, cached, questions = (counted(seen, end) for end in ("asked", "cached", "questions"))
        for number in alone:
            agree(ask(number), np.array([number]))
        assert counted(seen, "asked") == asked + 2 * len(alone)
        assert counted(seen, "questions") == questions + 2 * len(alone)  # each by itself
        for number in alone:
            agree(ask(number), np.array([number]))
        assert counted(seen, "asked") == asked + 2 * len(alone)
        assert counted(seen, "cached") == cached + 2 * len(alone)
        with ThreadPoolExecutor(12) as pool:
            for number, found in zip(many, pool.map(ask, many.tolist()), strict=True):
                agree(found, np.array([number]))
        assert counted(seen, "questions") < questions + 2 * len(alone) + 2 * len(many)  # some share one
        agree(ask(*batch.tolist()), batch)
        assert len(batch) == 256

        for name in (HUB, OTHER):
            table = pd.read_csv(one.home(name) / "people.csv")
            table.assign(amount=1.5).to_csv(one.home(name) / "new.csv", index=False)
            (one.home(name) / "new.csv").rename(one.home(name) / "people.csv")
            one.says(name, "rows read anew")
        fresh = [(ask(number), number) for number in after.tolist()]
    for process in one.processes.values():
        process.send_signal(signal.SIGTERM)
    assert {end.code for end in one.ends().values()} == {0}
    before, wanted = wanted, predicted(one)
    assert all(wanted[one.email(number)] != before[one.email(number)] for number in after)
    for found, number in fresh:
        agree(found, np.array([number]))


@pytest.mark.slow
def test_promotions_are_served_by_the_processes_that_run(federation: Callable[..., Federation]) -> None:
    one = federation()
    trained(one)
    [old] = [path.parent for path in one.home(HUB).glob(f"runs/*/{HUB}/summary.json")]
    assert all(end.code == 0 for end in one.run(within=240.0).values())
    [new] = {path.parent for path in one.home(HUB).glob(f"runs/*/{HUB}/summary.json")} - {old}
    versions = [bytes.fromhex(json.loads((run / "agreement.json").read_text())["run"]) for run in (old, new)]

    def promote(name: str, version: bytes) -> None:
        command = [sys.executable, "-m", "parties", "models", "promote", version.hex()]
        subprocess.run(command, cwd=one.home(name), check=True, capture_output=True, timeout=60)

    address, person = add_serve(one), 3
    for name in NAMES:
        promote(name, versions[0])
    one.start(command=["serve"])
    with asking(one, address) as ask:
        until(ask, person, EVERYONE)
        first = ask(person).model
        promote(HUB, versions[1])
        until(ask, person, (HUB,))
        one.says(HUB, "from here on")
        second = ask(person).model
        assert second != first
        promote(KILLED, versions[1])
        until(ask, person, (HUB, KILLED))
        promote(OTHER, versions[1])
        until(ask, person, EVERYONE)
        assert ask(person).model == second
        promote(OTHER, versions[0])  # alone: it waits for the others, and nobody ends
        until(ask, person, (HUB, KILLED))
        one.says(OTHER, "serves another version of the model")
        promote(OTHER, versions[1])
        until(ask, person, EVERYONE)
    for process in one.processes.values():
        process.send_signal(signal.SIGTERM)
    assert {end.code for end in one.ends().values()} == {0}
