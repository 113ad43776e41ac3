"""A category with a million levels: what is made of it, and in how much memory."""

import tracemalloc
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from parties.columns.facts import facts_of_columns
from parties.columns.levels import LEVELS_AT_MOST, MISSING, RARE
from parties.columns.suspects import suspects
from parties.features import Pipeline
from parties.sources.files import source_of
from parties.table import read_table

MILLION = 1_000_000


@pytest.mark.slow
def test_a_million_levels(tmp_path: Path) -> None:
    """Two hashed codes, no name kept; `party check` says that the column looks like an id."""
    often = RARE * (LEVELS_AT_MOST + 1)
    rows = np.arange(MILLION)
    place = np.where(rows < often, rows // RARE, rows)
    cells = pa.array([f"c{one}" for one in place])
    file = tmp_path / "t.parquet"
    pq.write_table(pa.table({"id": cells, "level": cells, "x": place % 7}), file)
    table = read_table(source_of(file), ["id"], types={"level": "category"})
    tracemalloc.start()
    pipeline = Pipeline.fit(table, np.arange(table.rows))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 300e6, "some words a level, while it is fitted"
    codes = [pipeline.transform(table, np.arange(at, at + 10_000))[1] for at in (0, MILLION // 2)]
    assert pipeline.levels == (LEVELS_AT_MOST + 1,) * 2
    assert len(pipeline.to_json()) < 10_000
    for each in codes:
        assert each.min() > MISSING
        assert each.max() <= LEVELS_AT_MOST
    facts, warnings = facts_of_columns(table, np.arange(table.rows))
    assert warnings == []
    assert {fact.name: fact.distinct for fact in facts} == {
        "level": MILLION - (RARE - 1) * (LEVELS_AT_MOST + 1),
        "x": 7,
    }
    own: Any = SimpleNamespace(
        table=table,
        labels=None,
        ids={"string": SimpleNamespace(rows=np.arange(table.rows), repeats=np.zeros(0, np.int64))},
    )
    assert [line.split(", which")[0] for line in suspects(own)] == [
        f"{file}: column 'level' is the id column 'id' again"
    ]
    seen = read_table(source_of(file), ["id"])
    assert seen.left_out["level"].kind == "key"
    assert seen.kinds == {"x": "number"}
