"""Whom all parties have in common, in a model: the users of its run, and those who were added to them since.

In the model's folder, in this order:

alignment.parquet                       of the run
people-0001.parquet, people-0002.parquet, ...   of `party extend`

Each has `row` (of the file as it was then) and the ids as that file wrote them; the place of a user in all of
them, one after another, is his number in every question of `party serve`. So all parties must hold the same
ones: the digest of a list tells.
"""

import hashlib
from collections.abc import Sequence
from itertools import count, takewhile
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

import psi
from parties.config import Config
from parties.errors import AlignmentError, StorageError
from parties.id_kinds import digest_key, written_as
from parties.model import Model
from parties.storage import removing
from protos.rounds import Progress, Receive, RemoteProtocolError, Rounds, Send

LISTS_AT_MOST: Final = 1024
"""Of users: of the run, and of the additions."""
DIGEST: Final = 32
"""Bytes of a list's."""


def people_of(config: Config, model: Model) -> list[NDArray[np.uint8]]:
    """Digests [n, 16] of the run's users, and of those of each addition. Raises StorageError."""
    found = [_read(config, model, model.folder / "alignment.parquet", {})]
    while (path := addition(model, len(found))).exists():
        found.append(_read(config, model, path, named(model)))
    return found


def digests_of(model: Model, people: Sequence[NDArray[np.uint8]]) -> list[bytes]:
    """Of the list as it was after each of these: DIGEST bytes, the same at all parties with the same list."""
    told, found = hashlib.sha256(b"vertical people v1\0" + model.digest), []
    for each in people:
        told.update(each.tobytes())
        found.append(told.digest())
    return found


def agree_on_people(model: Model) -> Rounds[list[NDArray[np.uint8]]]:
    """The users that all parties hold: of the run, and of each addition up to the first that one of them does
    not have as the others do. That one and all after it are removed: whom they hold is found again.

    Raises RemoteProtocolError, StorageError; AlignmentError where the users of the run are not the same: at
    every party, with the same words.
    """
    config = model.config
    hub = config.contract.label_holder
    people = people_of(config, model)
    own = digests_of(model, people)
    yield Progress("comparing users", 0, 0)
    if config.name == hub:
        common = len(own)
        for name in config.feature_holders:
            theirs = yield Receive(name, "people", LISTS_AT_MOST * DIGEST)
            common = min(common, _alike(own, theirs, name))
        for name in config.feature_holders:
            yield Send(name, "common people", common.to_bytes(4, "little"))
    else:
        yield Send(hub, "people", b"".join(own))
        common = int.from_bytes((yield Receive(hub, "common people", 4)), "little")
        if common > len(own):
            raise RemoteProtocolError(f"{hub} says that {config.name} has {common} lists of users")
    if not common:
        raise AlignmentError(
            "the parties do not hold the same users of this model's run; restore its alignment.parquet from "
            "a copy, or train again"
        )
    _forget_after(model, common - 1)
    return people[:common]


def _alike(own: list[bytes], theirs: bytes, name: str) -> int:
    """How many of the first lists are the same."""
    if not theirs or len(theirs) % DIGEST:
        raise RemoteProtocolError(f"{name} sent digests of lists that are none")
    told = (theirs[at : at + DIGEST] for at in range(0, len(theirs), DIGEST))
    alike = takewhile(lambda pair: pair[0] == pair[1], zip(own, told, strict=False))
    return sum(1 for _ in alike)


def addition(model: Model, number: int) -> Path:
    """The file of an addition, numbered from 1."""
    return model.folder / f"people-{number:04}.parquet"


def named(model: Model) -> dict[str, str]:
    """What the file of an addition says of itself."""
    return {"model": model.digest.hex(), "party": model.config.name}


def _forget_after(model: Model, additions: int) -> None:
    """Remove all after so many, the last one first. Raises StorageError."""
    there = next(number for number in count(1) if not addition(model, number).exists())
    for number in range(there - 1, additions, -1):
        with removing(path := addition(model, number)):
            path.unlink()


def _read(config: Config, model: Model, path: Path, wanted: dict[str, str]) -> NDArray[np.uint8]:
    names = config.id_columns.get(model.kind, ())
    types = next(kind.columns for kind in config.contract.ids if kind.name == model.kind)
    try:
        table = pq.read_table(path)
        told = table.schema.metadata or {}
        if any(told.get(key.encode()) != value.encode() for key, value in wanted.items()):
            raise StorageError(f"{path}: is not of this model of {config.name}; restore its own from a copy")
        cells = [table[written].to_pandas() for written in written_as(names)]
        key = digest_key(config.contract.digest, model.kind)
        return psi.normalise([cells], names, types, key, "refuse", "refuse").digests
    except (OSError, ValueError, KeyError, pa.ArrowException, psi.IdError) as error:
        raise StorageError(f"{path}: damaged, or not there; restore it from a copy") from error
