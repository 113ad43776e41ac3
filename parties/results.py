"""What a run leaves in its folder: alignment, model, agreement, summary (docs/summary.md lists the files)."""

import io
import math
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
import safetensors.torch
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from parties.contract_privacy import Privacy
from parties.contract_training import Model
from parties.cost import Cost
from parties.drift import Statistics
from parties.drift_report import STATISTICS, as_record
from parties.excluded import keep_record
from parties.features import Pipeline
from parties.id_kinds import written_as
from parties.last_good import NAME as LAST_GOOD
from parties.phases import Outcome, Prepared
from parties.storage import removing, run_folder, write
from parties.summary import Summary, agreement, as_json, psi_record
from parties.table import Table
from parties.target import Target
from splitnn.calibration import Calibration
from splitnn.exact import FeatureHolderResult, LabelHolderResult
from splitnn.importance import Drop
from splitnn.tasks import TASKS, Objective

ACTIVATIONS: Final = "activations.safetensors"
"""What the label holder received of the test examples, where `evaluation.keep_activations` asks for it."""
ROW: Final = "row of the table"
"""A name that no party can have."""


def test_metrics(trained: LabelHolderResult, calibration: Calibration | None) -> dict[str, Any]:
    """The federation's on the test rows: `test`, `test_calibrated` and `test_without` of `metrics`."""
    metrics = partial(tested, trained)
    found: dict[str, Any] = {"test": metrics(trained.scores)}
    if calibration is not None:
        found["test_calibrated"] = metrics(calibration.scores(trained.logits))
    if trained.without:
        found["test_without"] = {name: metrics(scores) for name, scores in trained.without.items()}
    return found


def tested(trained: LabelHolderResult, scores: Tensor) -> dict[str, float]:
    """The metrics of such scores of the test rows."""
    objective = trained.objective
    return objective.metrics(trained.labels, scores, objective.lists.test)


def uncalibrated(outcome: Outcome) -> list[str]:
    """A warning where the calibration that was asked for says nothing."""
    if outcome.calibration is None or not outcome.calibration.at_bound:
        return []
    return [
        "calibration: no temperature is the best one, as the scores tell all of the validation rows, or "
        "nothing; do not read the calibrated scores as probabilities, and validate on more rows"
    ]


def summarise(
    prepared: Prepared,
    outcome: Outcome,
    metrics: dict[str, Any],
    contribution: dict[str, Any],
    parts: Mapping[str, Cost],
) -> dict[str, Any]:
    """summary.json as a dict. metrics, contribution: empty at a feature holder. parts: of this attempt, what
    each took."""
    contract, trained, cost = prepared.config.contract, outcome.trained, outcome.training_cost
    ids, split = prepared.data.ids[outcome.aligned.terms.kind], outcome.examples.split
    epochs = trained.epochs - outcome.resumed  # those that were trained in this attempt
    further = len(ids.repeats) if contract.several and prepared.data.labels is not None else 0
    rows = len(ids.rows) + further
    summary = Summary(
        run=outcome.meeting.run.hex(),
        contract=contract.digest.hex(),
        party=prepared.config.name,
        role=prepared.config.role,
        rows=rows,
        aligned=len(outcome.aligned.rows),
        examples=len(outcome.examples),
        funnel={
            "table": prepared.data.table.rows,
            "usable": rows,
            "aligned": len(outcome.aligned.rows),
            "examples": len(outcome.examples),
            **{part: len(places) for part, places in split._asdict().items()},
        },
        left_out=left_out(prepared.data.table, outcome.pipeline),
        psi=psi_record(contract, outcome.aligned),
        training={
            "task": contract.model.task,
            "loss": contract.model.loss,
            "schedule": contract.training.schedule,
            "epochs": trained.epochs,
            "best_epoch": trained.best_epoch,
            "steps": trained.steps,
            "resumed": outcome.resumed,
            **({} if prepared.warm is None else {"warm_start": prepared.warm.run.hex()}),
            "rows_per_second": round(len(split.train) * epochs / max(cost.seconds, 1e-9), 1),
            **cost._asdict(),
        },
        parts={part: cost._asdict() for part, cost in parts.items()},
        history=history(trained),
        metrics=metrics,
        contribution=contribution,
        leak=leak(contract.privacy, trained) if isinstance(trained, LabelHolderResult) else {},
        privacy={} if contract.privacy == Privacy() else outcome.spent,
        importance=importance(prepared, outcome),
        drift=drifted(prepared, outcome),
        delay={} if prepared.data.delay is None else prepared.data.delay.facts(),
        excluded={} if prepared.data.excluded is None else prepared.data.excluded.facts(),
    )
    return summary.as_json()


