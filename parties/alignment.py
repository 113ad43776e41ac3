"""What every run begins with: the parties meet, settle the terms, and find the ids that all of them have."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from numpy.typing import NDArray

import psi
from parties.certs import Identity
from parties.config import Config
from parties.errors import AlignmentError, ContractError
from parties.handshake import Brings, Meeting, handshake
from parties.same_alignment import compare
from parties.seal import sealed
from parties.summary import Cost
from parties.terms import Terms, settle
from parties.unfinished import keeping, resume
from protos.rounds import Progress, Rounds
from psi import buckets

T = TypeVar("T")

Clock = Callable[[], float]
Random = Callable[[int], bytes]


@dataclass(frozen=True)
class Alignment:
    """rows: of this party's table, the i-th is common user i. reused: buckets of an earlier attempt."""

    terms: Terms
    rows: NDArray[np.int64]
    cost: Cost
    reused: int


def meet(
    config: Config,
    identity: Identity,
    brings: Brings,
    random: Random,
    then: Callable[[Meeting], Rounds[T]],
) -> Rounds[T | ContractError | AlignmentError]:
    """The handshake, and what follows it, sealed between feature holders. Raises what they raise.

    ContractError and AlignmentError are results: every party comes to the same by itself, and the first to
    give up by raising it would be to the others a peer that failed, before they know why.
    """
    exchange = X25519PrivateKey.from_private_bytes(random(32))
    patience = max(config.party.link.wait, config.party.link.progress)
    try:
        meeting = yield from handshake(
            config.name, config.contract, identity, random(32), exchange, brings, patience
        )
        return (yield from sealed(then(meeting), meeting.seals))
    except (ContractError, AlignmentError) as error:
        return error


def align(
    config: Config,
    ids: Mapping[str, psi.Ids],
    protocols: Mapping[str, psi.Psi],
    meeting: Meeting,
    clock: Clock,
    random: Random,
    unfinished: Path,
) -> Rounds[Alignment]:
    """Settle the terms and align under them. ids, protocols: what this party has, by kind and by name.

    unfinished: the folder of finished buckets (`parties.unfinished`): those of an earlier attempt are used
    where all parties still have them. Raises StorageError, and what `settle` and `psi.buckets.align` raise.
    """
    contract, chosen = config.contract, ids[meeting.kind]
    parties = (contract.label_holder, *contract.feature_holders)
    terms = yield from settle(config.name, contract, meeting, protocols, len(chosen.rows))
    yield Progress(f"agreed on {terms.protocol}, {terms.kind} ids", 0, 0)
    setting = psi.Setting(config.name, parties, meeting.run, contract.psi.at_most, random, terms.sizes)
    padded_to = contract.psi.at_most if contract.psi.hide_sizes else None
    aligning = buckets.align(
        protocols[terms.protocol], setting, chosen.digests, terms.buckets, padded_to, resume(unfinished)
    )
    (common, saved), cost = yield from measured("psi", keeping(aligning, unfinished), clock)
    yield from compare(config.name, contract, meeting.run, chosen.digests[common])
    reused = terms.buckets - saved if terms.buckets > 1 else 0
    return Alignment(terms, chosen.rows[common], cost, reused)


def measured(phase: str, rounds: Rounds[T], clock: Clock = time.monotonic) -> Rounds[tuple[T, Cost]]:
    """The rounds of a phase, its name told first, and what they cost."""
    before, start = (yield Progress(phase, 0, 0)), clock()
    result = yield from rounds
    after = yield Progress(phase, 0, 0)
    return result, Cost.between(start, before, clock(), after)
