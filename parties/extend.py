"""`party extend`: people who became common to all parties after a model's run, added to its users.

All parties know the users so far, so each leaves them out of what it brings to the alignment: what that gives
is what an alignment of all ids would, less what is known. docs/psi.md says why no party learns more by it.
"""

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

import psi
from parties.align import ids_of_source, write_ids
from parties.alignment import Alignment, Random, align, logged, meet
from parties.certs import Identity
from parties.config import Config
from parties.connection import OnProgress
from parties.cost import Clock
from parties.ending import End, all_keep, to_the_end
from parties.errors import AlignmentError, ConfigError, DataError, PartyError
from parties.excluded import Excluded, keep_record, told_of_excluded
from parties.handshake import Brings, Meeting
from parties.model import Model, chosen, model
from parties.own import Today, brings, leakage, own_identity, own_protocols, refuse_expired, today
from parties.people import LISTS_AT_MOST, addition, agree_on_people, named, people_of
from parties.previous import NOTHING, Previous
from parties.room import to_align
from parties.serving.store import DigestIndex
from parties.storage import locked, made, write
from parties.summary import agreement, as_json, psi_record
from parties.unfinished import Unfinished, forget, held_buckets
from parties.watch import OnPeer, Watch
from protos.rounds import Rounds

COMMAND: Final = "party extend"


@dataclass(frozen=True)
class Prepared:
    """What one party brings, all of it checked. ids: of the model's kind. read: the state of their source.
    told: what the handshake tells the others."""

    config: Config
    identity: Identity
    model: Model
    ids: psi.Ids
    excluded: Excluded | None
    read: object
    protocols: Mapping[str, psi.Psi]
    told: Brings

    def folder(self, run: bytes) -> Path:
        """Made, where it is not there, for what this addition leaves. Raises StorageError."""
        return made(self.model.folder / results_of(run))


class UnfinishedAddition(Unfinished):
    """One party's files of an interrupted addition: buckets, and who has ended. Of lists that not all parties
    have they tell one another as they meet again."""

    def results_of(self, run: bytes) -> Path:
        return self.folder.parent / results_of(run)

    def previous(self) -> Previous:
        return NOTHING

    def holds(self) -> str:
        return held_buckets(self.folder)


def extend_party(
    config: Config,
    run: str | None,
    on_progress: OnProgress,
    say: Callable[[str], None],
    on_peer: OnPeer = lambda peer, there: None,
    afresh: bool = False,
) -> dict[str, Any]:
    """Align with the others whom not all knew at the model's run. Returns the content of summary.json.

    run: as `parties.model.chosen`. afresh: drop what an interrupted addition has left.
    """
    with locked(config.party.storage, config.name), Watch(config, "extend", on_peer) as watch:
        on_progress = watch.over(on_progress)
        trained = model(config, chosen(config, run))
        unfinished = unfinished_with(trained)
        if afresh:
            forget(unfinished.folder)
        prepared = prepare(config, trained, on_progress)
        for line in [*prepared.identity.warnings(), *leakage(config, dict(prepared.protocols))]:
            say(line)
        if prepared.excluded is not None:
            say(told_of_excluded(prepared.excluded.facts()))
        say(f"adds to the users of the model of run {trained.run.hex()[:12]}")
        return to_the_end(
            config,
            prepared.identity,
            to_align(config.contract, prepared.protocols),
            unfinished,
            lambda: complete_extension(prepared, unfinished, say=say),
            on_progress,
            say,
            watch.linked,
        )


def unfinished_with(trained: Model) -> UnfinishedAddition:
    folder, config = trained.folder / "people-unfinished", trained.config
    return UnfinishedAddition(folder, config.contract, config.name, {}, command=COMMAND)


def prepare(
    config: Config,
    trained: Model,
    on_progress: OnProgress = lambda progress, traffic: None,
    today: Today = today,
) -> Prepared:
    """Raises ContractExpired, ConfigError, DataError, IdError, IdentityError, StorageError."""
    refuse_expired(config, today)
    identity, protocols = own_identity(config), own_protocols(config)
    read = config.source.state()
    if trained.kind not in config.id_columns:
        raise ConfigError(f"{config.path}: data.id: no column for {trained.kind}, the model's kind of id")
    if len(people_of(config, trained)) >= LISTS_AT_MOST:
        raise ConfigError(f"{trained.folder}: holds {LISTS_AT_MOST - 1:,} additions; train a new run")
    by_kind, excluded, _ = ids_of_source(config, on_progress)
    told = brings(config, "extend", protocols, trained.digest)._replace(kinds=[trained.kind])
    return Prepared(config, identity, trained, by_kind[trained.kind], excluded, read, protocols, told)