def left_out(table: Table, pipeline: Pipeline) -> list[dict[str, str]]:
    """Of this party's own columns those that took no part: `column`, and `why`."""
    why = {name: f"{one.kind}: {one.why}" for name, one in table.left_out.items()}
    kept = {*pipeline.kinds}
    unused = [*map(str, table.numeric), *map(str, table.categorical), *table.bags]
    why |= dict.fromkeys((name for name in unused if name not in kept), "constant in training")
    return [{"column": name, "why": told} for name, told in why.items()]


def history(trained: LabelHolderResult | FeatureHolderResult) -> list[dict[str, Any]]:
    """What an epoch gave, an entry each: at the label holder `train_loss` and, where it was judged, the
    validation metric that decides; at a feature holder whether it was the best so far."""
    if isinstance(trained, FeatureHolderResult):
        return [{key: bool(value) for key, value in entry.items()} for entry in trained.history]
    told = "train_loss", trained.objective.task.stop_on
    return [
        {key: round(value, 6) for key, value in entry.items() if key in told} for entry in trained.history
    ]


def drifted(prepared: Prepared, outcome: Outcome) -> dict[str, Any]:
    """How far this run's training rows are from those of the run that it starts from; {} if from none."""
    warm, rows = prepared.warm, outcome.examples.training_rows
    if warm is None or warm.statistics is None:
        return {}
    now = warm.statistics.again(outcome.pipeline, prepared.data.table, rows)
    return {"since": warm.run.hex(), **as_record(warm.statistics.drift(now))}


def leak(privacy: Privacy, trained: LabelHolderResult) -> dict[str, Any]:
    """What the attacks found in the gradients of each epoch, and what was done against them; {} for a task
    that is not measured, without a defence."""
    history = trained.history
    epochs = [
        {key.replace("_leak", ""): round(value, 6) for key, value in entry.items() if key != "train_loss"}
        for entry in history
    ]
    found: dict[str, Any] = worst_leak(history)
    asked = {"defence": privacy.label_defence, "epsilon": privacy.label_epsilon}
    if not found and asked == {"defence": "none", "epsilon": None}:
        return {}
    if any("sum_kl" in entry for entry in epochs):
        found["sum_kl"] = round(sum(entry.get("sum_kl", 0.0) for entry in epochs), 6)
    strength = history[-1].get("label_defence_strength", privacy.label_strength)
    return found | asked | {"strength": strength, "bound": privacy.max_label_leak, "epochs": epochs}


