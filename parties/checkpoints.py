"""Checkpoints of training: all that the next epochs depend on, a file an epoch, whole or not at all.

checkpoint-<epoch>.safetensors

The file is a safetensors file with one tensor of bytes, `state`: what the schedule's `Save` held, safetensors
itself. Its header says of which run, party, contract and epoch it is, and the SHA-256 of the state. A file is
used only if it is, byte for byte, what would be written for this header and this state: one that was cut
short, altered, or written by another version, for another party or another run, counts as not there, and
nothing in it is ever run.
"""

import hashlib
import json
import re
import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar

from parties.storage import removing, writing
from protos.rounds import Round, Rounds, Save, mapped

T = TypeVar("T")

KEPT: Final = 3
"""Newest checkpoints that stay. Two would do for parties that end in the midst of the same checkpoint; the
third is for a file that turns out to be damaged."""

STEPS: Final = 500
"""At least so many training steps from one checkpoint to the next, and at least an epoch."""


class Stamp(NamedTuple):
    """Whose checkpoint it is. run, contract: 32 bytes each."""

    run: bytes
    contract: bytes
    party: str


def every(epoch_steps: int) -> int:
    """Epochs from one checkpoint to the next: the same at every party."""
    return -(-STEPS // epoch_steps)


def keeping(
    training: Rounds[T],
    folder: Path,
    stamp: Stamp,
    epochs: int,
    on_checkpoint: Callable[[float], None] = lambda seconds: None,
) -> Rounds[T]:
    """The same rounds of a schedule, a `Save` every so many epochs written to the folder.

    on_checkpoint: told how many seconds it took.
    """

    def each(word: Round) -> Generator[Round, Any, Any]:
        if not isinstance(word, Save):
            return (yield word)
        if word.step % epochs == 0:
            began = time.monotonic()
            keep(folder, stamp, word.step, word.state())
            on_checkpoint(time.monotonic() - began)

    return mapped(training, each)


def keep(folder: Path, stamp: Stamp, epoch: int, state: bytes) -> None:
    """Write it, then remove all but the newest. Raises StorageError: the earlier ones are as they were."""
    put(_path(folder, epoch), stamp, epoch, state)
    for path, _ in sorted(files(folder), key=lambda found: -found[1])[KEPT:]:
        with removing(path):
            path.unlink(missing_ok=True)


def load(folder: Path, stamp: Stamp, epoch: int) -> bytes | None:
    """The state; None where there is no such checkpoint that is whole and has this stamp."""
    return get(_path(folder, epoch), stamp, epoch)


def put(path: Path, stamp: Stamp, number: int, state: bytes) -> None:
    """A file of this form; of a checkpoint the number is its epoch. Raises StorageError."""
    with writing(path) as file:
        file.write(_header(stamp, number, state))
        file.write(state)


def get(path: Path, stamp: Stamp, number: int) -> bytes | None:
    """The state that `put` wrote there; None where there is no such file that is whole and has this stamp."""
    try:
        whole = memoryview(path.read_bytes())
    except OSError:
        return None
    state = whole[8 + int.from_bytes(whole[:8], "little") :]
    header = _header(stamp, number, state)
    return bytes(state) if whole[: len(whole) - len(state)] == header else None


def epochs(folder: Path, stamp: Stamp) -> tuple[int, ...]:
    """Of which there are such checkpoints, rising."""
    return tuple(sorted(epoch for _, epoch in files(folder) if load(folder, stamp, epoch) is not None))


def forget(folder: Path, after: int = 0) -> None:
    """Remove all of later epochs. Raises OSError."""
    for path, epoch in files(folder):
        if epoch > after:
            path.unlink(missing_ok=True)


def files(folder: Path) -> Iterator[tuple[Path, int]]:
    """Those that are named so, with their epochs, whole or not."""
    for path in [*folder.glob("checkpoint-*.safetensors")]:
        if named := re.fullmatch(r"checkpoint-([0-9]{6})\.safetensors", path.name):
            yield path, int(named[1])


def _path(folder: Path, epoch: int) -> Path:
    return folder / f"checkpoint-{epoch:06}.safetensors"


def _header(stamp: Stamp, epoch: int, state: bytes | memoryview) -> bytes:
    metadata = {
        "format": "vertical checkpoint 1",
        "run": stamp.run.hex(),
        "contract": stamp.contract.hex(),
        "party": stamp.party,
        "epoch": str(epoch),
        "sha256": hashlib.sha256(state).hexdigest(),
    }
    tensor = {"dtype": "U8", "shape": [len(state)], "data_offsets": [0, len(state)]}
    header = json.dumps({"__metadata__": metadata, "state": tensor}).encode()
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header
