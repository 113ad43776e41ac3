"""A run with its files, ended at any word and started again: the same results as if nothing had happened.

All parties die together here, in one process, at a word of one of them; the words after which each wrote to
its disk differ. Real processes: tests/e2e/test_restarts.py.
"""

import json
import os
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from parties import checkpoints
from parties.config import Config
from parties.errors import StorageError
from parties.phases import Prepared
from parties.run import complete_run
from parties.unfinished import Unfinished
from protos.memory import together
from protos.rounds import Progress, Round

RUN = bytes(range(32))
"""The id of every run here: its weights are then a function of contract, secrets and data."""


class Killed(Exception):
    pass


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Checkpoints after each epoch, and a disk that does not wait."""
    monkeypatch.setattr(checkpoints, "STEPS", 1)
    monkeypatch.setattr(os, "fsync", lambda _: None)
    torch.set_num_threads(1)


class Parties:
    """Of one run, with their storage in this folder; `start` is what restarting all of them is."""

    def __init__(self, prepared: dict[str, Prepared], folder: Path) -> None:
        self.prepared, self.folder, self.said = {}, folder, {name: [] for name in prepared}
        for name, one in prepared.items():
            party = one.config.party.model_copy(update={"storage": folder / name})
            self.prepared[name] = replace(one, config=replace(one.config, party=party))
        for name in prepared:
            here = self.files(name).folder
            here.mkdir(parents=True)
            (here / "run.json").write_text(json.dumps({"run": RUN.hex()}))

    def config(self, name: str) -> Config:
        return self.prepared[name].config

    def files(self, name: str) -> Unfinished:
        return Unfinished.of(self.config(name), {"data.numeric": ["x"]})

    def start(self, on_round: Callable[[str, Round], None] = lambda name, word: None) -> dict[str, Any]:
        draw = random.Random(os.urandom(8))  # fresh keys in each attempt
        self.said = {name: [] for name in self.prepared}
        running = {
            name: complete_run(one, self.files(name), lambda: 0.0, draw.randbytes, self.said[name].append)
            for name, one in self.prepared.items()
        }
        return together(running, on_round).results

    def start_and_kill(self, words: int) -> bool:
        """All parties, until they have said so many words. False: they came to their end before."""

        def count(name: str, word: Round) -> None:
            nonlocal words
            words -= 1
            if words < 0:
                raise Killed

        try:
            self.start(count)
        except Killed:
            return True
        return False

    def results(self) -> dict[str, dict[str, bytes]]:
        """Of each party the files that its run left, but for those that tell times and signatures."""
        timed = ("summary.json", "report.txt", "agreement.json")
        return {
            name: {
                path.name: path.read_bytes()
                for path in (self.folder / name / f"faults-{RUN.hex()[:12]}" / name).iterdir()
                if path.name not in timed
            }
            for name in self.prepared
        }

    def unfinished(self) -> list[Path]:
        return [*self.folder.glob("*/*-unfinished/**/*")]


@pytest.fixture(scope="module")
def expected(
    prepared: dict[str, Prepared], tmp_path_factory: pytest.TempPathFactory
) -> tuple[dict[str, dict[str, bytes]], int]:
    """The results of a run that nothing interrupts, and how many words are said in it."""
    parties, words = Parties(prepared, tmp_path_factory.mktemp("calm")), []
    parties.start(lambda name, word: words.append(name))
    assert not parties.unfinished()
    assert all("model.safetensors" in files for files in parties.results().values())
    return parties.results(), len(words)


@settings(deadline=None, max_examples=40)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=3))
def test_killed_at_any_word(
    prepared: dict[str, Prepared],
    expected: tuple[dict[str, dict[str, bytes]], int],
    tmp_path_factory: pytest.TempPathFactory,
    ends: list[float],
) -> None:
    results, words = expected
    parties = Parties(prepared, tmp_path_factory.mktemp("killed"))
    for end in ends:
        if not parties.start_and_kill(int(end * words)):
            break
    else:
        parties.start()
    assert parties.results() == results
    assert not parties.unfinished()


def killed_in(parties: Parties, phase: str, done: int) -> None:
    """All die at this word of the platform's."""

    def watch(name: str, word: Round) -> None:
        if name == "platform" and isinstance(word, Progress) and (word.phase, word.done) == (phase, done):
            raise Killed

    with pytest.raises(Killed):
        parties.start(watch)


