"""What an interrupted alignment leaves on disk: whole buckets, in their order, and nothing else."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from parties import row_files
from parties.bucket_files import keep, resume
from parties.unfinished import forget
from psi.buckets import Finished

OF, RUNS = b"o" * 32, [bytes([n]) * 32 for n in range(6)]


def finished(buckets: list[list[int]], of: bytes = OF) -> Finished:
    return Finished(of, tuple(RUNS[: len(buckets)]), tuple(np.array(rows, np.int64) for rows in buckets))


def kept(folder: Path, buckets: list[list[int]]) -> None:
    for step in range(1, len(buckets) + 1):
        keep(folder, step, finished(buckets[:step]).to_bytes())


@settings(deadline=None, max_examples=10)
@given(st.lists(st.lists(st.integers(0, 2**40)), min_size=1, max_size=5))
def test_what_is_kept_comes_back(tmp_path_factory: pytest.TempPathFactory, buckets: list[list[int]]) -> None:
    folder = tmp_path_factory.mktemp("kept")
    kept(folder, buckets)
    back = resume(folder)
    assert back is not None
    assert back == (len(buckets), finished(buckets).to_bytes())
    assert all(path.stat().st_mode & 0o077 == 0 for path in folder.iterdir())


def test_only_whole_leading_buckets_of_one_alignment_come_back(tmp_path: Path) -> None:
    assert resume(tmp_path / "nothing") is None
    kept(tmp_path, [[1], [2], [3], [4]])
    keep(tmp_path, 4, finished([[1], [2], [3], [9]], b"p" * 32).to_bytes())
    assert resume(tmp_path) == (3, finished([[1], [2], [3]]).to_bytes())
    (tmp_path / "bucket-0002.parquet").write_bytes(b"half")
    assert resume(tmp_path) == (1, finished([[1]]).to_bytes())
    (tmp_path / "bucket-0001.parquet").unlink()
    assert resume(tmp_path) is None


def test_a_bucket_under_another_number_is_not_used(tmp_path: Path) -> None:
    kept(tmp_path, [[1], [2]])
    (tmp_path / "bucket-0002.parquet").write_bytes((tmp_path / "bucket-0001.parquet").read_bytes())
    assert resume(tmp_path) == (1, finished([[1]]).to_bytes())
    row_files.write(tmp_path / "bucket-0001.parquet", np.array([1]), {"run": "that of an alignment"})
    assert resume(tmp_path) is None


def test_a_bucket_done_again_replaces_the_earlier_one(tmp_path: Path) -> None:
    kept(tmp_path, [[1], [2]])
    again = Finished(OF, (RUNS[0], RUNS[5]), (np.array([1]), np.array([7, 8])))
    keep(tmp_path, 2, again.to_bytes())
    assert resume(tmp_path) == (2, again.to_bytes())


def test_forgotten(tmp_path: Path) -> None:
    kept(tmp_path / "alignment" / "ann", [[1]])
    kept(tmp_path / "alignment" / "bob", [[1]])
    forget(tmp_path / "alignment" / "ann")
    forget(tmp_path / "alignment" / "ann")
    assert [path.name for path in (tmp_path / "alignment").iterdir()] == ["bob"]
    forget(tmp_path / "alignment" / "bob")
    assert list(tmp_path.iterdir()) == []
