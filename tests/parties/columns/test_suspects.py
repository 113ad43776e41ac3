"""Columns that tell the label alone, and ids: which are told, and which are not."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from parties.bags import Bags
from parties.columns import suspects as module
from parties.columns.suspects import suspects
from parties.labels import OwnLabels
from parties.sources.csv_file import CsvFile
from parties.table import Table, read_table

N = 3_000
RANDOM = np.random.default_rng(7)
NOISE = RANDOM.normal(size=N)
YES = RANDOM.random(N) < 0.2
CLASS = RANDOM.integers(0, 4, N)
AMOUNT = RANDOM.lognormal(2, 1, N)


def told(labels: Any, rows: Any = None, **columns: Any) -> list[str]:
    """Names of the columns that are told. columns: texts, or numbers. rows: those that may take part."""
    frame = pd.DataFrame(columns)
    texts = [name for name in frame if frame[name].dtype.kind in "OU" or frame[name].dtype == "str"]
    rest = [name for name in frame if name not in texts]
    table = Table(
        CsvFile(Path("t.csv")),
        pd.DataFrame({"id": [f"U{row}@x.org" for row in range(len(frame))]}),
        frame[rest].astype(np.float64),
        frame[texts].astype("str"),
        pd.DataFrame(index=frame.index),
        None,
        kinds=dict.fromkeys(rest, "number") | dict.fromkeys(texts, "category"),
    )
    lines = suspects(own(table, None if labels is None else OwnLabels(labels), rows))
    assert all(line.startswith("t.csv: column '") for line in lines)
    return [line.split("'")[1] for line in lines]


def own(table: Table, labels: OwnLabels | None, rows: Any = None) -> Any:
    """The first half of these rows have an id for the first time."""
    rows = np.arange(table.rows) if rows is None else rows
    ids = SimpleNamespace(rows=rows[: len(rows) // 2], repeats=rows[len(rows) // 2 :])
    return SimpleNamespace(table=table, labels=labels, ids={"email": ids})


def words(values: Any) -> list[str]:
    return [f"w{value}" for value in values]


def test_what_tells_a_yes_alone() -> None:
    label = YES.astype(np.float32)
    found = told(
        label,
        score=YES + 0.1 * NOISE,
        turned=-1e6 * YES + NOISE,
        beyond=np.where(YES, 9 * np.sign(NOISE), NOISE),
        paid_at=np.where(YES, NOISE, np.nan),
        state=words(YES),
        reason=[f"w{row % 30}" if yes else None for row, yes in enumerate(YES)],
        flag=YES.astype(float),
    )
    assert found == ["score", "turned", "beyond", "paid_at", "flag", "state", "reason"]


def test_what_does_not() -> None:
    label = YES.astype(np.float32)
    assert (
        told(
            label,
            good=YES + 0.5 * NOISE,
            noise=NOISE,
            constant=np.zeros(N),
            empty=np.full(N, np.nan),
            city=words(RANDOM.integers(0, 9, N)),
            levels=words(RANDOM.integers(0, N // 3, N)),
        )
        == []
    )


def test_many_levels_do_not_fake_it() -> None:
    """Of as many levels as rows, or two rows each, in-sample means would be the label itself."""
    found = told(YES.astype(np.float32), pair=words(np.arange(N) // 3))
    assert found == []


def test_rows_that_take_no_part_do_not_count() -> None:
    label, there = YES.astype(np.float32), np.arange(N) < N // 2
    leak = np.where(there, YES, 1 - YES) + 0.1 * NOISE
    assert told(label, leak=leak) == []
    assert told(label, np.flatnonzero(there), leak=leak) == ["leak"]
    assert told(label, np.zeros(0, np.int64), leak=leak) == []


def test_a_rare_yes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SAMPLE", 400)
    label = (np.arange(N) < 25).astype(np.float32)
    assert told(label, leak=label + 0.1 * NOISE, noise=NOISE) == ["leak"]
    assert told((np.arange(N) < 19).astype(np.float32), leak=label) == [], "so few may be chance"


def test_one_class_among_others() -> None:
    found = told(CLASS, all=words(CLASS), one=CLASS == 2, noise=NOISE, half=np.where(NOISE > 0, CLASS, 0))
    assert found == ["one", "all"]


def test_each_of_several_targets() -> None:
    targets = np.stack((YES, NOISE > 0.5), axis=1).astype(np.float32)
    assert told(targets, first=YES + 0.1 * NOISE, second=NOISE, neither=AMOUNT) == ["first", "second"]


def test_numbers_as_labels() -> None:
    net = AMOUNT / 1.19
    found = told(AMOUNT, net=net, about=net * np.exp(0.02 * NOISE), good=net * np.exp(NOISE), noise=NOISE)
    assert found == ["net", "about"]


def test_ids() -> None:
    found = told(
        None,
        row=RANDOM.permutation(N),
        again=[f" u{row}@X.org" for row in range(N)],
        mail=[f"u{row % 7}@x.org" for row in range(N)],
        phone=[f"+49 30 {row % 50:07}" for row in range(N)],
        uuid=[f"{row % 50:08x}-0000-4000-8000-000000000000" for row in range(N)],
        name=[f"person {row}" for row in range(N)],
        day=[f"{1 + row % 28:02}.{1 + row % 12:02}.{1990 + row % 9}" for row in range(N)],
        iso=[f"20{row % 99:02}-09-{1 + row % 28:02}" for row in range(N)],
        price=[f"{row},72" for row in range(N)],
        city=words(np.arange(N) % 40),
        cents=np.floor(100 * AMOUNT),
        year=RANDOM.integers(1950, 2000, N),
    )
    assert found == ["row", "again", "mail", "phone", "uuid", "name"]


def test_ids_that_are_numbers_and_ids_in_lists() -> None:
    table = Table(
        CsvFile(Path("t.csv")),
        pd.DataFrame({"id": [str(7 * row) for row in range(60)]}),
        pd.DataFrame({"number": [7.0 * row for row in range(60)]}),
        pd.DataFrame(index=range(60)),
        pd.DataFrame(index=range(60)),
        None,
        bags={
            "friends": Bags(pd.Series(["a@x.org", "b@x.org"]), None),
            "pages": Bags(pd.Series(["shoes", "hats"]), None),
        },
        kinds={"number": "number", "friends": "bag", "pages": "bag"},
    )
    assert [line.split(", which")[0] for line in suspects(own(table, None))] == [
        "t.csv: column 'number' is the id column 'id' again",
        "t.csv: column 'friends' holds what looks like ids of people",
    ]


def test_no_cell_is_shown(tmp_path: Path) -> None:
    file = tmp_path / "t.csv"
    rows = [f"u{row}@x.org,secret{row % 2},secret{row}" for row in range(200)]
    file.write_text("id,state,key\n" + "\n".join(rows))
    table = read_table(CsvFile(file), ["id"], types={"state": "category", "key": "category"})
    labels = OwnLabels(np.arange(200, dtype=np.float32) % 2)
    found = suspects(own(table, labels))
    assert [line.split("'")[1] for line in found] == ["state", "key"]
    assert not any("secret" in line or "@" in line for line in found)
