"""`party check`: try all that this party can try alone, and say what a run would send from here."""

from collections.abc import Callable
from dataclasses import dataclass, field
from shutil import get_terminal_size
from textwrap import fill
from typing import Any, TypeVar

from parties.config import Config
from parties.errors import PartyError, exit_code
from parties.own import OwnData, own_data, own_identity, own_protocol
from parties.probe import look_at_hub, look_at_port
from psi import Psi
from psi.ids import IdError

T = TypeVar("T")

WITHIN = 5.0
"""Seconds to wait for the hub's answer."""

WIDTH = 110
"""Characters of a line of the text."""


@dataclass
class Findings:
    """What was found, in the order in which it is shown; a part is empty where it could not be tried."""

    party: str
    role: str
    contract: str
    data: dict[str, Any] = field(default_factory=dict)
    identity: dict[str, Any] = field(default_factory=dict)
    link: dict[str, Any] = field(default_factory=dict)
    psi: dict[str, Any] = field(default_factory=dict)
    leaves: list[str] = field(default_factory=list)
    faults: list[Exception] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        faults = [
            {"class": type(fault).__name__, "message": str(fault), "exit_code": exit_code(fault)}
            for fault in self.faults
        ]
        parts = {key: value for key, value in vars(self).items() if key != "faults"}
        return parts | {"faults": faults} | ({"error": faults[0]} if faults else {})


def check(config: Config) -> Findings:
    """Try certificate, hub, data and protocol, each whether or not another fails. No data leaves."""
    found = Findings(config.name, config.role, config.contract.digest.hex())

    def attempt(work: Callable[[Config], T]) -> T | None:
        try:
            return work(config)
        except (PartyError, IdError) as fault:
            found.faults.append(fault)
            return None

    identity = attempt(own_identity)
    if identity is not None:
        found.identity = {
            "certificate": str(identity.certificate_file),
            "key": identity.fingerprint,
            "expires": identity.not_after.date().isoformat(),
            "warnings": identity.warnings(),
        }
    data = attempt(own_data)
    if data is not None:
        found.data = _data(config, data)
    protocol = attempt(own_protocol)
    if protocol is not None:
        found.psi = {
            "protocol": config.contract.psi.protocol,
            "leakage": protocol.leakage,
            "cost": protocol.cost,
            "maturity": protocol.maturity,
        }
    # Last: a hub that is not there yet must not hide a fault of our own.
    if config.role == "label holder":
        found.link = {"listen": str(config.party.link.listen), "free": attempt(_port_is_free) is True}
    elif identity is not None:
        found.link = {"hub": str(config.party.link.hub), "reachable": attempt(_hub_answers) is True}
    found.leaves = _leaves(config, data, protocol)
    return found


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
    ids = data.ids
    return {
        "file": str(config.party.data.file),
        "rows": data.table.rows,
        "id": config.party.data.id,
        "ids": {
            "type": config.contract.ids.type,
            "usable": len(ids.rows),
            "null": ids.null,
            "blank": ids.blank,
            "duplicate": ids.duplicate,
        },
        "label": config.party.data.label,
        "numeric": [str(name) for name in data.table.numeric.columns],
        "categorical": [str(name) for name in data.table.categorical.columns],
        "warnings": [*data.table.warnings, *_too_few(config, len(ids.rows))],
    }


def _too_few(config: Config, usable: int) -> list[str]:
    minimum = config.contract.psi.minimum
    return [f"fewer usable ids than psi.minimum = {minimum}: no training"] if usable < minimum else []


def _leaves(config: Config, data: OwnData | None, protocol: Psi | None) -> list[str]:
    """In words, everything that a run sends from this machine."""
    contract, hub = config.contract, config.contract.label_holder
    ids = f"{len(data.ids.rows):,} ids" if data is not None else "ids"
    all_others = ", ".join(name for name in contract.names if name != config.name)
    sent = [f"to {all_others}: run.toml, your certificate, a signature and fresh keys (handshake)"]
    if protocol is not None:
        sent.append(
            f"to {all_others}: the messages of {contract.psi.protocol}, made from your {ids}, never an id "
            "or a digest of one (its leakage, said under psi, is what they tell)"
        )
    each = f"{contract.model.cut} float32 numbers a row and step"
    if config.role == "label holder":
        to = ", ".join(contract.feature_holders)
        sent.append(f"to {to}: {each}, the gradients at their cut layer; and when training stops")
        sent.append("never: a label, a column or its name, a row, a prediction, a model")
    else:
        sent.append(f"to {hub}: {each}, the activations of your bottom model for the users in common")
        sent.append("never: a column or its name, a row, a model")
    sent.append(
        "activations and gradients are computed from columns and labels, and can tell whoever receives them "
        "something about these: agree on this run with partners whom that may reach"
    )
    return sent


def text(found: Findings) -> str:
    """For people: one topic a line, long ones wrapped."""
    facts = [("party", f"{found.party} ({found.role})"), ("contract", found.contract)]
    if found.identity:
        facts += [("key", found.identity["key"]), ("certificate", f"until {found.identity['expires']}")]
    if "listen" in found.link:
        facts += [("listen", f"{found.link['listen']}: {'free' if found.link['free'] else 'NOT FREE'}")]
    if "hub" in found.link:
        facts += [("hub", f"{found.link['hub']}: {'answers' if found.link['reachable'] else 'NO ANSWER'}")]
    if found.data:
        facts += _facts_of_data(found.data)
    if found.psi:
        facts += [
            ("psi", f"{found.psi['protocol']}: {found.psi['maturity']}"),
            ("", f"leakage: {found.psi['leakage']}"),
            ("", f"cost: {found.psi['cost']}"),
        ]
    facts += [("warning", one) for one in found.identity.get("warnings", [])]
    facts += [("warning", one) for one in found.data.get("warnings", [])]
    lines = [_wrapped(f"{label:<13}", fact) for label, fact in facts]
    lines += ["", "What a run sends from this machine:", *(_wrapped("  - ", one) for one in found.leaves), ""]
    lines += [f"To mend: {len(found.faults)}" if found.faults else "All is well."]
    return "\n".join(lines)


def _facts_of_data(data: dict[str, Any]) -> list[tuple[str, str]]:
    ids, kinds = data["ids"], ("numeric", "categorical")
    return [
        ("data", f"{data['file']}: {data['rows']:,} rows"),
        (
            "id",
            f"{data['id']} ({ids['type']}): {ids['usable']:,} usable; dropped: {ids['null']:,} null, "
            f"{ids['blank']:,} blank, {ids['duplicate']:,} duplicate",
        ),
        *([("label", data["label"])] if data["label"] else []),
        *((kind, f"{len(data[kind])}: {', '.join(data[kind])}") for kind in kinds if data[kind]),
    ]


def _wrapped(label: str, fact: str) -> str:
    rest = " " * len(label)
    return fill(
        fact,
        min(WIDTH, get_terminal_size().columns),
        initial_indent=label,
        subsequent_indent=rest,
        break_long_words=False,
        break_on_hyphens=False,
    )
