"""`party check`: try all that this party can try alone, and say what a run would send from here."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar

import psi
from parties.changes import described, refuse_changes
from parties.config import Config
from parties.contract import AUTO
from parties.contract_privacy import Privacy
from parties.errors import ConfigError, DataError, PartyError, StorageError, exit_code
from parties.labels import facts_of
from parties.leaves import what_leaves
from parties.own import (
    OwnData,
    Today,
    large_batch,
    leakage_of_examples,
    leakage_of_serving,
    own_data,
    own_identity,
    own_protocols,
    refuse_expired,
    today,
)
from parties.own_schema import check_columns, remembered_pin
from parties.probe import look_at_hub, look_at_port
from parties.storage import own_secret
from parties.unfinished import Unfinished, read, run_of, unfinished
from psi import IdError, Psi

T = TypeVar("T")

WITHIN = 5.0
"""Seconds to wait for the hub's answer."""


@dataclass
class Findings:
    """What was found, in the order in which it is shown; a part is empty where it could not be tried."""

    party: str
    role: str
    contract: str
    privacy: dict[str, Any] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)
    identity: dict[str, Any] = field(default_factory=dict)
    link: dict[str, Any] = field(default_factory=dict)
    psi: dict[str, Any] = field(default_factory=dict)
    examples: list[str] = field(default_factory=list)
    serving: list[str] = field(default_factory=list)
    leaves: list[str] = field(default_factory=list)
    faults: list[Exception] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        faults = [
            {"class": type(fault).__name__, "message": str(fault), "exit_code": exit_code(fault)}
            for fault in self.faults
        ]
        parts = {key: value for key, value in vars(self).items() if key != "faults"}
        return parts | {"faults": faults} | ({"error": faults[0]} if faults else {})


def check(config: Config, today: Today = today) -> Findings:
    """Try certificate, hub, data and protocol, each whether or not another fails. No data leaves."""
    found = Findings(config.name, config.role, config.contract.digest.hex())
    found.privacy = config.contract.privacy.model_dump(mode="json", exclude_defaults=True)

    def attempt(work: Callable[[Config], T]) -> T | None:
        try:
            return work(config)
        except (PartyError, IdError) as fault:
            if fault not in found.faults:  # the same one: of a query that is not run again
                found.faults.append(fault)
            return None

    attempt(lambda config: refuse_expired(config, today))
    identity = attempt(own_identity)
    if identity is not None:
        found.identity = {
            "certificate": str(identity.certificate_file),
            "key": identity.fingerprint,
            "expires": identity.not_after.date().isoformat(),
            "warnings": identity.warnings(),
        }
    attempt(check_columns)
    data = attempt(own_data)
    if data is not None:
        found.data = _data(config, data)
        found.faults += _too_many(config, data)
    if spends := attempt(lambda config: _may_spend(config, data)):
        found.privacy["spending"] = spends
    attempt(lambda config: _models_can_be_trained(config, data))
    attempt(_protocol_is_installed)
    protocols = attempt(own_protocols)
    if protocols is not None:
        found.psi = _psi(config, protocols, data)
    holds = attempt(_unfinished) or ""
    found.examples = leakage_of_examples(config.contract)
    found.serving = leakage_of_serving(config.contract)
    # Last: a hub that is not there yet must not hide a fault of our own.
    if config.role == "label holder":
        found.link = {"listen": str(config.party.link.listen), "free": attempt(_port_is_free) is True}
    elif identity is not None:
        found.link = {"hub": str(config.party.link.hub), "reachable": attempt(_hub_answers) is True}
    found.leaves = what_leaves(config, data, protocols, holds)
    return found


def _unfinished(config: Config) -> str:
    """What there is to go on with, in words. Raises what `party run` would."""
    own = described(config)
    refuse_changes(config, own)
    return Unfinished.of(config, own).holds()


def _may_spend(config: Config, data: OwnData | None) -> str:
    from parties.label_draws import question  # torch
    from parties.spending import check_ledger, foreseen, kept_of

    check_ledger(config)
    if config.contract.privacy == Privacy():
        return ""
    run, answers = b"", list[str]()
    with suppress(StorageError):  # of a damaged run.json or secret `_unfinished` tells
        run = run_of(read(unfinished(config)))
        if data is not None and data.labels is not None:
            secret, asked = own_secret(config.party.storage), question(config, data.labels.names)
            answers = [kept_of(secret, (kind, asked)) for kind in config.id_columns]
    return foreseen(config, run, answers)