def worst_leak(history: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """By attack, the most that an epoch's gradients told; {} where it was not measured."""
    keys = {"norm": "norm_leak", "norm_rows": "norm_leak_rows"}
    keys |= {"cosine": "cosine_leak", "cosine_rows": "cosine_leak_rows"}
    return {
        attack: round(max(told), 6)
        for attack, key in keys.items()
        if (told := [entry[key] for entry in history if key in entry])
    }


def importance(prepared: Prepared, outcome: Outcome) -> dict[str, Any]:
    """What is known here of how much the network needs each party and group of columns; {} if nothing.

    This party's groups by name; another's, whose names it keeps to itself, by their number, from 1.
    """
    config, trained = prepared.config, outcome.trained
    own = [*outcome.pipeline.groups(config.party.groups)]
    task = TASKS[config.contract.model.task][config.contract.model.loss]
    record: dict[str, Any] = {"metric": task.stop_on, "relative": task.sign < 0}
    if isinstance(trained, FeatureHolderResult):
        columns = {config.name: trained.importance} if trained.importance else {}
    elif trained.importance is not None:
        names = [config.name, *config.feature_holders]
        record["parties"] = _drops(dict(zip(names, trained.importance.parties, strict=True)))
        columns = dict(zip(names, trained.importance.groups, strict=False))
    else:
        return {}
    if columns:
        record["columns"] = {
            name: _drops(
                {own[at] if name == config.name else str(at + 1): drop for at, drop in enumerate(drops)}
            )
            for name, drops in columns.items()
        }
    return record if len(record) > 2 else {}


def _drops(drops: Mapping[str, Drop]) -> dict[str, dict[str, float | None]]:
    return {
        name: {
            key: round(value, 6) if math.isfinite(value) else None for key, value in drop._asdict().items()
        }
        for name, drop in drops.items()
    }


def keep(prepared: Prepared, outcome: Outcome) -> Path:
    """Write what the run gave this party; returns the run's folder. Raises StorageError."""
    config, trained, meeting = prepared.config, outcome.trained, outcome.meeting
    folder = run_folder(config.party.storage, config.contract.name, meeting.run, config.name)
    columns, examples = config.id_columns[outcome.aligned.terms.kind], outcome.examples

    def with_ids(rows: NDArray[np.int64]) -> pd.DataFrame:
        own_ids = prepared.data.table.ids[[*columns]].iloc[rows].reset_index(drop=True)
        written = own_ids.set_axis(written_as(columns), axis="columns")
        written.insert(0, "row", rows)
        return written

    modules: dict[str, nn.Module] = {"bottom": trained.bottom}
    write(folder / "agreement.json", agreement(config.contract, meeting))
    keep_record(folder, prepared.data.excluded)
    write(folder / "alignment.parquet", _parquet(with_ids(outcome.aligned.rows)))
    write(folder / "pipeline.json", outcome.pipeline.to_json().encode())
    counted = Statistics.of(outcome.pipeline, prepared.data.table, examples.training_rows)
    write(folder / STATISTICS, counted.to_json())
    if isinstance(trained, LabelHolderResult):
        modules["top"] = trained.top
        tested = with_ids(examples.rows[examples.split.test.numpy()])
        told = scored_columns(trained, config.contract.model.task, outcome.calibration)
        write(folder / "test_scores.parquet", _parquet(pd.concat([tested, told], axis="columns")))
        meaning = target(trained.objective, config.contract.model, outcome.calibration, outcome.fewer)
        write(folder / "target.json", as_json(meaning))
    if isinstance(trained, LabelHolderResult) and trained.activations:
        write(folder / ACTIVATIONS, _activations(prepared, outcome, trained))
    write(folder / "model.safetensors", safetensors.torch.save(weights(modules)))
    with removing(folder / LAST_GOOD):
        (folder / LAST_GOOD).unlink(missing_ok=True)  # of an attempt that failed
    return folder


def _activations(prepared: Prepared, outcome: Outcome, trained: LabelHolderResult) -> bytes:
    """By feature holder what arrived of the test examples, [n, cut], and ROW: of this party's table, [n]."""
    count = len(next(iter(trained.activations.values())))
    rows = torch.from_numpy(outcome.examples.rows[outcome.examples.split.test[:count].numpy()])
    return safetensors.torch.save(
        {ROW: rows} | {name: one.clone() for name, one in trained.activations.items()}
    )


def scored_columns(trained: LabelHolderResult, task: str, calibration: Calibration | None) -> pd.DataFrame:
    """Of the test examples: label and score, or a score of each class, or label and score of each target."""
    scores = (trained.scores if calibration is None else calibration.scores(trained.logits)).numpy()
    labels, names = trained.labels.numpy(), trained.objective.names
    if task == "multiclass":
        each = {f"score.{name}": scores[:, place] for place, name in enumerate(names)}
        return pd.DataFrame({"label": np.array(names)[labels], **each})
    if task == "multilabel":
        each = {f"label.{name}": labels[:, place] for place, name in enumerate(names)}
        each |= {f"score.{name}": scores[:, place] for place, name in enumerate(names)}
        return pd.DataFrame(each)
    return pd.DataFrame({"label": labels, "score": scores})


def target(
    objective: Objective,
    model: Model,
    calibration: Calibration | None,
    fewer: Mapping[str, Calibration],
) -> dict[str, Any]:
    """What the top model's outputs mean: all that scoring needs beside the weights."""
    scale = objective.location, objective.scale
    return Target(model.task, model.loss, objective.names, *scale, calibration, fewer).as_dict()


def weights(modules: dict[str, nn.Module]) -> dict[str, Tensor]:
    """All weights by `<module>.<parameter>`."""
    return {
        f"{prefix}.{name}": tensor.contiguous()
        for prefix, module in modules.items()
        for name, tensor in module.state_dict().items()
    }


def _parquet(frame: pd.DataFrame) -> bytes:
    buffer = io.BytesIO()
    frame.to_parquet(buffer, index=False)
    return buffer.getvalue()
