"""What a party can try by itself, before it meets anybody: its identity, its protocol, its data."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from parties import certs
from parties.certificate import key_fingerprint
from parties.config import Config
from parties.contract import AUTO, PROTOCOL, Contract
from parties.errors import ConfigError, ContractExpired, DataError, IdentityError
from parties.handshake import PROTOCOLS_AT_MOST, Brings
from parties.id_kinds import digest_key
from parties.limits import MOST_ROOM

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from parties.delay import Delay
    from parties.excluded import Excluded
    from parties.labels import OwnLabels
    from parties.table import Table
    from psi import Psi
    from psi.ids import Ids, Policy

Cells = Callable[[tuple[str, ...]], Iterable[Sequence[Any]]]
"""The batches of these columns of the table."""

Today = Callable[[], date]
"""What day it is, in UTC."""


def today() -> date:
    return datetime.now(UTC).date()


def refuse_expired(config: Config, today: Today = today) -> None:
    """Raises ContractExpired where no run may begin any more."""
    last, now = config.contract.privacy.expires, today()
    if last is not None and now > last:
        raise ContractExpired(
            f"{config.party.contract}: privacy.expires: {last} was the last day for a run, and today is "
            f"{now} (UTC); agree on a new contract"
        )


class OwnData(NamedTuple):
    """`labels` (label holder only) and `table` have the source's rows; no label is of an excluded one.

    ids: by kind, in the contract's order of preference; the `rows` of each are the usable ones. delay: where
    labels arrive late; rows that are not mature have no ids. excluded: nor have those of whom the party was
    told to leave them out.
    """

    table: "Table"
    ids: "dict[str, Ids]"
    labels: "OwnLabels | None"
    delay: "Delay | None" = None
    excluded: "Excluded | None" = None


class Withdrawn(NamedTuple):
    """Who is left out, and all ids of the table, with theirs, by kind."""

    excluded: "Excluded"
    everybody: "dict[str, Ids]"


class OwnIds(NamedTuple):
    """The party's ids of each kind that it has, and who was left out. everybody: the ids with theirs; empty
    where there is no list."""

    by_kind: "dict[str, Ids]"
    excluded: "Excluded | None"
    everybody: "dict[str, Ids]"


def pin_of(certificate: Path) -> str:
    """What run.toml pins for the holder of this certificate, `sha256:<hex>`. Raises IdentityError."""
    try:
        return key_fingerprint(certificate.read_bytes())
    except OSError as error:
        raise IdentityError(f"{certificate}: cannot be read: {error.strerror}") from error
    except ValueError:
        raise IdentityError(
            f"{certificate}: is no certificate in PEM or DER form; give the right file"
        ) from None


def own_identity(config: Config) -> certs.Identity:
    """The party's certificate and key, and they are those that run.toml pins. Raises IdentityError."""
    tls, pinned = config.party.tls, config.contract.parties[config.name].key
    identity = certs.load(tls.ca, tls.certificate, tls.key, config.name, denied=tls.denied)
    if identity.fingerprint != pinned:
        raise IdentityError(
            f"{tls.certificate}: its pin is {identity.fingerprint}, but run.toml says {pinned} for "
            f"{config.name}; correct it at all parties (is it pasted under another name?)"
        )
    check_pins(config)
    return identity


def check_pins(config: Config) -> None:
    """Is no key denied here that run.toml pins? Raises IdentityError."""
    for name, party in config.contract.parties.items():
        if party.key in config.party.tls.denied:
            raise IdentityError(
                f"{config.path}: tls.denied names the key that run.toml pins for {name}; agree on a run.toml "
                f"with another key of {name}"
            )


