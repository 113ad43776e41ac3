"""What is left of a training that ended before its time: the best weights so far, in the run's folder.

last_good.safetensors   this party's weights after its best epoch, by the names of model.safetensors
pipeline.json           how its columns became features, as a whole run leaves it

Written only where training fails: a `Save` costs nothing as long as nobody calls its `state`.
"""

from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any, TypeVar

import safetensors.torch

from parties.errors import StorageError
from parties.features import Pipeline
from parties.storage import write
from protos.rounds import PeerRestarted, Progress, Resume, Round, Rounds, Save, mapped
from splitnn.learner import best_of

T = TypeVar("T")
NAME = "last_good.safetensors"


def keeping_last_good(
    training: Rounds[T],
    folder: Callable[[], Path],
    pipeline: Pipeline,
    say: Callable[[str], None],
    resume: Resume | None = None,
) -> Rounds[T]:
    """The same rounds of a schedule; where they end by an error, keep the best weights, and say so.

    folder: makes the run's, and may raise StorageError. say: told at which step it ended, and what is kept.
    resume: what the schedule began with. A peer's restart is no end: nothing is kept, and nothing said.
    """
    saved = Save(resume.step, lambda: resume.state) if resume is not None else None
    at = Progress("training", 0, 0)

    def each(word: Round) -> Generator[Round, Any, Any]:
        nonlocal saved, at
        if isinstance(word, Save):
            saved = word
        elif isinstance(word, Progress) and word.phase == at.phase:
            at = word
        return (yield word)

    try:
        return (yield from mapped(training, each))
    except (GeneratorExit, PeerRestarted):
        raise
    except BaseException:  # an interrupt, too
        steps = f"{at.done:,} of at most {at.total:,} steps" if at.total else "no step"
        say(f"training ended after {steps}: {_kept(saved, folder, pipeline)}")
        raise


def _kept(saved: Save | None, folder: Callable[[], Path], pipeline: Pipeline) -> str:
    best_epoch, weights = best_of(saved.state()) if saved is not None else (0, {})
    if saved is None or not best_epoch:
        return "no epoch was judged, so no weights are kept"
    try:
        here = folder()
        write(here / "pipeline.json", pipeline.to_json().encode())
        named = {_named(name): tensor.contiguous() for name, tensor in weights.items()}
        write(here / NAME, safetensors.torch.save(named, {"epoch": str(best_epoch)}))
    except StorageError as error:  # the reason of the end is not to be hidden by it
        return f"the best weights are lost: {error}"
    return f"the weights of epoch {best_epoch}, the best of {saved.step}, are kept in {here / NAME}"


def _named(weight: str) -> str:
    """The label holder trains a list of two modules, the others their bottom alone."""
    half, _, rest = weight.partition(".")
    return f"{'bottom' if half == '0' else 'top'}.{rest}" if half in ("0", "1") else f"bottom.{weight}"
