"""Checkpoints on disk: what was kept comes back, and nothing else is ever taken for one."""

import errno
import os
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors.torch
from hypothesis import given, settings
from hypothesis import strategies as st

from parties import checkpoints, unfinished
from parties.checkpoints import KEPT, Stamp
from parties.errors import StorageError, exit_code
from protos.memory import together
from protos.rounds import Rounds, Save

STAMP = Stamp(b"r" * 32, b"c" * 32, "ann")


def kept(folder: Path, *epochs: int) -> None:
    for epoch in epochs:
        checkpoints.keep(folder, STAMP, epoch, b"state %d" % epoch)


def file(folder: Path, epoch: int) -> Path:
    return folder / f"checkpoint-{epoch:06}.safetensors"


@settings(deadline=None, max_examples=20)
@given(st.binary(max_size=200), st.integers(1, 100_000))
def test_what_is_kept_comes_back(tmp_path_factory: pytest.TempPathFactory, state: bytes, epoch: int) -> None:
    folder = tmp_path_factory.mktemp("kept")
    checkpoints.keep(folder, STAMP, epoch, state)
    assert checkpoints.load(folder, STAMP, epoch) == state
    assert checkpoints.epochs(folder, STAMP) == (epoch,)
    [path] = folder.iterdir()
    assert path.stat().st_mode & 0o077 == 0
    assert safetensors.torch.load_file(path)["state"].numpy().tobytes() == state


@settings(deadline=None, max_examples=200)
@given(st.data())
def test_any_change_is_noticed(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """A bit, a cut, an end that was added: the checkpoint before it is the newest then."""
    folder = tmp_path_factory.mktemp("changed")
    kept(folder, 1, 2)
    whole = file(folder, 2).read_bytes()
    change = data.draw(st.sampled_from(["bit", "cut", "more"]))
    if change == "bit":
        bit = data.draw(st.integers(0, 8 * len(whole) - 1))
        changed = bytearray(whole)
        changed[bit // 8] ^= 1 << bit % 8
    elif change == "cut":
        changed = bytearray(whole[: data.draw(st.integers(0, len(whole) - 1))])
    else:
        changed = bytearray(whole + data.draw(st.binary(min_size=1, max_size=9)))
    file(folder, 2).write_bytes(changed)
    assert checkpoints.load(folder, STAMP, 2) is None
    assert checkpoints.epochs(folder, STAMP) == (1,)


@pytest.mark.parametrize(
    "stamp",
    [STAMP._replace(run=b"q" * 32), STAMP._replace(contract=b"d" * 32), STAMP._replace(party="bob")],
    ids=["run", "contract", "party"],
)
def test_of_another_run_contract_or_party(tmp_path: Path, stamp: Stamp) -> None:
    kept(tmp_path, 1)
    assert checkpoints.load(tmp_path, stamp, 1) is None
    assert checkpoints.epochs(tmp_path, stamp) == ()


def test_under_another_epoch_and_of_another_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept(tmp_path, 1)
    file(tmp_path, 1).rename(file(tmp_path, 2))
    assert checkpoints.epochs(tmp_path, STAMP) == ()
    kept(tmp_path, 1)
    old = file(tmp_path, 1).read_bytes()
    file(tmp_path, 1).write_bytes(old.replace(b"checkpoint 1", b"checkpoint 0"))
    assert checkpoints.epochs(tmp_path, STAMP) == ()


def test_no_code_in_a_checkpoint_is_run(tmp_path: Path) -> None:
    class Harmful:
        def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
            return Path(tmp_path / "harm").touch, ()

    file(tmp_path, 1).write_bytes(pickle.dumps(Harmful()))
    assert checkpoints.epochs(tmp_path, STAMP) == ()
    assert not (tmp_path / "harm").exists()


def test_the_newest_stay(tmp_path: Path) -> None:
    kept(tmp_path, *range(9, 13))
    assert checkpoints.epochs(tmp_path, STAMP) == (10, 11, 12)
    assert len([*tmp_path.iterdir()]) == KEPT
    checkpoints.forget(tmp_path)
    assert [*tmp_path.iterdir()] == []


@pytest.mark.parametrize("call", ["fsync", "replace", "open"])
def test_where_a_checkpoint_cannot_be_written_the_earlier_ones_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    kept(tmp_path, 1, 2, 3)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(*((Path, "replace") if call == "replace" else (os, call)), full)
    with pytest.raises(StorageError, match="No space left on device") as raised:
        kept(tmp_path, 4)
    monkeypatch.undo()
    assert exit_code(raised.value) == 11
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_where_an_old_one_cannot_be_removed_all_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(path: Path, **named: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(Path, "unlink", broken)
    with pytest.raises(StorageError, match=r"000001\.safetensors: Input/output error"):
        kept(tmp_path, *range(1, KEPT + 2))
    assert checkpoints.epochs(tmp_path, STAMP) == (*range(1, KEPT + 2),)


def test_the_cadence_follows_from_the_plan_alone(tmp_path: Path) -> None:
    """About one in 500 steps, and never within an epoch."""
    assert [checkpoints.every(steps) for steps in (1, 7, 250, 499, 500, 501, 10**6)] == [
        500,
        72,
        2,
        2,
        1,
        1,
        1,
    ]
    asked, took = [], []

    def training() -> Rounds[str]:
        for epoch in range(1, 8):
            yield Save(epoch, lambda epoch=epoch: asked.append(epoch) or b"x")  # type: ignore[misc, func-returns-value]
        return "result"

    keeping = checkpoints.keeping(training(), tmp_path, STAMP, 3, took.append)
    assert together({"ann": keeping}).results == {"ann": "result"}
    assert asked == [3, 6]  # a state that is not kept is not even made
    assert checkpoints.epochs(tmp_path, STAMP) == (3, 6)
    assert len(took) == 2


def test_links_are_neither_written_nor_removed_through(tmp_path: Path) -> None:
    """A checkpoint, or the whole folder, that leads elsewhere: nothing there changes."""
    elsewhere, folder = tmp_path / "elsewhere", tmp_path / "folder"
    elsewhere.mkdir()
    folder.mkdir()
    theirs = elsewhere / "run.json"
    theirs.write_bytes(b"another's")
    for epoch in range(1, 6):
        file(folder, epoch).symlink_to(theirs)
    assert checkpoints.epochs(folder, STAMP) == ()
    kept(folder, 2, 9)
    checkpoints.forget(folder)
    assert list(folder.iterdir()) == []
    (tmp_path / "linked").symlink_to(elsewhere)
    unfinished.forget(tmp_path / "linked")
    assert not (tmp_path / "linked").is_symlink()
    assert theirs.read_bytes() == b"another's"