def own_protocols(config: Config) -> "dict[str, Psi]":
    """The PSI protocols by which this party can align under the contract, by name.

    The one that run.toml names, or with "auto" all that are installed here, secure and fit. Nothing where the
    one is not installed here: the handshake tells all parties. Raises ConfigError where none fits.
    """
    import psi

    agreed = config.contract.psi.protocol
    found: dict[str, Psi] = {}
    for name in psi.installed() if agreed == AUTO else [agreed]:
        with suppress(psi.UnknownProtocol, psi.DuplicateProtocol):
            found[name] = psi.load(name)
    faults = {name: _unfit(config, name, protocol) for name, protocol in found.items()}
    if agreed == AUTO:
        fitting = {name: one for name, one in found.items() if one.secure and not faults[name]}
    else:
        fitting = {name: one for name, one in found.items() if not faults[name]}
    if found and not fitting:
        raise ConfigError(
            "\n".join(f"{config.party.contract}: psi.{fault}" for fault in faults.values() if fault)
        )
    return fitting


def _unfit(config: Config, name: str, protocol: "Psi") -> str | None:
    """Why the contract does not let this protocol be used."""
    from psi.buckets import LARGEST

    agreed, parties = config.contract.psi, len(config.contract.parties)
    if not (protocol.secure or agreed.allow_insecure):
        return (
            f"allow_insecure: {name} hides nothing from a party that guesses ids; choose another "
            "psi.protocol, or set this to true where that is wanted"
        )
    if parties not in protocol.parties:
        fewest, most = protocol.parties.start, protocol.parties.stop - 1
        wanted = f"{fewest} to {most}" if most > fewest else fewest
        return f"protocol: {name} is for {wanted} parties, and the contract has {parties}"
    unread = protocol.unread(min(agreed.at_most, LARGEST))
    if unread > MOST_ROOM:
        return (
            f"at_most: a peer may then send {unread:,} bytes of {name} unasked, and {MOST_ROOM:,} may wait; "
            "lower it"
        )
    return None


def leakage(config: Config, protocols: "dict[str, Psi]") -> list[str]:
    """What others learn from the alignment, for people: a line a protocol, or for all that say the same."""
    agreed = config.contract.psi
    names: dict[str, list[str]] = {}
    for name, protocol in protocols.items():
        warning = "" if protocol.secure else "WARNING, this hides nothing from whoever guesses an id: "
        hidden = f"; of sizes only psi.at_most = {agreed.at_most:,}" if agreed.hide_sizes else ""
        names.setdefault(warning + protocol.leakage + hidden, []).append(name)
    lines = [f"{' or '.join(alike)}: {leaks}" for leaks, alike in names.items()]
    return lines or [f"{agreed.protocol} is not installed here, or cannot be used: `party check` says why"]


def leakage_of_examples(contract: Contract) -> list[str]:
    """What all parties learn where several examples may point at one entity; nothing where they may not."""
    told = f"examples: every party learns how many rows {contract.label_holder} has of each common user"
    return [told] if contract.several else []


def leakage_of_serving(contract: Contract) -> list[str]:
    """What `party serve` tells beyond the common users; nothing where it asks about nobody else."""
    hub = contract.label_holder
    told = (
        f"reveals_membership: when {hub} serves, each feature holder learns who outside the alignment is "
        f"asked about, by digests that it can match with any id it guesses, and {hub} learns whom it has"
    )
    return [told] if contract.reveals_membership else []


def brings(config: Config, purpose: str, protocols: "Iterable[str]", model: bytes = b"") -> Brings:
    """What this party tells the others in the handshake. protocols: names of `own_protocols`. model: as
    `Brings` has it."""
    import psi

    agreed, own = config.contract.psi.protocol, [*protocols]
    if agreed != AUTO:
        own += [name for name in psi.installed() if name != agreed and PROTOCOL.fullmatch(name)]
    return Brings(purpose, own[:PROTOCOLS_AT_MOST], [*config.id_columns], model=model)


