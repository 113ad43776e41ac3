"""Several examples an entity: the label holder's rows of the common users, and what is told of them.

The others are told how many examples each common user has, and nothing else: no order of the file, no time.
Which example is in which part and batch follows, at every party, from these counts and the public seed. One
user's examples stand in an order drawn from the label holder's private seed: in that of the file, a feature
holder would see gradients in the order in which things happened.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from parties.contract import Contract
from parties.errors import AlignmentError
from protos.rounds import Progress, Receive, RemoteProtocolError, Rounds, Send
from psi import Ids
from splitnn.randomness import permutation
from splitnn.schedule import Split, repeated

COUNT = np.dtype("<u4")
"""One number of the message: how many examples an entity has."""


@dataclass(frozen=True)
class Examples:
    """A run's examples as one party has them.

    rows: of its table, one for each row of its features: of an example each at the label holder, of an entity
    each elsewhere. split: places in `rows` of each part's examples. entities: of the same examples, their
    places in the alignment; None where each entity has one.
    """

    rows: NDArray[np.int64]
    split: Split
    entities: Split | None = None

    @property
    def training_rows(self) -> NDArray[np.int64]:
        """Rows of the table, each once: what this party may fit its features to."""
        rows: NDArray[np.int64] = self.rows[torch.unique_consecutive(self.split.train).numpy()]
        return rows

    def __len__(self) -> int:
        return sum(map(len, self.split))


def agree_on_examples(
    me: str, contract: Contract, ids: Ids, alignment: NDArray[np.int64], split: Split, seed: bytes
) -> Rounds[Examples]:
    """alignment: rows of this party's table, the i-th is entity i. split: of the entities.

    seed: private; only the label holder's is used. Raises AlignmentError at every party where there are more
    examples than the contract allows, and RemoteProtocolError for counts that cannot be.
    """
    if not contract.several:
        return Examples(alignment, split)
    hub, at_most = contract.label_holder, contract.examples.at_most
    yield Progress("examples", 0, 0)
    if me == hub:
        rows, counts = own_examples(ids, alignment, seed)
        payload = b"" if len(rows) > at_most else counts.astype(COUNT).tobytes()
        for name in contract.feature_holders:
            yield Send(name, "examples", payload)
    else:
        payload = yield Receive(hub, "examples", COUNT.itemsize * min(len(alignment), at_most))
    if not payload:
        raise AlignmentError(
            f"{hub}: more examples of the {len(alignment):,} common users than examples.at_most = "
            f"{at_most:,} allows; nothing was trained: agree on a larger cap, or bring fewer"
        )
    if me == hub:
        return Examples(rows, *repeated(split, torch.from_numpy(counts)))
    _, entities = repeated(split, torch.from_numpy(_counts(payload, hub, len(alignment), at_most)))
    return Examples(alignment, entities, entities)


def own_examples(
    ids: Ids, alignment: NDArray[np.int64], seed: bytes
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The label holder's rows of all common users, entity by entity, and how many of them each entity has."""
    entity = np.full(len(ids.rows), -1)
    entity[np.searchsorted(ids.rows, alignment)] = np.arange(len(alignment))
    later = entity[ids.repeated]
    rows = np.concatenate((alignment, ids.repeats[later >= 0]))
    of = np.concatenate((np.arange(len(alignment)), later[later >= 0]))
    shuffled = permutation(seed, "examples", len(rows)).numpy()
    return rows[shuffled[np.argsort(of[shuffled], kind="stable")]], np.bincount(of)


def _counts(payload: bytes, hub: str, entities: int, at_most: int) -> NDArray[np.int64]:
    """No common user is without an example: a row of the label holder is what makes him common."""
    if len(payload) == COUNT.itemsize * entities:
        counts = np.frombuffer(payload, COUNT).astype(np.int64)
        if counts.min() >= 1 and counts.sum() <= at_most:
            return counts
    raise RemoteProtocolError(f"{hub} says how many examples each common user has, and it cannot be")
