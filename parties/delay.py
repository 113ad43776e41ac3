"""Labels that arrive late: which rows' labels can be taken as final, and which yes came too late to count.

A row's event (a click, an order) has a time, and a yes counts if it came within the attribution window after
it. Until a row is as old as its maturity a no may still become a yes: such rows take no part. Not only the
young no's: to leave out those alone would make all young rows yes, which teaches a bias (Chapelle 2014,
"Modeling Delayed Feedback in Display Advertising", section 1), and who sees which users take part would know
their labels. Age is reckoned from a fixed moment, so that a restart leaves out the same rows.
"""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from parties.columns.cells import CLOCK, NO_NUMBER
from parties.errors import DataError
from parties.label_keys import seconds
from parties.labels import OwnLabels

if TYPE_CHECKING:
    from parties.party_toml import Data
    from parties.table import Table


@dataclass(frozen=True)
class Delay:
    """mature: [rows], those that take part, unless they are excluded. late: how many of these rows' yes came
    after the window, and count as no. as_of: when age is reckoned from, ISO 8601 in UTC."""

    mature: NDArray[np.bool_]
    late: int
    as_of: str

    def facts(self) -> dict[str, Any]:
        """For the summary, `party check`, and `told_of_delay`."""
        return {"as_of": self.as_of, "immature": int((~self.mature).sum()), "late": self.late}


def delayed(
    table: "Table", data: "Data", labels: OwnLabels, takes_part: NDArray[np.bool_] | None = None
) -> tuple[OwnLabels, Delay | None]:
    """The labels as the window has them, and which rows take part; None where no times are configured.
    takes_part: as `own_labels` has it.

    Raises DataError for cells that are no time, for a yes without its time or before its event, for a no with
    one, and where the rows that are mature leave nothing to learn.
    """
    if data.event_time is None or data.window is None:
        return labels, None
    here = np.ones(len(labels.values), dtype=bool) if takes_part is None else takes_part
    times, given = table.times[here], labels.values[here]
    event = _times(times[data.event_time])
    known, late = [event], np.zeros(len(event), dtype=bool)
    window, age = (_seconds(one) for one in (data.window, data.maturity or data.window))
    if data.label_time is not None:
        came, yes = _times(times[data.label_time], may_be_empty=True), given == 1
        _refuse(yes & np.isnat(came), times.index, data.label_time, "empty where the label is a yes")
        _refuse(~yes & ~np.isnat(came), times.index, data.label_time, "not empty where the label is a no")
        _refuse(came < event, times.index, data.label_time, f"before {data.event_time}")
        late = yes & (came - event > window)
        known.append(came[yes])
    as_of = np.concatenate(known).max() if data.as_of is None else np.datetime64(data.as_of, "us")
    mature = as_of - event >= age
    given = np.where(late, 0, given).astype(given.dtype)
    if not mature.any() or (data.label_time is not None and len({*given[mature].tolist()}) < 2):
        what = "all of one class: nothing to learn" if mature.any() else "none"
        raise DataError(
            f"column {data.event_time!r}: rows as old as data.maturity as of {_text(as_of)}: {what}; "
            "bring older rows, or mend data.window, data.maturity or data.as_of"
        )
    values, all_mature = labels.values.copy(), np.ones(len(here), dtype=bool)
    values[here], all_mature[here] = given, mature
    return replace(labels, values=values), Delay(all_mature, int((late & mature).sum()), _text(as_of))


def _times(column: "pd.Series[Any]", may_be_empty: bool = False) -> "NDArray[np.datetime64]":
    """UTC, to the microsecond; NaT where empty. A time without a zone is UTC."""
    name = str(column.name)
    missing = (column.isna() | column.isin(["", *NO_NUMBER])).to_numpy(dtype=bool)
    if column.dtype.kind in "iufb":
        raise DataError(
            f"column {name!r}: holds numbers, not times; write 2026-11-20T08:30:00Z, or a Parquet time"
        )
    written = column.mask(missing | column.isin(CLOCK))
    read = pd.to_datetime(written, errors="coerce", utc=True, format="ISO8601")
    _refuse(read.isna().to_numpy() & ~missing, column.index, name, "no time, such as 2026-11-20T08:30:00Z")
    if not may_be_empty:
        _refuse(missing, column.index, name, "empty")
    return read.dt.tz_localize(None).to_numpy(dtype="datetime64[us]")


def _seconds(duration: str) -> np.timedelta64:
    return np.timedelta64(seconds(duration), "s")


def _text(moment: np.datetime64) -> str:
    return f"{np.datetime_as_string(moment, 's')}Z"


def _refuse(bad: NDArray[np.bool_], rows: "pd.Index[Any]", name: str, why: str) -> None:
    """rows: of the table."""
    if bad.any():
        first = int(rows[int(np.argmax(bad))]) + 1
        raise DataError(
            f"column {name!r}: {int(bad.sum())} cell(s), the first in row {first}, are {why}; mend them"
        )
