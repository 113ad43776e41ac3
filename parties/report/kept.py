"""What a run's folder holds, read again for its page. Files that are not there, or damaged, are left out."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from parties.egress import NAME as AUDIT
from parties.egress import Totals
from parties.errors import DataError, StorageError

if TYPE_CHECKING:
    import pandas as pd

    from parties.features import Pipeline

STARTS: Final = (b'{"attempt":', b'{"end":')
"""How the lines of an egress log begin that are no message: its keys are in order."""


@dataclass(frozen=True)
class Kept:
    """One party's finished run. contract: as it was agreed; {} if that is not known any more. ended: when
    summary.json was written."""

    folder: Path
    summary: Mapping[str, Any]
    contract: Mapping[str, Any]
    ended: datetime

    @classmethod
    def read(cls, folder: Path) -> "Kept":
        """Raises StorageError where there is no summary.json of a training."""
        path = folder / "summary.json"
        try:
            summary = json.loads(path.read_bytes())
            ended = datetime.fromtimestamp(path.stat().st_mtime, UTC)
            known = {"run", "party", "role", "rows", "aligned", "psi", "training"} <= summary.keys()
        except (OSError, ValueError, AttributeError):
            known = False
        if not known:
            raise StorageError(f"{path}: is no summary of a training; name the folder of a finished run")
        try:
            contract = dict(json.loads((folder / "agreement.json").read_bytes())["contract"])
        except (OSError, ValueError, LookupError, TypeError):
            contract = {}
        return cls(folder, summary, contract, ended)

    @property
    def name(self) -> str:
        """Of the contract."""
        return str(self.contract.get("name", self.folder.parent.name.rpartition("-")[0]))

    @property
    def run(self) -> str:
        """The beginning of its id."""
        return str(self.summary["run"])[:12]

    @property
    def holds_label(self) -> bool:
        return bool(self.summary["role"] == "label holder")

    @property
    def task(self) -> str:
        return str(self.summary["training"]["task"])

    @cached_property
    def pipeline(self) -> "Pipeline | None":
        """How this party's columns became features."""
        from parties.features import Pipeline

        try:
            return Pipeline.from_json((self.folder / "pipeline.json").read_text())
        except (OSError, ValueError, DataError):
            return None

    @cached_property
    def scores(self) -> "pd.DataFrame | None":
        """Labels and scores of the test rows, not whose they are; None at a feature holder."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        path = self.folder / "test_scores.parquet"
        try:
            names = pq.read_schema(path).names
            wanted = [one for one in names if one.partition(".")[0] in ("label", "score")]
            frame: pd.DataFrame = pq.read_table(path, columns=wanted).to_pandas()
        except (OSError, pa.ArrowException):
            return None
        return frame

    @cached_property
    def sent(self) -> tuple[int, Totals] | None:
        """Attempts at the run, and what left in all of them: messages and bytes by peer and kind.

        An attempt that came to an end has its totals in the log; messages are counted where one was killed.
        """
        try:
            return _sent(self.folder / AUDIT)
        except (OSError, ValueError, LookupError, TypeError):
            return None


def _sent(path: Path) -> tuple[int, Totals]:
    total: Totals = {}
    ended = []
    for line in _lines(path):
        if line.startswith(STARTS[0]):
            ended.append(False)
        elif line.startswith(STARTS[1]):
            ended[-1] = True
    attempt = -1
    for line in _lines(path):
        if line.startswith(STARTS[0]):
            attempt += 1
        elif line.startswith(STARTS[1]):
            for peer, kinds in json.loads(line)["sent"].items():
                for kind, (messages, size) in kinds.items():
                    _add(total, peer, kind, messages, size)
        elif not ended[attempt]:
            entry = json.loads(line)
            _add(total, entry["to"], entry["kind"], 1, entry["bytes"])
    return len(ended), total


def _lines(path: Path) -> Iterator[bytes]:
    """All but a last one that a kill cut short: its message never left."""
    with path.open("rb") as file:
        yield from (line for line in file if line.endswith(b"\n"))


def _add(total: Totals, peer: str, kind: str, messages: int, size: int) -> None:
    counted = total.setdefault(str(peer), {}).setdefault(str(kind), [0, 0])
    counted[0] += messages
    counted[1] += size
