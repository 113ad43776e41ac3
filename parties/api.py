"""`party run`, `party align` and `party predict` as functions, for notebooks and schedulers: the same locks,
files and typed errors. They print nothing, set no signal handler, and any thread may call them."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from parties.callbacks import Callback, Told
from parties.config import load
from parties.result import Result, scores_in
from parties.storage import run_folder
from parties.train import run_party
from protos.rounds import Cancelled

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

    from parties.sources.source import Source


def run(
    config: Path | str = "party.toml",
    data: "pd.DataFrame | pa.Table | None" = None,
    callbacks: Sequence[Callback] = (),
    afresh: bool = False,
) -> Result:
    """This party's part of a run; the others start theirs, by this or by `party run`, and each waits.

    config: the path of party.toml. data: rows in place of those that its `data.file` names; they are not
    changed, and an interrupted run goes on with equal ones only. afresh: drop what an interrupted run left.

    Raises what `parties.errors.EXIT_CODES` lists, KeyboardInterrupt, and what a callback raises; always after
    the others have been told, and leaving what an interrupted `party run` leaves.
    """
    loaded = load(config, held=_held(data))
    with hearing(callbacks) as told:
        summary = run_party(loaded, told, told.say, told.peer, afresh)
    folder = run_folder(
        loaded.party.storage, loaded.contract.name, bytes.fromhex(summary["run"]), loaded.name
    )
    return Result(summary, folder, scores_in(folder))


class Aligned(NamedTuple):
    """summary: what `party align --json` prints. ids: the common ones, as alignment.parquet has them."""

    summary: dict[str, Any]
    ids: "pd.DataFrame"


def align(
    config: Path | str = "party.toml",
    data: "pd.DataFrame | pa.Table | None" = None,
    callbacks: Sequence[Callback] = (),
) -> Aligned:
    """This party's part of an alignment, as `party align` does it; arguments and errors as of `run`."""
    from parties.align import align_party

    loaded = load(config, for_training=False, held=_held(data))
    with hearing(callbacks) as told:
        summary = align_party(loaded, None, told, told.say, told.peer)
    return Aligned(summary, _table(summary["ids"]))


class Predicted(NamedTuple):
    """summary: what `party predict --json` prints. scores: at the label holder, those of scores.parquet."""

    summary: dict[str, Any]
    scores: "pd.DataFrame | None"


def predict(
    config: Path | str = "party.toml",
    data: "pd.DataFrame | pa.Table | None" = None,
    run: str | None = None,
    callbacks: Sequence[Callback] = (),
    afresh: bool = False,
) -> Predicted:
    """This party's part of a prediction, as `party predict` does it. data: the rows to score, at a feature
    holder those to score them with. run: as its `--run`. Other arguments and errors as of the function `run`.
    """
    from parties.predict import predict_party

    loaded = load(config, held=_held(data))
    with hearing(callbacks) as told:
        summary = predict_party(loaded, run, None, told, told.say, told.peer, afresh)
    return Predicted(summary, _table(summary["scores"]) if "scores" in summary else None)


def _held(data: "pd.DataFrame | pa.Table | None") -> "Source | None":
    from parties.sources.memory import InMemory

    return None if data is None else InMemory(data)


def _table(file: str) -> "pd.DataFrame":
    import pandas as pd

    return pd.read_parquet(file)


@contextmanager
def hearing(callbacks: Sequence[Callback]) -> Iterator[Told]:
    """What a callback raised late is raised at the end. An interrupt is one: who interrupts a loop of runs
    means the loop, and `except Exception` in it must not go on."""
    told = Told(callbacks)
    try:
        yield told
        told.check()
    except Cancelled as error:
        if isinstance(error.__cause__, KeyboardInterrupt):
            raise KeyboardInterrupt(str(error)) from error
        raise
