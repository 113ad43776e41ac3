"""What an interrupted run leaves on disk, so that the same command, started again, goes on with it.

storage/<name>-<contract>-unfinished/<party>/
    run.json                        which run it is, of what (below)
    bucket-0001.parquet, ...        finished buckets of a large alignment (`parties.bucket_files`)
    alignment.parquet               the whole alignment
    checkpoint-000012.safetensors   of training (`parties.checkpoints`)
    released.jsonl                  what left with noise (`parties.released`)

run.json: `run`, 64 hex digits, is all that it must hold; it may be written beforehand at all parties, and
their next run has this id. `contract` and `own` say what the run depends on, so that a restart with something
changed can be refused (`parties.changes`). No key is in any of these files, and none ever leaves the party.
"""

import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from parties import bucket_files, checkpoints, row_files
from parties.checkpoints import Stamp
from parties.config import Config
from parties.contract import Contract
from parties.errors import BudgetError, StorageError
from parties.news import REASONS
from parties.previous import NOTHING, STEPS_AT_MOST, Previous
from parties.row_files import Rows
from parties.storage import removing, write
from protos.rounds import PeerFailed, Resume, Rounds
from splitnn.errors import TrainingError

T = TypeVar("T")
ALIGNMENT = "alignment.parquet"


@dataclass(frozen=True)
class Unfinished:
    """One party's files of an unfinished run under a contract. own: as `parties.changes.described`.

    on_checkpoint: told how many seconds each took. command: that goes on with it.
    """

    folder: Path
    contract: Contract
    party: str
    own: Mapping[str, Any]
    on_checkpoint: Callable[[float], None] = lambda seconds: None
    command: str = "party run"

    @classmethod
    def of(
        cls,
        config: Config,
        own: Mapping[str, Any],
        on_checkpoint: Callable[[float], None] = lambda seconds: None,
    ) -> "Unfinished":
        return cls(unfinished(config), config.contract, config.name, own, on_checkpoint)

    def run(self) -> bytes:
        """The run's id; nothing where there is none. Raises StorageError where run.json is damaged."""
        return run_of(read(self.folder, self.command))

    def results_of(self, run: bytes) -> Path:
        """The folder of its results."""
        return self.folder.parents[1] / f"{self.contract.name}-{run.hex()[:12]}" / self.party

    def results(self) -> Path | None:
        """The same if this party's results are whole: only the others may still need what is here."""
        with suppress(StorageError):
            run = self.run()
            folder = self.results_of(run)
            return folder if run and (folder / "summary.json").exists() else None
        return None

    def end(self) -> None:
        """The results of all parties are whole: from here on nobody goes on with it. Raises StorageError."""
        content = {**read(self.folder, self.command), "ended": True}
        write(self.folder / "run.json", json.dumps(content, indent=2).encode())

    def ended(self) -> bool:
        """Raises StorageError."""
        return read(self.folder, self.command).get("ended") is True

    def previous(self) -> Previous:
        """What this party could go on with: all of it read and found whole. Nothing of a run that began with
        something else here: its id stands for the ids and the data that it began with."""
        before = read(self.folder, self.command)
        run = run_of(before)
        if not run or before.get("own", self.own) != self.own:
            return NOTHING
        steps = checkpoints.epochs(self.folder, self._stamp(run))[-STEPS_AT_MOST:]
        return Previous(run, self.alignment(run) is not None, steps)

    def begin(self, run: bytes, common: Previous = NOTHING) -> None:
        """From here on, what is kept is of this run; what is there of another one is dropped, but for
        buckets, which know by themselves what they are of. Raises StorageError.

        common: what all parties have of it. What one of them has to do again, all do, and nobody keeps what
        he had of it: a party that ends in the midst of that would go on from another past than the others.
        """
        before = read(self.folder, self.command)
        content = {
            "run": run.hex(),
            "contract": json.loads(self.contract.canonical),
            "own": dict(self.own),
        }
        if before != content:
            write(self.folder / "run.json", json.dumps(content, indent=2).encode())
        with removing(self.folder):
            if run_of(before) != run or not common.aligned:
                (self.folder / ALIGNMENT).unlink(missing_ok=True)
            checkpoints.forget(self.folder, after=common.newest)

    def keep_alignment(self, run: bytes, rows: Rows, described: Mapping[str, Any]) -> None:
        """Raises StorageError."""
        row_files.write(self.folder / ALIGNMENT, rows, {**self._of(run), "described": json.dumps(described)})

    def alignment(self, run: bytes) -> tuple[Rows, dict[str, Any]] | None:
        """What was kept of this run; None if nothing that is whole."""
        found = row_files.read(self.folder / ALIGNMENT)
        if found is None or not self._of(run).items() <= found[1].items():
            return None
        return found[0], json.loads(found[1]["described"])

    def checkpoint(self, run: bytes, epoch: int) -> Resume:
        """Raises StorageError where it is not there."""
        state = checkpoints.load(self.folder, self._stamp(run), epoch)
        if state is None:
            raise StorageError(f"{self.folder}: the checkpoint of epoch {epoch} is gone or was changed")
        return Resume(epoch, state)

    def keeping(self, training: Rounds[T], run: bytes, epoch_steps: int) -> Rounds[T]:
        """The same rounds of a schedule, with checkpoints. Raises StorageError."""
        every = checkpoints.every(epoch_steps)
        return checkpoints.keeping(training, self.folder, self._stamp(run), every, self.on_checkpoint)

    def holds(self) -> str:
        """The furthest that it got, for people; nothing where nothing is kept."""
        try:
            previous = self.previous()
        except StorageError:
            return ""
        if previous.steps:
            return f"training up to epoch {previous.newest}"
        return "the alignment" if previous.aligned else held_buckets(self.folder)

    def _of(self, run: bytes) -> dict[str, str]:
        return {"run": run.hex(), "party": self.party}

    def _stamp(self, run: bytes) -> Stamp:
        return Stamp(run, self.contract.digest, self.party)


