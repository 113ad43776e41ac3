"""What a party chose for its own half of the network, and whether it can be trained here."""

from dataclasses import replace

import torch

from parties.config import Config
from parties.contract_training import CLASS
from parties.errors import ConfigError
from parties.features import Pipeline
from parties.own import OwnData
from parties.table import Table
from splitnn.custom import Custom, check_module, check_rows_alone
from splitnn.errors import TrainingError
from splitnn.importance import MOST_GROUPS
from splitnn.local import MLP, Local
from splitnn.models import bottom_model, top_model
from splitnn.plan import Plan

ROWS = 2
"""Made-up rows of the trial; one would do but for batch norm."""


def local_of(config: Config) -> Local:
    """This party's own choices, as `splitnn` takes them."""
    training = config.party.training
    return Local(
        config.party.model.bottom,
        training.optimizer,
        training.learning_rate,
        training.device,
        training.precision,
        config.party.evaluation.keep_activations,
    )


def check_models(config: Config, plan: Plan, data: OwnData | None) -> None:
    """Try this party's device, groups and classes; these on made-up rows: they are shown no data of its own.

    data: None skips the bottom model, whose shape follows from the columns.
    Raises ConfigError: no such device, class or column, a class that fails, or returns another shape than
    agreed.
    """
    if data is not None:
        _check_groups(config, data.table)
    local = local_of(config)
    if local.device == "cuda" and not torch.cuda.is_available():
        raise ConfigError(f'{config.path}: training.device: no CUDA device here; use "cpu"')
    if local.bottom != MLP and data is not None:
        pipeline = Pipeline.fit(data.table, next(iter(data.ids.values())).rows)
        try:
            module = bottom_model(plan, pipeline.width, pipeline.levels, b"trial", local, pipeline.bag_levels)
            codes = torch.zeros(ROWS, len(pipeline.levels), dtype=torch.int64)
            bags = [
                (torch.zeros(ROWS, dtype=torch.int64), torch.arange(ROWS + 1)) for _ in pipeline.bag_levels
            ]
            inputs = [torch.zeros(ROWS, pipeline.width), codes, *bags]
            check_module(module, f"bottom model {local.bottom}", inputs)
            if plan.embedding.sigma and isinstance(module, Custom):
                check_rows_alone(module, inputs)
        except TrainingError as error:
            raise ConfigError(f"{config.path}: model.bottom: {error}") from error
    if CLASS.fullmatch(plan.top) and config.role == "label holder":
        names = data.labels.names if data is not None and data.labels is not None else ()
        outputs = max(1, len(names))
        count, again = len(config.contract.parties), config.contract.evaluation.contribution != "none"
        for parties in (count, *((count - 1,) if again else ()), 1):
            try:
                module = top_model(replace(plan, party_dropout=0.0), parties, b"trial", outputs, local)
                cut = [torch.zeros(ROWS, plan.cut, requires_grad=True) for _ in range(parties)]
                check_module(module, f"top model {plan.top}", [cut])
            except TrainingError as error:
                fewer = f", with parties = {parties}, as for the baselines" if parties < count else ""
                raise ConfigError(f"{config.party.contract}: model.top: {error}{fewer}") from error


def _check_groups(config: Config, table: Table) -> None:
    columns = {*table.kinds}
    alone = {*columns}
    for name, members in config.party.groups.items():
        at = f"{config.path}: groups.{name}"
        for column in members:
            if column not in columns:
                raise ConfigError(f"{at}: no column {column!r} takes part; correct it, or remove it here")
        alone -= {*members}
        if name in columns - {*members}:
            raise ConfigError(f"{at}: is the name of a column outside of it; choose another")
    count = len(config.party.groups) + len(alone)
    if config.contract.evaluation.importance == "columns" and count > MOST_GROUPS:
        raise ConfigError(
            f"{config.path}: groups: {count} of them and of columns in none are more than the {MOST_GROUPS} "
            "that can be measured; put columns together in groups"
        )