def complete_extension(
    prepared: Prepared,
    unfinished: UnfinishedAddition,
    clock: Clock = time.monotonic,
    random: Random = os.urandom,
    say: Callable[[str], None] = lambda line: None,
    today: Today = today,
) -> Rounds[End]:
    """As rounds, files included; arguments and errors as of `parties.train.complete_run`."""
    config, trained = prepared.config, prepared.model
    me, contract, began = config.name, config.contract, clock()

    def then(meeting: Meeting) -> Rounds[tuple[Meeting, list[NDArray[np.uint8]], Alignment]]:
        refuse_expired(config, today)
        unfinished.begin(meeting.run)
        people = yield from agree_on_people(trained)
        known = DigestIndex(np.concatenate(people)).find(prepared.ids.digests) >= 0
        ids = {trained.kind: others(prepared.ids, known)}
        aligned = yield from align(config, ids, prepared.protocols, meeting, clock, random, unfinished.folder)
        return meeting, people, aligned

    def rounds(begin: Callable[[Meeting], None]) -> Rounds[End]:
        outcome = yield from meet(config, prepared.identity, prepared.told, random, begin, then)
        if isinstance(outcome, PartyError):
            if isinstance(outcome, AlignmentError):
                forget(unfinished.folder)  # at every party: there is nothing to go on with
            return outcome
        meeting, people, aligned = outcome
        if config.source.state() != prepared.read:
            raise DataError(f"{config.source}: has changed since its ids were read; start again")
        users = np.concatenate(people)
        folder, added, place = prepared.folder(meeting.run), len(aligned.rows), addition(trained, len(people))
        write(folder / "agreement.json", agreement(contract, meeting))
        keep_record(folder, prepared.excluded)
        if added:
            write_ids(config, aligned, place, named=named(trained))
        summary = {
            "addition": meeting.run.hex(),
            "run": trained.run.hex(),
            "version": trained.digest.hex(),
            "contract": contract.digest.hex(),
            "party": me,
            "role": config.role,
            "rows": len(prepared.ids.rows),
            "known": len(users),
            "gone": int((DigestIndex(prepared.ids.digests).find(users) < 0).sum()),
            "added": added,
            "psi": psi_record(contract, aligned),
            "seconds": round(clock() - began, 3),
        }
        if added:
            summary["ids"] = str(place)
        if prepared.excluded is not None:
            summary["excluded"] = prepared.excluded.facts()
        write(folder / "summary.json", as_json(summary))
        yield from all_keep(me, contract, unfinished.end)
        forget(unfinished.folder)
        say(f"results in {folder}")
        return summary

    return (yield from logged(config, rounds, place=prepared.folder))


def others(ids: psi.Ids, known: NDArray[np.bool_]) -> psi.Ids:
    """Those that are not known. known: [n], of `ids.digests`."""
    none = np.empty(0, np.int64)
    return replace(ids, digests=ids.digests[~known], rows=ids.rows[~known], repeats=none, repeated=none)


def results_of(run: bytes) -> str:
    """The folder of what an addition leaves, in that of its model."""
    return f"people-{run.hex()[:12]}"


def said(summary: Mapping[str, Any]) -> str:
    """The last lines, for people."""
    psi = summary["psi"]
    traffic = f"{psi['bytes_sent'] / 1e6:.1f} MB out, {psi['bytes_received'] / 1e6:.1f} MB in"
    users = summary["known"] + summary["added"]
    told = f"{summary['added']:,} users added, {users:,} now; {summary['gone']:,} are in the file no more"
    again = "a `party serve` that runs takes them up within some seconds\n" if summary["added"] else ""
    return f"{told}\n{again}{psi['protocol']}, {summary['seconds']:.1f} s, {traffic}"
