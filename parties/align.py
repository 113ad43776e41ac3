"""`party align`: alignment only, for people who want the common ids and no model.

Memory holds some 60 bytes an id, and no table: ids are read in batches, aligned in buckets, and written in
the common order as the source is read again.
"""

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

import psi
from parties.alignment import Alignment, Random, align, logged, meet
from parties.attempts import attempts
from parties.certs import Identity
from parties.config import Config
from parties.connection import OnProgress, connected
from parties.cost import Clock
from parties.errors import AlignmentError, ContractError, DataError, PartyError
from parties.excluded import keep_record, told_of_excluded
from parties.handshake import Meeting
from parties.id_kinds import written_as
from parties.own import (
    OwnIds,
    Today,
    brings,
    leakage,
    own_identity,
    own_ids,
    own_protocols,
    refuse_expired,
    today,
)
from parties.room import to_align
from parties.sources.source import read_batches, read_rows
from parties.storage import check_writable, locked, run_folder, write, writing
from parties.summary import agreement, as_json, psi_record
from parties.unfinished import forget_buckets, held_buckets, told, unfinished
from parties.watch import OnPeer, Watch
from protos.rounds import Progress, Rounds, Traffic


def align_party(
    config: Config,
    out: Path | None,
    on_progress: OnProgress,
    say: Callable[[str], None],
    on_peer: OnPeer = lambda peer, there: None,
) -> dict[str, Any]:
    """Align with the others and write the common ids. Returns the content of summary.json, written last.

    out: where the ids go, in place of the run's folder. say: told what the others will learn.
    Buckets that an earlier attempt under this contract finished are used, where all parties still have them.
    """
    began = time.monotonic()
    with locked(config.party.storage, config.name), Watch(config, "align", on_peer) as watch:
        on_progress = watch.over(on_progress)
        refuse_expired(config)
        identity, protocols = own_identity(config), own_protocols(config)
        if out is not None:
            check_writable(out)
        as_read = config.source.state()
        ids, excluded, _ = ids_of_source(config, on_progress)
        counts = {kind: len(of_kind.rows) for kind, of_kind in ids.items()}
        for line in [*identity.warnings(), *leakage(config, protocols)]:
            say(line)
        if excluded is not None:
            say(told_of_excluded(excluded.facts()))
        room = to_align(config.contract, protocols)
        kept = partial(held_buckets, unfinished(config))

        def attempt() -> tuple[tuple[Meeting, Alignment] | ContractError | AlignmentError, Traffic]:
            with connected(config, identity, room, on_progress, say, watch.linked) as link:
                rounds = alignment_only(config, identity, ids, protocols)
                return link.drive(rounds, on_progress=on_progress), link.traffic

        with told(kept, say) as earlier:
            outcome, traffic = attempts(attempt, earlier, kept, say)
        ids.clear()
        if isinstance(outcome, PartyError):
            raise outcome
        meeting, aligned = outcome
        folder = run_folder(config.party.storage, config.contract.name, meeting.run, config.name)
        place = out or folder / "alignment.parquet"
        if config.source.state() != as_read:
            raise DataError(f"{config.source}: has changed since its ids were read; align again")
        write(folder / "agreement.json", agreement(config.contract, meeting))
        keep_record(folder, excluded)
        write_ids(config, aligned, place, lambda word: on_progress(word, traffic))
        summary = {
            "run": meeting.run.hex(),
            "contract": config.contract.digest.hex(),
            "party": config.name,
            "role": config.role,
            "rows": counts[aligned.terms.kind],
            "aligned": len(aligned.rows),
            "psi": psi_record(config.contract, aligned),
            "seconds": round(time.monotonic() - began, 3),
            "ids": str(place),
        }
        if excluded is not None:
            summary["excluded"] = excluded.facts()
        write(folder / "summary.json", as_json(summary))
        forget_buckets(unfinished(config))
    return summary


def alignment_only(
    config: Config,
    identity: Identity,
    ids: Mapping[str, psi.Ids],
    protocols: Mapping[str, psi.Psi],
    clock: Clock = time.monotonic,
    random: Random = os.urandom,
    today: Today = today,
) -> Rounds[tuple[Meeting, Alignment] | ContractError | AlignmentError]:
    """`party align` as rounds. today: as `parties.phases.whole_run` asks, at each meeting."""

    def then(meeting: Meeting) -> Rounds[tuple[Meeting, Alignment]]:
        refuse_expired(config, today)
        return meeting, (yield from align(config, ids, protocols, meeting, clock, random, unfinished(config)))

    own = brings(config, "align", protocols)
    return (yield from logged(config, lambda met: meet(config, identity, own, random, met, then)))


def said(summary: Mapping[str, Any]) -> str:
    """The last line, for people."""
    psi, ids = summary["psi"], summary["ids"]
    traffic = f"{psi['bytes_sent'] / 1e6:.1f} MB out, {psi['bytes_received'] / 1e6:.1f} MB in"
    none = "" if summary["aligned"] else "Do all parties hold ids of the same people, written the same way?\n"
    return (
        f"{summary['aligned']:,} of {summary['rows']:,} {psi['kind']} ids are common to all: {ids}\n{none}"
        f"{psi['protocol']}, {summary['seconds']:.1f} s ({psi['seconds']:.1f} s of it to align), {traffic}"
    )


def ids_of_source(config: Config, on_progress: OnProgress) -> OwnIds:
    """This party's ids of each kind, read in batches. Raises DataError, IdError."""

    def cells(names: tuple[str, ...]) -> Iterator[list[Any]]:
        rows = 0
        for batch in read_batches(config.source, names):
            yield [batch[name] for name in names]
            rows += len(batch[names[0]])
            on_progress(Progress("reading", rows, 0), Traffic(0, 0))

    return own_ids(config, cells)


def write_ids(
    config: Config,
    aligned: Alignment,
    place: Path,
    on_progress: Callable[[Progress], None] = lambda progress: None,
    named: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Parquet: row, and the ids in this party's own form. named: what the file says of itself.

    Raises DataError, StorageError.
    """
    columns = config.id_columns[aligned.terms.kind]
    names = ["row", *written_as(columns)]
    writer, done = None, 0
    on_progress(Progress("writing", 0, len(aligned.rows)))
    with writing(place) as file, ExitStack() as stack:
        for cells in read_rows(config.source, columns, aligned.rows):
            rows = aligned.rows[done : done + len(cells[columns[0]])]
            table = pa.table([pa.array(rows), *(cells[name] for name in columns)], names, metadata=named)
            if writer is None:
                writer = stack.enter_context(pq.ParquetWriter(file, table.schema))
            writer.write_table(table)
            done += len(rows)
            on_progress(Progress("writing", done, len(aligned.rows)))
