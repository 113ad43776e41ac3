"""What every run begins with: the parties meet, settle the terms, and find the ids that all of them have."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from numpy.typing import NDArray

import psi
from parties.bucket_files import keeping, resume
from parties.certs import Identity
from parties.config import Config
from parties.cost import Clock, Cost, measured
from parties.egress import NAME as AUDIT
from parties.egress import Egress, leaving
from parties.errors import AlignmentError, ContractError, StorageError
from parties.handshake import Brings, Meeting, handshake
from parties.same_alignment import compare
from parties.seal import sealed
from parties.storage import run_folder
from parties.terms import Terms, settle
from parties.unfinished import Unfinished
from protos.rounds import Progress, Rounds
from psi import buckets

T = TypeVar("T")

Random = Callable[[int], bytes]


@dataclass(frozen=True)
class Alignment:
    """rows: of this party's table, the i-th is common user i. reused: buckets of an earlier attempt."""

    terms: Terms
    rows: NDArray[np.int64]
    cost: Cost
    reused: int

    def described(self) -> dict[str, Any]:
        """All but the rows, as JSON has it."""
        return {
            "terms": asdict(self.terms) | {"sizes": dict(self.terms.sizes)},
            "cost": self.cost,
            "reused": self.reused,
        }

    @classmethod
    def kept(cls, rows: NDArray[np.int64], described: Mapping[str, Any]) -> "Alignment":
        return cls(Terms(**described["terms"]), rows, Cost(*described["cost"]), described["reused"])


def meet(
    config: Config,
    identity: Identity,
    brings: Brings,
    random: Random,
    met: Callable[[Meeting], None],
    then: Callable[[Meeting], Rounds[T]],
) -> Rounds[T | ContractError | AlignmentError]:
    """The handshake, and what follows it, sealed between feature holders. Raises what they raise, and `met`,
    which is told of the meeting first.

    ContractError and AlignmentError are results: every party comes to the same by itself, and the first to
    give up by raising it would be to the others a peer that failed, before they know why.
    """
    exchange = X25519PrivateKey.from_private_bytes(random(32))
    patience = max(config.party.link.wait, config.party.link.progress)
    try:
        meeting = yield from handshake(
            config.name, config.contract, identity, random(32), exchange, brings, patience
        )
        met(meeting)
        return (yield from sealed(then(meeting), meeting.seals))
    except (ContractError, AlignmentError) as error:
        return error


def logged(
    config: Config,
    rounds: Callable[[Callable[[Meeting], None]], Rounds[T]],
    met: Callable[[Meeting], None] = lambda meeting: None,
    place: Callable[[bytes], Path] | None = None,
) -> Rounds[T]:
    """An attempt at a run, with each message that leaves in the run's audit.jsonl (`parties.egress`).

    rounds: made of what they are to call as soon as all have met; met: called then, too. place: the folder of
    the run with this id; by default `run_folder`. Raises StorageError, AccountError.
    """
    egress = Egress(config.name)
    place = place or (lambda run: run_folder(config.party.storage, config.contract.name, run, config.name))

    def begin(meeting: Meeting) -> None:
        egress.open(place(meeting.run) / AUDIT, meeting.run, meeting.attempt)
        met(meeting)

    return leaving(rounds(begin), egress)


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

    unfinished: the folder of finished buckets (`parties.bucket_files`): those of an earlier attempt are used
    where all parties still have them. Raises StorageError, and what `settle` and `psi.buckets.align` raise.
    """
    contract, chosen = config.contract, ids[meeting.kind]
    parties = (contract.label_holder, *contract.feature_holders)
    terms = yield from settle(config.name, contract, meeting, protocols, len(chosen.rows))
    yield Progress(f"agreed on {terms.protocol}, {terms.kind} ids", 0, 0)
    setting = psi.Setting(config.name, parties, meeting.attempt, contract.psi.at_most, random, terms.sizes)
    padded_to = contract.psi.at_most if contract.psi.hide_sizes else None
    aligning = buckets.align(
        protocols[terms.protocol], setting, chosen.digests, terms.buckets, padded_to, resume(unfinished)
    )
    (common, saved), cost = yield from measured("psi", keeping(aligning, unfinished), clock)
    common = common[order(chosen.digests[common], meeting.run)]
    yield from compare(config.name, contract, meeting.run, chosen.digests[common])
    reused = terms.buckets - saved if terms.buckets > 1 else 0
    return Alignment(terms, chosen.rows[common], cost, reused)


def align_or_go_on(
    config: Config,
    ids: Mapping[str, psi.Ids],
    protocols: Mapping[str, psi.Psi],
    meeting: Meeting,
    clock: Clock,
    random: Random,
    unfinished: Unfinished,
) -> Rounds[Alignment]:
    """The alignment that all parties have kept, or a new one, kept here. Raises as `align`; AlignmentError
    where too few users are common to go on: at every party with the same words."""
    if meeting.common.aligned:
        kept = unfinished.alignment(meeting.run)
        if kept is None:
            raise StorageError(f"{unfinished.folder}: the alignment is gone or was changed; start again")
        aligned = Alignment.kept(*kept)
    else:
        aligned = yield from align(config, ids, protocols, meeting, clock, random, unfinished.folder)
        unfinished.keep_alignment(meeting.run, aligned.rows, aligned.described())
    found, minimum = len(aligned.rows), config.contract.psi.minimum
    if found < minimum:
        raise AlignmentError(
            f"{found} users in common, fewer than psi.minimum = {minimum}: does every "
            f"party's file hold {aligned.terms.kind} ids of the same people, written the same way?"
        )
    return aligned


def order(digests: NDArray[np.uint8], run: bytes) -> NDArray[np.int64]:
    """[n]: the common order of these common users [n, 16], by the run's id and their ids alone.

    All parties have the same digests, and come to it by themselves: were it the one in which the protocol
    tells them, an alignment done again would give another order, and other weights.
    """
    halves = np.ascontiguousarray(digests).view("<u8")
    odd = np.uint64(int.from_bytes(run[:8], "little") | 1)  # times an odd number: another order in each run
    return np.lexsort((halves[:, 1], halves[:, 0] * odd))