def _protocol_is_installed(config: Config) -> None:
    """In a run, the handshake would tell all parties that it is not; why, only this one can say."""
    name = config.contract.psi.protocol
    try:
        if name != AUTO:
            psi.load(name)
    except (psi.UnknownProtocol, psi.DuplicateProtocol) as error:
        raise ConfigError(f"{config.party.contract}: psi.protocol: {error}") from error


def _models_can_be_trained(config: Config, data: OwnData | None) -> None:
    from parties.own_model import check_models  # torch: two seconds that the rest need not wait for
    from parties.phases import plan_of
    from parties.warm_start import WarmStart

    plan = plan_of(config.contract)
    check_models(config, plan, data)
    if data is not None:
        WarmStart.of(config, plan, data)


def _port_is_free(config: Config) -> bool:
    assert config.party.link.listen is not None
    look_at_port(config.party.link.listen)
    return True


def _hub_answers(config: Config) -> bool:
    hub, place = config.contract.label_holder, config.party.link
    assert place.hub is not None
    own = None if place.plaintext else own_identity(config)
    look_at_hub(place.hub, hub, config.contract.parties[hub].key, own, WITHIN)
    return True


def _data(config: Config, data: OwnData) -> dict[str, Any]:
    from parties.columns.facts import facts_of_columns  # numpy and pandas
    from parties.columns.spellings import spellings
    from parties.columns.suspects import suspects

    usable = max(len(ids.rows) for ids in data.ids.values())
    types = {kind.name: kind.columns for kind in config.contract.ids}
    several = config.contract.several and config.role == "label holder"
    columns, constant = facts_of_columns(data.table, next(iter(data.ids.values())).rows)
    return {
        "file": str(config.source),
        "pin": remembered_pin(config),
        "rows": data.table.rows,
        "ids": {
            kind: {
                "columns": [*config.id_columns[kind]],
                "types": [*types[kind]],
                "usable": len(ids.rows),
                "null": ids.null,
                "blank": ids.blank,
                "duplicate": 0 if several else ids.duplicate,
                "further": ids.duplicate if several else 0,
            }
            for kind, ids in data.ids.items()
        },
        "label": facts_of(data.labels, config) if data.labels else None,
        **({} if data.delay is None else {"delay": data.delay.facts()}),
        **({} if data.excluded is None else {"excluded": data.excluded.facts()}),
        "columns": [column._asdict() for column in columns],
        "warnings": [
            *data.table.warnings,
            *spellings(data.table),
            *constant,
            *suspects(data),
            *_too_few(config, usable),
        ],
    }


def _too_few(config: Config, usable: int) -> list[str]:
    minimum = config.contract.psi.minimum
    if usable < minimum:
        return [f"fewer usable ids than psi.minimum = {minimum}: no training"]
    return large_batch(config, usable)


def _too_many(config: Config, data: OwnData) -> list[DataError]:
    at_most = config.contract.psi.at_most
    return [
        DataError(
            f"{config.source}: {len(ids.rows):,} usable {kind} ids, and the contract allows "
            f"psi.at_most = {at_most:,}; agree on a larger one, or bring fewer"
        )
        for kind, ids in data.ids.items()
        if len(ids.rows) > at_most
    ]


def _psi(config: Config, protocols: dict[str, Psi], data: OwnData | None) -> dict[str, Any]:
    """The caps, and what each protocol says of itself.

    bytes: on all wires, had every party as many ids as this one, half of them common; bytes_hidden: the same
    with every set filled up to `at_most`.
    """
    agreed, parties = config.contract.psi, len(config.contract.parties)
    own = min(len(next(iter(data.ids.values())).rows) if data else 0, agreed.at_most)
    return {
        "protocol": agreed.protocol,
        "at_most": agreed.at_most,
        "largest_ratio": agreed.largest_ratio,
        "hide_sizes": agreed.hide_sizes,
        "protocols": {
            name: {
                "leakage": protocol.leakage,
                "cost": protocol.cost,
                "maturity": protocol.maturity,
                "secure": protocol.secure,
                "bytes": protocol.traffic([own] * parties, own // 2),
                "bytes_hidden": protocol.traffic([agreed.at_most] * parties, own // 2),
            }
            for name, protocol in protocols.items()
        },
    }