def unfinished(config: Config) -> Path:
    """The folder of this party, for runs under this contract."""
    contract = config.contract
    return config.party.storage / f"{contract.name}-{contract.digest.hex()[:12]}-unfinished" / config.name


def under_any_contract(config: Config) -> list[Path]:
    """This party's folders for runs of this name."""
    return [*config.party.storage.glob(f"{config.contract.name}-{'[0-9a-f]' * 12}-unfinished/{config.name}")]


def read(folder: Path, command: str = "party run") -> dict[str, Any]:
    """Of run.json; {} where there is none. Raises StorageError."""
    path = folder / "run.json"
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, RecursionError):
        content = None
    whole = isinstance(content, dict) and run_of(content)
    if not whole or not all(isinstance(content.get(key, {}), dict) for key in ("contract", "own")):
        raise StorageError(f"{path} is damaged; begin anew with `{command} --afresh`")
    return dict(content)


def run_of(content: Mapping[str, Any]) -> bytes:
    """The id in run.json; empty where there is none, or one that cannot be."""
    try:
        run = bytes.fromhex(content.get("run", ""))
    except (TypeError, ValueError):
        return b""
    return run if len(run) == 32 else b""


def held_buckets(folder: Path) -> str:
    """How many finished buckets of an alignment there are, for people; nothing where there is none."""
    earlier = bucket_files.resume(folder)
    return f"{earlier.step} finished bucket(s)" if earlier else ""


@contextmanager
def told(
    holds: Callable[[], str],
    say: Callable[[str], None],
    results: Callable[[], Path | None] = lambda: None,
    command: str = "party run",
) -> Iterator[str]:
    """Say at the start what is there to go on from, and where an attempt fails, what it leaves.

    Gives what `holds` says at the start.
    """
    if earlier := holds():
        say(f"{earlier} of an earlier attempt, used if all parties still have it")
    try:
        yield earlier
    except BaseException as error:
        if whole := results():
            say(f"results are whole in {whole}; if so at all parties: `{command} --afresh` for the next")
        elif kept := holds():
            say(f"{kept} kept: {_what_next(error, command)}")
        raise


def _what_next(error: BaseException, command: str) -> str:
    """With what is kept: an end that would come again is mended by another contract only."""
    again = "start the same command again at all parties to go on"
    if isinstance(error, PeerFailed) and error.reason == REASONS["error"]:
        return f"once {error.peer} has mended its error, {again}"
    at_a_peer = isinstance(error, PeerFailed) and error.reason == REASONS["training"]
    if at_a_peer or isinstance(error, BudgetError | TrainingError):
        return f"of no use, as it would end so again: agree on a change, then `{command} --afresh`"
    return again


def forget(folder: Path) -> None:
    """Remove all of it: the run is whole, or is not to go on. Raises StorageError."""
    with removing(folder):
        if folder.is_symlink():
            folder.unlink()  # what it leads to is not ours
        elif folder.exists():
            # run.json is the last: who is killed meanwhile still knows which run has ended.
            for path in (each for each in folder.iterdir() if each.name != "run.json"):
                shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
            shutil.rmtree(folder)
            with suppress(OSError):  # parties may share a storage
                folder.parent.rmdir()


def forget_buckets(folder: Path) -> None:
    """Remove the finished buckets, and the folder if nothing else is in it. Raises StorageError."""
    with removing(folder):
        bucket_files.forget(folder)
        with suppress(OSError):
            folder.rmdir()
            folder.parent.rmdir()
