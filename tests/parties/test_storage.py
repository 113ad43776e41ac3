"""The run directory: files whole or not at all, a lock that refuses, a secret that stays."""

import os
import stat
from pathlib import Path

import pytest

from parties.errors import StorageError
from parties.storage import locked, own_secret, private_seed, run_folder, write


def test_write_replaces_whole(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "file"
    write(path, b"one")
    write(path, b"two")
    assert path.read_bytes() == b"two"
    assert os.listdir(path.parent) == ["file"]


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    write(path, b"one")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match="No space left"):
        write(path, b"two")
    assert path.read_bytes() == b"one"
    assert os.listdir(tmp_path) == ["file"]


def test_what_is_left_half_written_and_cannot_be_removed_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = tmp_path / "run" / "ann" / ".summary.json.7.partial"
    write(left, b"half")

    def broken(path: Path, **named: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(Path, "unlink", broken)
    with (
        pytest.raises(StorageError, match=r"summary.json.7.partial: Input/output error"),
        locked(tmp_path, "ann"),
    ):
        pass


def test_an_interrupted_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(descriptor: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "file", b"one")
    assert os.listdir(tmp_path) == []


def test_a_secret_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "secret").mkdir()
    with pytest.raises(StorageError, match="cannot read"):
        own_secret(tmp_path)


def test_write_where_a_file_is_in_the_way(tmp_path: Path) -> None:
    write(tmp_path / "file", b"")
    with pytest.raises(StorageError, match="cannot write"):
        write(tmp_path / "file" / "below", b"")


def test_the_lock_refuses_a_second_holder(tmp_path: Path) -> None:
    with (
        locked(tmp_path, "a"),
        locked(tmp_path, "b"),
        pytest.raises(StorageError, match="another `party run` of a"),
        locked(tmp_path, "a"),
    ):
        pass
    with locked(tmp_path, "a"):
        pass


def test_what_was_left_half_written_goes(tmp_path: Path) -> None:
    for party in ("a", "b"):
        write(run_folder(tmp_path, "run", bytes(32), party) / "whole", b"")
        write(run_folder(tmp_path, "run", bytes(32), party) / ".model.1.partial", b"half")
    with locked(tmp_path, "a"):
        left = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file())
    own, others = "run-000000000000/a/", "run-000000000000/b/"
    assert left == ["a.lock", f"{own}whole", f"{others}.model.1.partial", f"{others}whole"]


def test_the_secret_is_kept_and_private(tmp_path: Path) -> None:
    secret = own_secret(tmp_path)
    assert len(secret) == 32
    assert own_secret(tmp_path) == secret
    assert stat.S_IMODE((tmp_path / "secret").stat().st_mode) == 0o600
    (tmp_path / "secret").write_bytes(b"short")
    with pytest.raises(StorageError, match="damaged"):
        own_secret(tmp_path)


def test_private_seeds_are_of_one_secret_run_and_purpose() -> None:
    seeds = {
        private_seed(secret, run, purpose)
        for secret in (b"a" * 32, b"b" * 32)
        for run in (b"1" * 32, b"2" * 32)
        for purpose in ("bottom", "top")
    }
    assert len(seeds) == 8
    assert private_seed(b"a" * 32, b"1" * 32, "bottom") in seeds


def test_run_folder(tmp_path: Path) -> None:
    folder = run_folder(tmp_path, "conversion", bytes(32), "platform")
    assert folder == tmp_path / "conversion-000000000000" / "platform"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_a_link_out_of_the_folder_is_replaced_and_never_written_through(tmp_path: Path) -> None:
    """Neither where the file is to be, nor where its draft is."""
    outside, folder = tmp_path / "outside", tmp_path / "folder"
    outside.write_bytes(b"another's")
    folder.mkdir()
    (folder / "run.json").symlink_to(outside)
    write(folder / "run.json", b"ours")
    assert not (folder / "run.json").is_symlink()
    assert (folder / "run.json").read_bytes() == b"ours"
    (folder / f".run.json.{os.getpid()}.partial").symlink_to(outside)
    with pytest.raises(StorageError, match=r"cannot write .*run\.json"):
        write(folder / "run.json", b"later")
    assert (folder / "run.json").read_bytes() == b"ours"
    assert outside.read_bytes() == b"another's"


def test_new_folders_outlast_a_power_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The name of each is synced in the folder that it is in."""
    synced, real = list[str](), os.fsync

    def fsync(descriptor: int) -> None:
        synced.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    folder = run_folder(tmp_path / "runs", "run", b"r" * 32, "ann")
    assert synced == [str(each) for each in (tmp_path, tmp_path / "runs", folder.parent)]
    synced.clear()
    assert run_folder(tmp_path / "runs", "run", b"r" * 32, "ann") == folder
    assert not synced
