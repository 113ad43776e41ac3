"""What a run gives to Python code that started it."""

import html
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from parties.summary import report

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, repr=False)
class Result:
    """summary: what docs/summary.md tells of. folder: of the run, at this party; None if it was temporary.

    scores: at the label holder, of the test rows: row, id, label and score, as test_scores.parquet has them.
    """

    summary: dict[str, Any]
    folder: Path | None
    scores: "pd.DataFrame | None" = None

    @property
    def party(self) -> str:
        return str(self.summary["party"])

    @property
    def metrics(self) -> dict[str, Any]:
        """Of the test rows: `test`, `alone` and so on; empty at a feature holder."""
        return dict(self.summary.get("metrics", {}))

    @property
    def history(self) -> list[dict[str, Any]]:
        """An entry an epoch, as summary.json has them."""
        return list(self.summary.get("history", []))

    def __repr__(self) -> str:
        told = [f"{self.party}, {self.summary['role']}", f"run {self.summary['run'][:12]}"]
        told += [f"{self.summary['aligned']:,} common users"]
        told += [f"test {name} {value:.4f}" for name, value in [*self.metrics.get("test", {}).items()][:1]]
        return f"<{'; '.join(told)}>"

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(report(self.summary))}</pre>"


def scores_in(folder: Path) -> "pd.DataFrame | None":
    """Of the test rows; None at a feature holder."""
    import pandas as pd

    file = folder / "test_scores.parquet"
    return pd.read_parquet(file) if file.exists() else None