def test_the_newest_checkpoint_that_all_have(
    prepared: dict[str, Prepared],
    expected: tuple[dict[str, dict[str, bytes]], int],
    tmp_path: Path,
) -> None:
    parties = Parties(prepared, tmp_path)
    killed_in(parties, "the end", 0)
    held = {name: parties.files(name).previous() for name in prepared}
    assert {previous.steps for previous in held.values()} == {(1, 2)}
    newest = next(parties.files("logistics").folder.glob("checkpoint-*2.safetensors"))
    newest.write_bytes(newest.read_bytes()[:-1])
    parties.start()
    for said in parties.said.values():
        assert f"run {RUN.hex()[:12]} goes on from epoch 1" in said
    assert parties.results() == expected[0]


@pytest.mark.parametrize("lost", ["alignment.parquet", "checkpoint-*", "run.json"])
def test_what_one_party_has_lost_is_done_again(
    prepared: dict[str, Prepared],
    expected: tuple[dict[str, dict[str, bytes]], int],
    tmp_path: Path,
    lost: str,
) -> None:
    """The order of the common users, and so the weights, do not depend on the keys of the intersection."""
    parties, phases = Parties(prepared, tmp_path), []
    killed_in(parties, "the end", 0)
    for path in parties.files("advertiser").folder.glob(lost):
        path.unlink()

    def watch(name: str, word: Round) -> None:
        if isinstance(word, Progress):
            phases.append(word.phase)

    parties.start(watch)
    assert ("psi" in phases) == (lost != "checkpoint-*")
    if lost == "run.json":  # there is no common run any more, and a new one begins
        assert any("is dropped, as not all parties have it" in line for line in parties.said["platform"])
        assert not parties.unfinished()
    else:
        assert parties.results() == expected[0]


def test_a_disk_that_is_full_at_a_checkpoint(
    prepared: dict[str, Prepared],
    expected: tuple[dict[str, dict[str, bytes]], int],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    parties, keep = Parties(prepared, tmp_path), checkpoints.keep

    def full(folder: Path, stamp: Any, epoch: int, state: bytes) -> None:
        if epoch == 2 and stamp.party == "logistics":
            monkeypatch.setattr(os, "fsync", lambda _: os.write(os.open("/dev/full", os.O_WRONLY), b"x"))
        keep(folder, stamp, epoch, state)

    monkeypatch.setattr(checkpoints, "keep", full)
    with pytest.raises(StorageError, match="No space left on device"):
        parties.start()
    monkeypatch.undo()
    monkeypatch.setattr(checkpoints, "STEPS", 1)
    assert parties.files("logistics").previous().steps == (1,)
    parties.start()
    assert f"run {RUN.hex()[:12]} goes on from epoch 1" in parties.said["platform"]
    assert parties.results() == expected[0]


def test_no_key_is_on_disk(prepared: dict[str, Prepared], tmp_path: Path) -> None:
    """What crosses the wire or is drawn, in 16 bytes or more, is in none of the files for a restart."""
    parties, draws = Parties(prepared, tmp_path), []
    draw = random.Random(4)

    def drawn(size: int) -> bytes:
        draws.append(draw.randbytes(size))
        return draws[-1]

    running = {
        name: complete_run(one, parties.files(name), lambda: 0.0, drawn)
        for name, one in parties.prepared.items()
    }

    def watch(name: str, word: Round) -> None:
        if isinstance(word, Progress) and word.phase == "the end":
            raise Killed

    with pytest.raises(Killed):
        together(running, watch)
    kept = b"".join(path.read_bytes() for path in parties.unfinished() if path.is_file())
    assert len(kept) > 1000
    for piece in draws:
        for at in range(0, len(piece) - 15, 16):
            assert piece[at : at + 16] not in kept
