"""What a run leaves for people and machines to read: summary.json and report.txt (docs/summary.md)."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from protos.rounds import Traffic


class Cost(NamedTuple):
    """What one phase took at this party: wall-clock seconds and bytes on its wires."""

    seconds: float
    bytes_sent: int
    bytes_received: int

    @classmethod
    def between(cls, start: float, before: Traffic, end: float, after: Traffic) -> "Cost":
        return cls(round(end - start, 3), after.sent - before.sent, after.received - before.received)


@dataclass(frozen=True)
class Summary:
    """summary.json: documented in docs/summary.md; label-dependent fields at the label holder only."""

    run: str
    contract: str
    party: str
    role: str
    rows: int
    aligned: int
    psi: dict[str, Any]
    training: dict[str, Any]
    metrics: dict[str, dict[str, float]]

    def as_json(self) -> dict[str, Any]:
        content = asdict(self)
        if not self.metrics:
            del content["metrics"]
        return content


def report(summary: Mapping[str, Any]) -> str:
    """A page of text for people."""
    psi, training = summary["psi"], summary["training"]
    lines = [
        f"run        {summary['run'][:12]}   contract {summary['contract'][:12]}",
        f"party      {summary['party']} ({summary['role']})",
        f"rows       {summary['rows']:,} own, {summary['aligned']:,} common to all parties",
        f"alignment  {psi['protocol']}: {psi['seconds']:.1f} s, {_traffic(psi)}",
        f"training   {training['schedule']}: {training['epochs']} epochs (best: {training['best_epoch']}),"
        f" {training['steps']:,} steps, {training['seconds']:.1f} s,"
        f" {training['rows_per_second']:,.0f} rows/s, {_traffic(training)}",
    ]
    names = {
        "test": "the federation",
        "alone": "this party alone, same rows",
        "alone_all_rows": "this party alone, all its rows",
        "pooled": "all columns pooled",
    }
    for key, metrics in summary.get("metrics", {}).items():
        lines.append(f"test AUC   {metrics['auc']:.4f}  log loss {metrics['log_loss']:.4f}  {names[key]}")
    return "\n".join(lines) + "\n"


def _traffic(cost: Mapping[str, Any]) -> str:
    return f"{cost['bytes_sent'] / 1e6:.1f} MB out, {cost['bytes_received'] / 1e6:.1f} MB in"
