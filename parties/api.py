"""`party run` as a function, for notebooks and schedulers: the same locks, files and typed errors. It prints
nothing, sets no signal handler, and may be called by any thread."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from parties.callbacks import Callback, Told
from parties.config import load
from parties.result import Result, scores_in
from parties.storage import run_folder
from parties.train import run_party
from protos.rounds import Cancelled

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa


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
    from parties.sources.memory import InMemory

    loaded = load(config, held=None if data is None else InMemory(data))
    told = Told(callbacks)
    with interruptible():
        summary = run_party(loaded, told, told.say, told.peer, afresh)
    told.check()
    folder = run_folder(
        loaded.party.storage, loaded.contract.name, bytes.fromhex(summary["run"]), loaded.name
    )
    return Result(summary, folder, scores_in(folder))


@contextmanager
def interruptible() -> Iterator[None]:
    """Who interrupts a loop of runs means the loop: `except Exception` in it must not go on."""
    try:
        yield
    except Cancelled as error:
        if isinstance(error.__cause__, KeyboardInterrupt):
            raise KeyboardInterrupt(str(error)) from error
        raise
