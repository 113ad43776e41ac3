"""What a run leaves in its folder: alignment, model, agreement, summary (docs/summary.md lists the files)."""

import io
import json
from pathlib import Path
from typing import Any

import pandas as pd
import safetensors.torch
from torch import Tensor, nn

from parties.phases import Outcome, Prepared, plan_of
from parties.storage import run_folder, write
from parties.summary import Summary
from splitnn.exact import LabelHolderResult


def test_metrics(prepared: Prepared, trained: LabelHolderResult) -> dict[str, dict[str, float]]:
    """The federation's metrics on the test rows, as `metrics.test`."""
    task = plan_of(prepared.config.contract).objective
    return {"test": task.metrics(trained.labels, trained.scores)}


def summarise(prepared: Prepared, outcome: Outcome, metrics: dict[str, dict[str, float]]) -> dict[str, Any]:
    """summary.json as a dict. metrics: empty at a feature holder."""
    contract, trained, cost = prepared.config.contract, outcome.trained, outcome.training_cost
    rows = len(outcome.split.train) * trained.epochs
    summary = Summary(
        run=outcome.meeting.run.hex(),
        contract=contract.digest.hex(),
        party=prepared.config.name,
        role=prepared.config.role,
        rows=len(prepared.data.ids[outcome.kind].rows),
        aligned=len(outcome.alignment),
        psi={"protocol": contract.psi.protocol, **outcome.psi_cost._asdict()},
        training={
            "schedule": contract.training.schedule,
            "epochs": trained.epochs,
            "best_epoch": trained.best_epoch,
            "steps": trained.steps,
            "rows_per_second": round(rows / max(cost.seconds, 1e-9), 1),
            **cost._asdict(),
        },
        metrics=metrics,
    )
    return summary.as_json()


def keep(prepared: Prepared, outcome: Outcome) -> Path:
    """Write what the run gave this party; returns the run's folder. Raises StorageError."""
    config, trained, meeting = prepared.config, outcome.trained, outcome.meeting
    folder = run_folder(config.party.storage, config.contract.name, meeting.run, config.name)
    columns = config.id_columns[outcome.kind]
    own_ids = prepared.data.table.ids[[*columns]].iloc[outcome.alignment].reset_index(drop=True)
    names = ["id"] if len(columns) == 1 else [f"id_{place}" for place, _ in enumerate(columns, 1)]
    aligned = own_ids.set_axis(names, axis="columns")
    aligned.insert(0, "row", outcome.alignment)
    modules: dict[str, nn.Module] = {"bottom": trained.bottom}
    agreement = {
        "run": meeting.run.hex(),
        "contract": json.loads(config.contract.canonical),
        "agreed": meeting.agreed.hex(),
        "signatures": {name: signature.hex() for name, signature in sorted(meeting.signatures.items())},
    }
    write(folder / "agreement.json", _json(agreement))
    write(folder / "alignment.parquet", _parquet(aligned))
    write(folder / "pipeline.json", outcome.pipeline.to_json().encode())
    if isinstance(trained, LabelHolderResult):
        modules["top"] = trained.top
        tested = aligned.iloc[outcome.split.test.numpy()].reset_index(drop=True)
        tested = tested.assign(label=trained.labels.numpy(), score=trained.scores.numpy())
        write(folder / "test_scores.parquet", _parquet(tested))
    write(folder / "model.safetensors", safetensors.torch.save(weights(modules)))
    return folder


def weights(modules: dict[str, nn.Module]) -> dict[str, Tensor]:
    """All weights by `<module>.<parameter>`."""
    return {
        f"{prefix}.{name}": tensor.contiguous()
        for prefix, module in modules.items()
        for name, tensor in module.state_dict().items()
    }


def _json(content: object) -> bytes:
    return json.dumps(content, indent=2).encode() + b"\n"


def _parquet(frame: pd.DataFrame) -> bytes:
    buffer = io.BytesIO()
    frame.to_parquet(buffer, index=False)
    return buffer.getvalue()
