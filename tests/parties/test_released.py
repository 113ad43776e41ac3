"""What left with noise is noted before it leaves, and what is not as it was written counts as lost."""

import errno
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from parties.errors import StorageError
from parties.released import NAME, Noted
from splitnn.releases import Release

RUN = b"r" * 32
RELEASES = [Release("activation", 1 + n // 3, n % 3, bytes([n] * 16)) for n in range(7)]


def noted(folder: Path, count: int = 7) -> Path:
    one = Noted.of(folder, RUN, 0)
    for release in RELEASES[:count]:
        one.keep(release)
    return folder / NAME


def test_what_was_noted_is_there_and_goes_on(tmp_path: Path) -> None:
    path = noted(tmp_path, 5)
    again = Noted.of(tmp_path, RUN, 9)
    assert ([*again.before], again.lost) == (RELEASES[:5], 0)
    again.keep(RELEASES[5])
    assert [*Noted.of(tmp_path, RUN, 9).before] == RELEASES[:6]
    assert path.stat().st_mode & 0o077 == 0


def test_nothing_is_noted_of_another_run_or_of_none(tmp_path: Path) -> None:
    one = Noted.of(tmp_path, RUN, 0)
    assert ([*one.before], one.lost) == ([], 0)
    noted(tmp_path)
    other = Noted.of(tmp_path, b"o" * 32, 4)
    assert ([*other.before], other.lost) == ([], 4)
    assert Noted.of(tmp_path, b"o" * 32, 9).lost == 4  # it stays


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_killed_at_any_byte_and_changed_at_any_bit(tmp_path: Path, data: st.DataObject) -> None:
    (tmp_path / NAME).unlink(missing_ok=True)
    path = noted(tmp_path)
    whole = path.read_bytes()
    lines = whole.splitlines(keepends=True)
    end = data.draw(st.integers(len(lines[0]), len(whole)))
    path.write_bytes(whole[:end])
    found = Noted.of(tmp_path, RUN, 9)
    finished = whole[:end].count(b"\n") - 1
    assert ([*found.before], found.lost) == (RELEASES[:finished], 0)
    for release in RELEASES[finished:]:
        found.keep(release)
    assert path.read_bytes() == whole
    bit = data.draw(st.integers(0, 8 * len(whole) - 9))  # all but the last newline
    changed = bytearray(whole)
    changed[bit // 8] ^= 1 << bit % 8
    path.write_bytes(changed)
    found = Noted.of(tmp_path, RUN, 9)
    assert ([*found.before], found.lost) == ([], 9)


def test_it_is_synced_before_anything_leaves_and_a_full_disk_lets_nothing_leave(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, synced = Noted.of(tmp_path, RUN, 0), []
    monkeypatch.setattr(os, "fsync", lambda file: synced.append((tmp_path / NAME).read_bytes()))
    one.keep(RELEASES[0])
    assert synced == [(tmp_path / NAME).read_bytes()]

    def full(file: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match="No space left on device; nothing leaves without its line"):
        one.keep(RELEASES[1])
