"""`party audit inversion`: what activations tell of the columns that they were made from.

The attack of `splitnn.feature_inversion` on a finished run of this party: at the label holder on what it has
received of a partner, some of whose columns it knows; at a feature holder on what it sends, all of whose
columns it knows, so that nobody else needs to take part. Nothing is sent anywhere.
"""

from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from parties.audited import USERS, Audited, numbers, shown, state_of
from parties.errors import ConfigError, DataError
from parties.features import Pipeline
from parties.finished import Finished
from parties.known_users import Known, known_users
from parties.phases import features_of
from parties.results import ACTIVATIONS, ROW
from parties.sources.files import source_of
from parties.table import read_table
from splitnn.crossing import Crossing
from splitnn.dense import Dense, dense
from splitnn.feature_inversion import LEAST, Column, invert
from splitnn.features import Features
from splitnn.randomness import permutation
from splitnn.schedule import chunks
from splitnn.secure_sum import SECURE_SUM

ROWS: Final = 500
"""That the decoder is trained on; half of all, if they are fewer than twice as many."""


class Source(NamedTuple):
    """What is attacked: activations [n, cut] and the columns of the same users. own: what the attacker knows
    of them by itself, [n, d]. left_out: a line for each column that takes no part."""

    title: str
    activations: Tensor
    columns: Dense
    names: list[str]
    own: Tensor | None
    left_out: tuple[str, ...] = ()


