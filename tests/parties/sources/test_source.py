"""Files read in batches: the same cells as read whole, in any order of rows, and bounded in memory."""

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from parties.errors import DataError
from parties.sources import source
from parties.sources.files import source_of
from parties.sources.source import read_batches, read_columns, read_rows


@pytest.fixture(scope="module", params=["csv", "csv.gz", "parquet"])
def file(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("files") / f"table.{request.param}"
    frame = pd.DataFrame({"id": [f"id {n}" for n in range(50)], "x": range(50), "y": "é"})
    frame.loc[7, "id"] = None
    if request.param == "parquet":
        frame.to_parquet(path, row_group_size=11)
    else:
        frame.to_csv(path, index=False)
    return path


def test_batches_are_the_file_in_its_order(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "BLOCK", 8)
    batches = list(read_batches(source_of(file), ["x", "id"]))
    assert max(len(batch["id"]) for batch in batches) <= 8
    ids = [cell for batch in batches for cell in batch["id"].to_pylist()]
    assert ids == [f"id {n}" if n != 7 else None for n in range(50)]
    assert {name for batch in batches for name in batch} == {"id", "x"}
    whole = read_columns(source_of(file), ["id"], others=True)
    assert whole["id"].to_pylist() == ids
    assert set(whole) == {"id", "x", "y"}


@settings(deadline=None, max_examples=20)
@given(st.permutations(range(50)), st.integers(0, 50), st.integers(1, 60))
def test_rows_come_in_the_order_that_is_asked_for(
    file: Path, order: list[int], count: int, at_a_time: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(source, "BLOCK", 8)
        patch.setattr(source, "GATHERED", at_a_time)
        found = list(read_rows(source_of(file), ["id", "x"], np.array(order[:count], np.int64)))
    assert all(len(part["id"]) <= at_a_time for part in found)
    cells = [int(cell) for part in found for cell in part["x"].to_pylist()]
    ids = [cell for part in found for cell in part["id"].to_pylist()]
    assert cells == order[:count]
    assert ids == [f"id {n}" if n != 7 else None for n in order[:count]]


def test_a_file_that_has_shrunk_is_named(file: Path) -> None:
    with pytest.raises(DataError, match="fewer rows than before"):
        list(read_rows(source_of(file), ["id"], np.array([3, 50])))


def test_nothing_is_read_before_it_is_asked_for(tmp_path: Path) -> None:
    """A fault far down in the file does not keep its beginning from being read."""
    path = tmp_path / "late.csv"
    path.write_text("id\n" + "a\n" * source.BLOCK + "b,c\n")
    batches = read_batches(source_of(path), ["id"])
    assert len(next(batches)["id"]) == source.BLOCK
    with pytest.raises(DataError, match=f"line {source.BLOCK + 2}: 2 cells"):
        next(batches)


def test_a_dictionary_column_that_differs_between_batches(tmp_path: Path) -> None:
    path = tmp_path / "table.parquet"
    cells = pa.array(["a", "b"] * 30).dictionary_encode()
    pq.write_table(pa.table({"id": cells}), path, row_group_size=7)
    assert read_columns(source_of(path), ["id"], others=False)["id"].to_pylist() == ["a", "b"] * 30
