"""Labels that arrive late: which rows take part, what counts as a yes, and a run on what is mature."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from parties.check import check
from parties.check_text import text
from parties.config import load
from parties.delay import delayed
from parties.errors import ConfigError, DataError
from parties.label_draws import question
from parties.label_keys import told_of_delay
from parties.labels import OwnLabels
from parties.own import own_data
from parties.party_toml import Data
from tests.parties import small

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
DAY = timedelta(days=1)
HOUR = timedelta(hours=1)


def table(events: list[Any], came: list[Any] | None = None) -> Any:
    times = {"clicked": pd.Series(events, name="clicked", dtype=object)}
    if came is not None:
        times["bought"] = pd.Series(came, name="bought", dtype=object)
    return SimpleNamespace(times=pd.DataFrame(times))


def data(**more: Any) -> Any:
    keys = {"event_time": "clicked", "label_time": None, "window": "7d", "maturity": None, "as_of": None}
    return SimpleNamespace(**(keys | more))


def labels(values: list[int]) -> OwnLabels:
    return OwnLabels(np.array(values, dtype=np.float32))


AGES = st.lists(
    st.tuples(st.integers(0, 20 * 24), st.none() | st.integers(0, 20 * 24)), min_size=1, max_size=30
)


@settings(deadline=None, max_examples=40)
@given(ages=AGES, window=st.integers(1, 15), more=st.integers(0, 5), as_texts=st.booleans())
def test_any_ages_and_delays(
    ages: list[tuple[int, int | None]], window: int, more: int, as_texts: bool
) -> None:
    """In hours: a row takes part exactly if it is old enough, whatever its label; a yes counts exactly if it
    came within the window; what a mature row's label is does not depend on when one looks."""
    ages = [*ages, (2000, 1), (2000, None)]  # so that something is left to learn from
    write = (lambda moment: moment.isoformat()) if as_texts else (lambda moment: moment)
    events = [write(NOW - age * HOUR) for age, _ in ages]
    came = [None if delay is None else write(NOW - (age - delay) * HOUR) for age, delay in ages]
    given_ = labels([delay is not None for _, delay in ages])
    keys = {"label_time": "bought", "window": f"{window}d", "maturity": f"{window + more}d"}
    found, delay = delayed(table(events, came), data(**keys, as_of=NOW.replace(tzinfo=None)), given_)
    assert delay is not None
    assert delay.mature.tolist() == [age >= (window + more) * 24 for age, _ in ages]
    assert found.values.dtype == np.float32
    wanted = [float(after is not None and after <= window * 24) for _, after in ages]
    assert found.values.tolist() == wanted
    assert delay.facts()["immature"] == sum(age < (window + more) * 24 for age, _ in ages)
    late = given_.values != found.values
    assert delay.late == int((late & delay.mature).sum())
    looked = (NOW + 3 * DAY).replace(tzinfo=None)
    again, later = delayed(table(events, came), data(**keys, as_of=looked), given_)
    assert later is not None
    assert (later.mature >= delay.mature).all()
    assert (again.values == found.values)[delay.mature].all()


def test_age_is_reckoned_from_the_newest_time_unless_said() -> None:
    events, came = [NOW - 30 * DAY, NOW - 20 * DAY, NOW - 6 * DAY], [NOW - 29 * DAY, None, NOW - DAY]
    _, delay = delayed(table(events, came), data(label_time="bought"), labels([1, 0, 1]))
    assert delay is not None
    assert delay.as_of == "2026-11-19T12:00:00Z"
    assert delay.mature.tolist() == [True, True, False]
    assert told_of_delay(delay.facts()) == (
        "labels as of 2026-11-19T12:00:00Z: 1 row(s) too young to be final take no part, 0 yes after the "
        "window count as no"
    )
    assert delayed(table(events), data(event_time=None, window=None), labels([1, 0, 1]))[1] is None


@pytest.mark.parametrize(
    ("events", "came", "yes", "said"),
    [
        ([NOW, "soon"], None, [1, 0], "'clicked': 1 cell.s., the first in row 2, are no time"),
        ([NOW, "now"], None, [1, 0], "'clicked': 1 cell.s., the first in row 2, are no time"),
        (["2026-11-20", "today"], None, [1, 0], "'clicked': 1 cell.s., the first in row 2, are no time"),
        ([NOW, None], None, [1, 0], "'clicked': 1 cell.s., the first in row 2, are empty"),
        ([NOW, ""], None, [1, 0], "'clicked': 1 cell.s., the first in row 2, are empty"),
        (
            [NOW, NOW],
            [None, None],
            [1, 0],
            "'bought': 1 cell.s., the first in row 1, are empty where the label",
        ),
        (
            [NOW, NOW],
            [NOW, NOW],
            [1, 0],
            "'bought': 1 cell.s., the first in row 2, are not empty where the label",
        ),
        ([NOW, NOW], [NOW - DAY, None], [1, 0], "'bought': .* row 1, are before clicked"),
        (
            [NOW, NOW - DAY],
            [NOW, None],
            [1, 0],
            "rows as old as data.maturity as of 2026-11-20T12:00:00Z: none",
        ),
        ([NOW - 9 * DAY, NOW], [NOW, None], [1, 0], "all of one class: nothing to learn"),
    ],
)
def test_times_that_do_not_fit_are_refused(
    events: list[Any], came: list[Any] | None, yes: list[int], said: str
) -> None:
    with pytest.raises(DataError, match=said) as error:
        delayed(table(events, came), data(label_time="bought" if came else None), labels(yes))
    assert "\n" not in str(error.value)


def test_numbers_are_no_times() -> None:
    held = SimpleNamespace(times=pd.DataFrame({"clicked": [1_700_000_000, 1]}))
    with pytest.raises(DataError, match="'clicked': holds numbers, not times"):
        delayed(held, data(), labels([1, 0]))