def own_data(config: Config) -> OwnData:
    """The party's table, ids and labels, read whole and checked. Raises DataError, IdError."""
    from parties.delay import delayed
    from parties.labels import own_labels
    from parties.sources.source import BLOCK
    from parties.table import read_table

    data, columns = config.party.data, config.id_columns
    named = list(dict.fromkeys(name for of_kind in columns.values() for name in of_kind))
    table = read_table(
        config.source,
        named,
        data.numeric,
        data.categorical,
        data.label,
        data.exclude,
        data.weight,
        data.rank_within,
        config.party.storage,
        data.bags,
        [name for name in (data.event_time, data.label_time) if name and data.label],
        data.types,
        data.scale,
    )
    starts = range(0, table.rows, BLOCK)

    def cells(names: tuple[str, ...]) -> Iterator[list[Any]]:
        return ([table.ids[name].iloc[at : at + BLOCK] for name in names] for at in starts)

    gone = withdrawn(config, cells)
    takes_part = None if gone is None else gone.excluded.takes_part(table.rows)
    labels, delay = None, None
    try:
        if data.label:
            labels = own_labels(table, config.contract.model, data, takes_part)
            labels, delay = delayed(table, data, labels, takes_part)
    except DataError as error:
        raise DataError(f"{config.source}: {error}") from error
    ids, excluded, _ = own_ids(config, cells, None if delay is None else delay.mature, gone)
    return OwnData(table, ids, labels, delay, excluded)


def large_batch(config: Config, aligned: int) -> list[str]:
    """A line, if with so many common users each epoch is one step. It trains, but hardly as it was meant.

    None where a user may have several examples: how many there are, nobody knows beforehand.
    """
    contract = config.contract
    rows = round(aligned * (1 - contract.evaluation.validation - contract.evaluation.test))
    if contract.several or contract.training.batch <= rows:
        return []
    return [
        f"training.batch = {contract.training.batch:,} is more than the {rows:,} rows that {aligned:,} "
        "common users leave to train on: each epoch is one step"
    ]


def own_ids(
    config: Config,
    cells: Cells,
    takes_part: "NDArray[Any] | None" = None,
    gone: Withdrawn | None = None,
) -> OwnIds:
    """takes_part: which rows of the table, as `psi.normalise` has it. gone: `withdrawn`, where it is known
    already. Who is excluded is so in every row with an id of his.

    Raises DataError, IdError, and what `cells` raises.
    """
    data = config.party.data
    gone = gone or withdrawn(config, cells)
    if gone is None:
        return OwnIds(_read(config, cells, data.nulls, data.duplicates, takes_part), None, {})
    excluded, everybody = gone
    there = excluded.takes_part(next(iter(everybody.values())).total)
    if takes_part is not None:
        there &= takes_part
    left = _read(config, cells, data.nulls, data.duplicates, there)
    return OwnIds(left, _silencing(excluded, everybody, left), everybody)


def withdrawn(config: Config, cells: Cells) -> Withdrawn | None:
    """None where there is no list. Raises as `own_ids`."""
    from parties.excluded import find_excluded

    if config.party.data.exclude_ids is None:
        return None
    everybody = _read(config, cells, "drop", "drop", None)
    return Withdrawn(find_excluded(config, config.party.data.exclude_ids, everybody), everybody)


def _read(
    config: Config, cells: Cells, nulls: "Policy", duplicates: "Policy", takes_part: "NDArray[Any] | None"
) -> "dict[str, Ids]":
    import psi

    kinds, key = {kind.name: kind for kind in config.contract.ids}, config.contract.digest
    try:
        return {
            kind: psi.normalise(
                cells(names),
                names,
                kinds[kind].columns,
                digest_key(key, kind),
                nulls,
                duplicates,
                takes_part,
            )
            for kind, names in config.id_columns.items()
        }
    except psi.IdError as error:
        raise psi.IdError(f"{config.source}: {error}") from error


def leave_out(config: Config, file: Path, everybody: "dict[str, Ids]") -> OwnIds:
    """As `own_ids`, of a table that was read before, by the list as it is now. Raises DataError, IdError."""
    from parties.excluded import find_excluded, left_of

    excluded = find_excluded(config, file, everybody)
    takes_part = excluded.takes_part(next(iter(everybody.values())).total)
    left = {kind: left_of(ids, takes_part) for kind, ids in everybody.items()}
    return OwnIds(left, _silencing(excluded, everybody, left), everybody)


def _silencing(excluded: "Excluded", everybody: "dict[str, Ids]", left: "dict[str, Ids]") -> "Excluded":
    silent = {kind: excluded.silent(kind, everybody[kind], ids) for kind, ids in left.items()}
    return replace(excluded, digests=silent)