def inversion(
    run: Finished, file: Path | None = None, partner: str | None = None, known: int | None = None
) -> Audited:
    """How well activations tell columns.

    file, partner: at the label holder, a partner's columns of some users, and its name if there are several.
    known: users that the decoder is trained on, the others measure it; None: ROWS, or half if they are fewer.
    Raises ConfigError for a run without activations, or options of the other role; DataError, IdError.
    """
    source = _received(run, file, partner) if run.config.role == "label holder" else _sent(run, file, partner)
    users = len(source.activations)
    told = min(ROWS, users // 2) if known is None else known
    try:
        found = invert(source.activations, source.columns, source.names, told, run.run, source.own)
    except ValueError as error:
        raise DataError(f"{file or run.config.source}: {error}; bring more, or set --known") from error
    verdict = _verdict(found, source.own is not None)
    width = max(map(len, source.names))
    beside = "own columns and label" if source.own is not None else ""
    lines = [
        f"run {run.run.hex()[:12]}, {run.config.name}: {source.title}",
        f"{told} of {users:,} users known, in 10 draws; R2 on the others (the mean: 0), its 95 % interval:",
        f"  {'':<{width}}  {'activations':<26}{beside}".rstrip(),
    ]
    for each in found:
        baseline = shown(each.baseline) if each.baseline else ""
        lines.append(f"  {each.name:<{width}}  {shown(each.told):<26}{baseline}".rstrip())
    columns = {
        each.name: {
            "r2": numbers(each.told),
            "baseline": numbers(each.baseline) if each.baseline else None,
            "gain": numbers(each.gain),
            "state": state_of(each.gain),
        }
        for each in found
    }
    record = {"run": run.run.hex(), "party": run.config.name, "users": users, "known": told}
    return Audited(
        [*source.left_out, *lines, verdict],
        record | {"columns": columns, "left_out": [*source.left_out], "verdict": verdict},
    )


def _sent(run: Finished, file: Path | None, partner: str | None) -> Source:
    """At a feature holder, of its own table."""
    config = run.config
    if file is not None or partner is not None:
        raise ConfigError(
            "--columns and --partner are for the label holder; a feature holder has its own: remove them"
        )
    some = permutation(run.run, "audited", len(run.rows))[:USERS]
    features = run.features(run.rows[some.numpy()])
    columns = dense(features, torch.arange(len(features)))
    title = f"what it sends to {config.contract.label_holder}, against its own columns"
    if run.plan.fusion == SECURE_SUM:
        title += ", as if all other feature holders told what they send"
    return Source(title, _crossed(run, features), columns, [*run.pipeline.groups({})], None)


def _crossed(run: Finished, features: Features) -> Tensor:
    """What the label holder makes of this party's messages about these rows, in evaluation."""
    plan, hub = run.plan, run.config.contract.label_holder
    crossing = Crossing(plan.codec, plan.cut, run.run, hub, embedding=plan.embedding)
    bottom, arrived = run.bottom(run.run).eval(), []
    for number, rows in enumerate(chunks(torch.arange(len(features)))):
        with torch.no_grad():
            activation = bottom(*features.batch(rows))
        _, message = crossing.send_activation(activation, number, None)
        arrived.append(crossing.receive_activation(message, "own activation", len(rows), number)[1].detach())
    return torch.cat(arrived)


def _received(run: Finished, file: Path | None, partner: str | None) -> Source:
    """At the label holder, of the test users in the file."""
    config = run.config
    if file is None:
        raise ConfigError(
            "--columns is missing: a file with a partner's columns of some users, and their ids"
        )
    if not (run.folder / ACTIVATIONS).is_file():
        raise ConfigError(
            f"{run.folder}: has no {ACTIVATIONS}; a run keeps what it receives if {config.path} says "
            "evaluation.keep_activations = true"
        )
    kept = run.tensors(ACTIVATIONS)
    rows = kept.pop(ROW).numpy()
    if partner is None and len(kept) == 1:
        [partner] = kept
    if partner not in kept:
        raise ConfigError(f"--partner must be one of {', '.join(sorted(kept))}: whose columns are in {file}?")
    found = known_users(file, config, run.data)
    places, of_file = _examples(run, rows, found)
    if len(places) < 2 * LEAST:
        raise DataError(
            f"{file}: {len(places)} of its users are among the run's test users, and {2 * LEAST} are needed: "
            "bring more"
        )
    table = read_table(source_of(file), found.ids[:1], exclude=found.ids[1:])
    pipeline = Pipeline.fit(table, of_file)
    columns = dense(features_of(pipeline, table, of_file), torch.arange(len(of_file)))
    title = f"what it received of {partner}, against {partner}'s columns"
    own = _own(run, rows[places])
    arrived, names = kept[partner][places].float(), [*pipeline.groups({})]
    return Source(title, arrived, columns, names, own, (*table.warnings, *pipeline.warnings))


def _own(run: Finished, rows: NDArray[np.int64]) -> Tensor:
    """The label holder's columns and label of these rows."""
    assert run.data.labels is not None
    label = torch.from_numpy(run.data.labels.values[rows])
    if run.plan.task == "multiclass":
        label = torch.nn.functional.one_hot(label)
    columns = dense(run.features(rows), torch.arange(len(rows))).table
    return torch.cat((columns, label.float().reshape(len(rows), -1)), 1)


def _examples(
    run: Finished, rows: NDArray[np.int64], found: Known
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Places among these rows of the table, and rows of the file of the same users; of several examples of a
    user the first. USERS at most."""
    first = np.arange(run.data.table.rows)
    for ids in run.data.ids.values():
        first[ids.repeats] = ids.rows[ids.repeated]
    examples = pd.DataFrame({"own": first[rows], "place": np.arange(len(rows))}).drop_duplicates("own")
    both = examples.merge(pd.DataFrame({"own": first[found.own], "file": found.rows}), on="own")[:USERS]
    return both["place"].to_numpy(copy=True), both["file"].to_numpy()


def _verdict(found: list[Column], with_own: bool) -> str:
    """The columns that are told, then those of which more users must be known to say so."""
    states: dict[str, list[str]] = {"leaks": [], "not decided": [], "no leak": []}
    for each in sorted(found, key=lambda one: -one.told.mean):
        states[state_of(each.gain)].append(f"{each.name} (R2 {each.told.mean:.2f})")
    than = "own columns and label do" if with_own else "its mean does"
    if states["leaks"]:
        said = f"leaks: activations tell more than {than} of {', '.join(states['leaks'])}"
    elif states["not decided"]:
        said = "not decided: bring more users"
    else:
        said = f"no leak: activations tell no more of any column than {than}"
    open_ = f"; not decided: {', '.join(states['not decided'])}" if states["not decided"] else ""
    return said + open_