@pytest.fixture
def homes(tmp_path: Path, certificates: Path, identities: dict[str, Any]) -> dict[str, Path]:
    """The platform's rows are as old as their id in tenths of a day; every second yes took eight days."""
    homes = small.write(tmp_path, certificates, identities)
    path = homes["platform"] / "table.csv"
    frame = pd.read_csv(path)
    event = [NOW - number * DAY / 10 for number in frame["k"]]
    delays = [8 * DAY if number % 2 else HOUR for number in frame["k"]]
    frame["clicked"] = [moment.isoformat() for moment in event]
    frame["at"] = [
        (moment + delay).isoformat() if yes else ""
        for moment, delay, yes in zip(event, delays, frame["bought"], strict=True)
    ]
    frame.to_csv(path, index=False)
    return homes


def delay_in(home: Path, keys: str) -> None:
    path = home / "party.toml"
    path.write_text(path.read_text().replace('label = "bought"', f'label = "bought", {keys}'))


def test_a_run_is_of_the_mature_rows(homes: dict[str, Path], identities: dict[str, Any]) -> None:
    home = homes["platform"]
    delay_in(home, 'event_time = "clicked", label_time = "at", window = "7d", as_of = 2026-11-20T12:00:00Z')
    ended = small.run(homes)
    frame = pd.read_csv(home / "table.csv")
    late = int(((frame["bought"] == 1) & (frame["k"] % 2 == 1) & (frame["k"] >= 70)).sum())
    assert ended["platform"]["delay"] == {"as_of": "2026-11-20T12:00:00Z", "immature": 70, "late": late}
    assert ended["platform"]["aligned"] == ended["logistics"]["aligned"] == small.PEOPLE - 70
    assert "delay" not in ended["logistics"]
    aligned = pd.read_parquet(small.folder_of(home, ended["platform"]) / "alignment.parquet")
    assert sorted(aligned["row"]) == [*range(70, small.PEOPLE)]  # of the file as it is
    scores = pd.read_parquet(small.folder_of(home, ended["platform"]) / "test_scores.parquet")
    in_time = frame["bought"].where(frame["k"] % 2 == 0, 0)
    assert (scores["label"].to_numpy() == in_time[scores["row"]].to_numpy()).all()
    report = (small.folder_of(home, ended["platform"]) / "report.txt").read_text()
    assert "delay      labels as of 2026-11-20T12:00:00Z: 70 row(s) too young" in report
    found = check(load(home / "party.toml"))
    assert found.data["delay"]["immature"] == 70
    assert "70 row(s) too young to be final" in " ".join(text(found).split())
    assert not {"clicked", "at"} & {column["name"] for column in found.data["columns"]}


def test_another_window_is_another_question(homes: dict[str, Path]) -> None:
    """Under labels that lie, one record's answers to two questions are two releases."""
    home, asked = homes["platform"], set()
    before = question(load(home / "party.toml"), ())
    assert before == '[["bought"], [], []]'
    for keys in ('event_time = "clicked", label_time = "at", window = "7d"', 'window = "8d"'):
        if keys.startswith("window"):
            path = home / "party.toml"
            path.write_text(path.read_text().replace('window = "7d"', keys))
        else:
            delay_in(home, keys)
        asked.add(question(load(home / "party.toml"), ()))
    assert len(asked | {before}) == 3


def test_the_others_rows_are_what_they_were_without_the_keys(homes: dict[str, Path]) -> None:
    plain = own_data(load(homes["logistics"] / "party.toml"))
    assert plain.delay is None
    assert [len(ids.rows) for ids in plain.ids.values()] == [small.PEOPLE]


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ('event_time = "clicked"', "data.window: missing, beside data.event_time; give both, or remove it"),
        ('window = "7d"', "data.event_time: missing, beside data.window"),
        ('label_time = "at"', "data.event_time: missing, beside data.label_time"),
        ('event_time = "clicked", window = "7d", maturity = "6d"', "data.maturity: shorter than data.window"),
        ('event_time = "clicked", window = "week"', "data.window: must be a text such as 90m, 36h or 7d"),
        (
            'event_time = "clicked", window = "7d", as_of = "2026"',
            "data.as_of: must be a date or a time without",
        ),
        ('event_time = "bought", window = "7d"', "column 'bought' is already named by data.label"),
    ],
)
def test_keys_that_do_not_go_together_are_refused(homes: dict[str, Path], keys: str, said: str) -> None:
    delay_in(homes["platform"], keys)
    with pytest.raises(ConfigError, match=said):
        load(homes["platform"] / "party.toml")


def test_they_are_the_label_holders(homes: dict[str, Path]) -> None:
    path = homes["logistics"] / "party.toml"
    path.write_text(path.read_text().replace('id = "k"', 'id = "k", event_time = "spent", window = "7d"'))
    with pytest.raises(ConfigError, match=r"data\.event_time: not for a feature holder"):
        load(path)


@pytest.mark.parametrize(
    ("written", "moment"),
    [
        (NOW.date(), datetime(2026, 11, 20)),
        (NOW, datetime(2026, 11, 20, 12)),
        (datetime.fromisoformat("2026-11-20T13:30:00+01:30"), datetime(2026, 11, 20, 12)),
        (datetime(2026, 11, 20, 12), datetime(2026, 11, 20, 12)),
    ],
)
def test_a_moment_is_utc(written: Any, moment: datetime) -> None:
    keys = {"event_time": "a", "window": "1d", "as_of": written}
    held = Data.model_validate({"file": __file__, "id": "k", **keys}, strict=False)
    assert held.as_of == moment
