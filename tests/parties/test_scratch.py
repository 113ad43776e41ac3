"""Large columns on disk are the same columns."""

import errno
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from numpy.typing import NDArray

from parties.errors import DataError, StorageError
from parties.features import Pipeline
from parties.phases import features_of
from parties.scratch import as_table, empty, let_go
from parties.sources.files import source_of
from parties.table import Table, read_table
from protos.memory import together
from splitnn.exact import feature_holder, label_holder
from splitnn.features import Features
from splitnn.plan import Plan
from splitnn.schedule import split_rows
from splitnn.tasks import Labels

ROWS = 400
TAKEN = np.random.default_rng(1).permutation(ROWS)[:300]


@pytest.fixture
def all_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("parties.scratch.LARGE", 0)
    monkeypatch.setattr("parties.sources.source.BLOCK", 64)
    monkeypatch.setattr("parties.phases.BLOCK", 64)


def put(folder: Path, name: str) -> Path:
    draw = np.random.default_rng(0)
    columns = {
        "id": [f"u{place}" for place in range(ROWS)],
        "a": np.where(draw.random(ROWS) < 0.1, np.nan, draw.lognormal(size=ROWS)),
        "b": draw.integers(0, 9, ROWS),
        "c": [None if code == 4 else f"level {code}" for code in draw.integers(0, 5, ROWS)],
    }
    frame, file = pd.DataFrame(columns), folder / name
    if file.suffix == ".csv":
        frame.to_csv(file, index=False)
    else:
        frame.to_parquet(file)
    return file


def features(table: Table) -> Features:
    return features_of(Pipeline.fit(table, TAKEN[:200]), table, TAKEN)


def mapped(array: NDArray[Any], folder: Path) -> bool:
    """Whether the kernel has it from a file that was in this folder."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        if str(folder) in line:
            start, end = (int(address, 16) for address in line.split()[0].split("-"))
            if start <= array.ctypes.data < end:
                return True
    return False


@pytest.mark.parametrize("name", ["t.csv", "t.parquet"])
@pytest.mark.usefixtures("all_is_large")
def test_a_table_on_disk_is_the_table(tmp_path: Path, name: str) -> None:
    file, storage = put(tmp_path, name), tmp_path / "made" / "storage"
    held, kept = read_table(source_of(file), ["id"]), read_table(source_of(file), ["id"], scratch=storage)
    for part in ("ids", "numeric", "categorical"):
        pd.testing.assert_frame_equal(getattr(held, part), getattr(kept, part))
    assert [mapped(table.numeric["a"].to_numpy(), storage) for table in (held, kept)] == [False, True]
    assert [*storage.iterdir()] == []  # no file that anybody could open, or would have to remove


@pytest.mark.usefixtures("all_is_large")
def test_training_on_mapped_features_has_the_same_bits(tmp_path: Path) -> None:
    file = put(tmp_path, "t.parquet")
    held, kept = (
        features(read_table(source_of(file), ["id"], scratch=scratch)) for scratch in (None, tmp_path)
    )
    assert [mapped(part.numeric.numpy(), tmp_path) for part in (held, kept)] == [False, True]
    assert [mapped(part.categorical.numpy(), tmp_path) for part in (held, kept)] == [False, True]
    table = read_table(source_of(file), ["id"])
    numeric, codes = Pipeline.fit(table, TAKEN[:200]).transform(table, TAKEN)  # all rows at once
    assert torch.equal(held.numeric, torch.from_numpy(numeric))
    assert torch.equal(held.categorical, torch.from_numpy(codes))
    rows = split_rows(len(held), 0.2, 0.2, b"")
    labels = Labels(*(torch.arange(len(part)) % 2 * 1.0 for part in rows))
    plan = Plan(seed=b"", batch=50, epochs=2)

    def weights(columns: Features) -> dict[str, torch.Tensor]:
        ended = together(
            {
                "hub": label_holder(plan, rows, columns, labels, ["other"], b"a"),
                "other": feature_holder(plan, rows, columns, "hub", b"b"),
            }
        )
        return {
            f"{name} {key}": value
            for name, result in ended.results.items()
            for key, value in result.bottom.state_dict().items()
        }

    of_held, of_kept = weights(held), weights(kept)
    assert all(torch.equal(of_held[name], of_kept[name]) for name in of_held)
    assert torch.equal(held.numeric, kept.numeric)  # nothing wrote to them
    assert torch.equal(held.categorical, kept.categorical)


def test_what_is_small_stays_in_memory(tmp_path: Path) -> None:
    assert not mapped(empty(tmp_path / "none", (1000, 30), np.float32), tmp_path)
    assert not (tmp_path / "none").exists()


@pytest.mark.usefixtures("all_is_large")
def test_space_is_free_again_without_the_array(tmp_path: Path) -> None:
    filled = empty(tmp_path, (1000, 30), np.float32)
    filled[:] = 1
    maps = Path("/proc/self/maps")
    assert str(tmp_path) in maps.read_text()
    del filled
    assert str(tmp_path) not in maps.read_text()


@pytest.fixture
def little_room() -> Iterator[None]:
    """Of a file; as a full disk, it fails what writes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.usefixtures("all_is_large", "little_room")
def test_a_full_disk_is_an_error_and_no_crash(tmp_path: Path) -> None:
    batch = pa.RecordBatch.from_pydict({"a": pa.array(np.zeros(10_000))})
    with pytest.raises(StorageError, match="no room for a large table"):
        empty(tmp_path, (1000, 1000), np.float32)
    with pytest.raises(StorageError, match="no room for a large table"):
        as_table(tmp_path, [batch, batch])


@pytest.mark.usefixtures("all_is_large")
def test_room_is_taken_before_it_is_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a full disk would be found out by a signal that ends the process."""

    def full(file: int, start: int, size: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.posix_fallocate", full)
    with pytest.raises(StorageError, match="No space left"):
        empty(tmp_path, (10, 10), np.float32)


@pytest.mark.usefixtures("all_is_large")
def test_a_fault_of_the_file_is_told_as_such(tmp_path: Path) -> None:
    file = tmp_path / "t.csv"
    file.write_text("id,a\n" + "u,1\n" * 100 + "u,1,2\n")
    with pytest.raises(DataError, match="line 102"):
        read_table(source_of(file), ["id"], scratch=tmp_path)


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="pages in memory are told by Linux alone")
def test_memory_that_is_let_go_still_holds_what_was_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("parties.scratch.LARGE", 16)
    numbers = empty(tmp_path, (1000, 1000), np.float64)
    numbers[:] = np.arange(1000)
    held = as_table(tmp_path, [pa.record_batch({"x": [*range(1000)]})] * 9)
    monkeypatch.setattr("parties.scratch.RESIDENT", 0)

    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[2])

    before = resident()
    let_go()
    assert resident() < before - 1500
    assert (numbers == np.arange(1000)).all()
    assert held.column("x").to_pylist() == [*range(1000)] * 9
