"""A run with its files, ended at a certain word and started again: it goes on from what all have, and leaves
the same results as if nothing had happened. At any word: tests/faults/simulated.
"""

import json
import os
import random
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import pytest
import torch

from parties import checkpoints
from parties.errors import StorageError
from parties.spending import ledger_of
from parties.train import complete_run
from parties.unfinished import Unfinished
from protos.memory import together
from protos.rounds import Progress, Round, Rounds, Send, mapped
from tests.faults.simulated.worlds import RUN_ID as RUN
from tests.faults.simulated.worlds import SHAPES, Shape, World, make

SHAPE = Shape(task="binary", further='examples.per_entity = "several"', several=True, psi="ecdh")


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

    def __init__(self, world: World, folder: Path) -> None:
        self.world, self.folder, self.said = world, folder, {name: [] for name in world.names}
        for name in world.names:
            here = self.files(name).folder
            here.mkdir(parents=True)
            (here / "run.json").write_text(json.dumps({"run": RUN.hex()}))

    def files(self, name: str) -> Unfinished:
        return Unfinished.of(self.world.at(self.folder, name).config, self.world.own[name])

    def start(
        self,
        on_round: Callable[[str, Round], None] = lambda name, word: None,
        of_platform: Callable[[Rounds[Any]], Rounds[Any]] = lambda rounds: rounds,
    ) -> dict[str, Any]:
        draw = random.Random(os.urandom(8))  # fresh keys in each attempt
        self.said = {name: [] for name in self.world.names}
        running = {
            name: complete_run(
                self.world.at(self.folder, name), self.files(name), lambda: 0.0, draw.randbytes, said.append
            )
            for name, said in self.said.items()
        }
        running["platform"] = of_platform(running["platform"])
        return together(running, on_round).results

    def results(self) -> dict[str, dict[str, bytes]]:
        """Of each party the files that its run left, but for those that tell times and signatures."""
        timed = ("summary.json", "report.txt", "agreement.json", "audit.jsonl")
        return {
            name: {
                path.name: path.read_bytes()
                for path in (self.folder / name / f"faults-{RUN.hex()[:12]}" / name).iterdir()
                if path.name not in timed
            }
            for name in self.world.names
        }

    def unfinished(self) -> list[Path]:
        return [*self.folder.glob("*/*-unfinished/**/*")]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make(tmp_path_factory.mktemp("world"), SHAPE)


@pytest.fixture(scope="module")
def expected(world: World, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, bytes]]:
    """The results of a run that nothing interrupts."""
    parties = Parties(world, tmp_path_factory.mktemp("calm"))
    parties.start()
    assert not parties.unfinished()
    assert all("model.safetensors" in files for files in parties.results().values())
    return parties.results()


def killed_in(parties: Parties, phase: str, done: int) -> None:
    """All die at this word of the platform's."""

    def watch(name: str, word: Round) -> None:
        if name == "platform" and isinstance(word, Progress) and (word.phase, word.done) == (phase, done):
            raise Killed

    with pytest.raises(Killed):
        parties.start(watch)


def test_the_newest_checkpoint_that_all_have(
    world: World,
    expected: dict[str, dict[str, bytes]],
    tmp_path: Path,
) -> None:
    parties = Parties(world, tmp_path)
    killed_in(parties, "the end", 0)
    held = {name: parties.files(name).previous() for name in world.names}
    assert {previous.steps for previous in held.values()} == {(1, 2)}
    newest = next(parties.files("logistics").folder.glob("checkpoint-*2.safetensors"))
    newest.write_bytes(newest.read_bytes()[:-1])
    parties.start()
    for said in parties.said.values():
        assert f"run {RUN.hex()[:12]} goes on from epoch 1" in said
    assert parties.results() == expected


@pytest.mark.parametrize("lost", ["alignment.parquet", "checkpoint-*", "run.json"])
def test_what_one_party_has_lost_is_done_again(
    world: World,
    expected: dict[str, dict[str, bytes]],
    tmp_path: Path,
    lost: str,
) -> None:
    """The order of the common users, and so the weights, do not depend on the keys of the intersection."""
    parties, phases = Parties(world, tmp_path), []
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
        assert parties.results() == expected


def test_nobody_keeps_what_all_do_again(
    world: World, expected: dict[str, dict[str, bytes]], tmp_path: Path
) -> None:
    """Or who is killed before he has done it again would go on with rows, or weights, of another attempt."""
    parties = Parties(world, tmp_path)
    killed_in(parties, "the end", 0)
    for path in parties.files("advertiser").folder.glob("[ac]*"):
        path.unlink()
    killed_in(parties, "psi", 0)
    assert {parties.files(name).previous() for name in world.names} == {(RUN, False, ())}
    parties.start()
    assert parties.results() == expected


def test_a_disk_that_is_full_at_a_checkpoint(
    world: World,
    expected: dict[str, dict[str, bytes]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    parties, keep = Parties(world, tmp_path), checkpoints.keep

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
    assert parties.results() == expected


def other_gradients(rounds: Rounds[Any]) -> Rounds[Any]:
    """All of the other sign."""

    def each(word: Round) -> Generator[Round, Any, Any]:
        if isinstance(word, Send) and word.kind == "gradient":
            header, numbers = word.payload[:24], bytearray(word.payload[24:])  # type: ignore[index]
            numbers[3::4] = bytes(last ^ 0x80 for last in numbers[3::4])
            word = Send(word.to, word.kind, header + numbers)
        return (yield word)

    return mapped(rounds, each)


@pytest.mark.parametrize("other", [False, True])
def test_an_epoch_that_is_done_again_by_other_gradients_is_charged_again(tmp_path: Path, other: bool) -> None:
    """A label holder that breaks a run off, and goes on with other gradients."""
    (tmp_path / "world").mkdir()
    world = make(tmp_path / "world", SHAPES["noise"])
    parties = Parties(world, tmp_path / "storage")
    epochs, steps = 2, 2
    killed_in(parties, "training", steps + 2)
    parties.start(of_platform=other_gradients if other else lambda rounds: rounds)
    for name in ("logistics", "advertiser"):
        assert f"run {RUN.hex()[:12]} goes on from epoch 1" in parties.said[name]
        [charge] = ledger_of(world.at(tmp_path / "storage", name).config).charges()
        assert charge.releases == epochs + other
