"""Both configuration files, read and held against each other: party.toml, and the run.toml that it names."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from parties.contract import Contract
from parties.contract_secure_sum import SECURE_SUM
from parties.document import check, dotted, read
from parties.errors import ConfigError
from parties.id_kinds import by_kind, faults_of_columns
from parties.label_keys import (
    OF_LABEL_HOLDER,
    faults_of_calibration,
    faults_of_delay,
    faults_of_examples,
    faults_of_privacy,
    faults_of_task,
)
from parties.limits import Limits, faults_of_times
from parties.party_toml import PartyConfig, address_of, under
from parties.sources.database import Database, faults_of_place

if TYPE_CHECKING:
    from parties.sources.source import Source

Role = Literal["label holder", "feature holder"]


@dataclass(frozen=True)
class Config:
    """All that one party's process is told. held: the party's rows, in place of those that `data` names."""

    path: Path
    party: PartyConfig
    contract: Contract
    held: "Source | None" = None

    @property
    def name(self) -> str:
        return self.party.party

    @property
    def role(self) -> Role:
        return "label holder" if self.name == self.contract.label_holder else "feature holder"

    @property
    def feature_holders(self) -> list[str]:
        return self.contract.feature_holders

    @cached_property
    def source(self) -> "Source":
        """The party's rows. What has to be fetched is fetched once in the life of this object."""
        from parties.sources.files import source_of
        from parties.sources.sql import SqlQuery

        data = self.party.data
        if self.held is not None:
            return self.held
        if data.file is not None:
            return source_of(data.file, data.encoding, data.separator)
        assert data.query is not None
        return SqlQuery(data.query, Database(**dict(data.database)), self.party.storage)

    def newer(self, file: Path) -> "Source":
        """Rows of the same making in another file."""
        from parties.sources.files import source_of

        return source_of(file.absolute(), self.party.data.encoding, self.party.data.separator)

    @property
    def id_columns(self) -> dict[str, tuple[str, ...]]:
        """The columns of each kind of id that this party has, in the contract's order of preference."""
        return by_kind(self.party.data.id, self.contract.ids)


def load(path: Path | str, for_training: bool = True, held: "Source | None" = None) -> Config:
    """Read party.toml at `path` and the run.toml that it names.

    for_training: otherwise the label holder needs no label. held: the party's rows; otherwise `data` names
    them.
    Raises ConfigError with every fault of both files, one a line.
    """
    path = Path(path)
    faults: list[str] = []
    private = read(path, faults)
    if faults:
        raise ConfigError(faults[0])
    place = _contract_file(path.parent, private.get("contract", "run.toml"))
    shared = {} if place is None else read(place, faults)
    return combined(path, private, place, shared, held, for_training, faults)


def combined(
    path: Path,
    private: dict[str, Any],
    place: Path | None,
    shared: dict[str, Any],
    held: "Source | None" = None,
    for_training: bool = True,
    unread: Sequence[str] = (),
) -> Config:
    """The same of tables: `private` is what stands in party.toml at `path`, `shared` in run.toml at `place`.

    place: None where `private` has no path. unread: why `shared` is not there.
    """
    faults: list[str] = []
    party = check(PartyConfig, private, path, faults, folder=path.parent.absolute())
    faults += unread
    contract = None if place is None or unread else check(Contract, shared, place, faults)
    faults += [f"{path}: {fault}" for fault in _faults_of_role(private, shared, for_training)]
    if held is None and isinstance(private.get("data"), dict):
        faults += [f"{path}: {fault}" for fault in faults_of_place(private["data"])]
    if faults or party is None or contract is None:
        raise ConfigError("\n".join(faults))
    return Config(path.absolute(), party, contract, held)


def _contract_file(folder: Path, value: object) -> Path | None:
    """None where the value is no path, which is a fault of party.toml."""
    if not isinstance(value, str) or "\0" in value:
        return None
    try:
        return under(folder, Path(value))
    except ValueError:
        return None


def _faults_of_role(private: dict[str, Any], shared: dict[str, Any], for_training: bool) -> Iterator[str]:
    """What the two files only say together. On the raw tables, so that it is told along with all else."""
    data, link, parties = (_table(private, "data"), _table(private, "link"), _table(shared, "parties"))
    name, label_holder = str(private.get("party")), str(shared.get("label_holder"))
    if parties and "party" in private and name not in parties:
        names = ", ".join(dotted([one]) for one in sorted(parties))
        yield f"party: {name!r} is not in the contract, which names {names}"
    if name in parties and label_holder in parties:
        evaluation = _table(private, "evaluation")
        if name == label_holder:
            task = _table(shared, "model").get("task", "binary")
            yield from _faults_of_label_holder(data, link, for_training)
            yield from faults_of_task(data, task)
            yield from faults_of_delay(data)
            yield from faults_of_examples(data, _table(shared, "examples").get("per_entity"))
            yield from faults_of_privacy(data, _table(shared, "privacy").get("label_epsilon"))
            yield from faults_of_calibration(evaluation.get("calibration"), task)
            if evaluation.get("keep_activations") and _table(shared, "model").get("fusion") == SECURE_SUM:
                yield "evaluation.keep_activations: with model.fusion = 'secure-sum' none arrives; remove it"
        else:
            yield from _faults_of_feature_holder(data, evaluation, link, label_holder)
        yield from _faults_of_serve(_table(private, "serve"), name == label_holder)
    yield from faults_of_columns(data.get("id"), shared.get("ids"))
    silence, away, progress = (link.get(key, getattr(Limits, key)) for key in ("silence", "away", "progress"))
    if all(type(time) in (int, float) and time > 0 for time in (silence, away, progress)):
        yield from (f"link.{key}: {fault}" for key, fault in faults_of_times(silence, away, progress))
    if link.get("plaintext") is True:
        for key in ("listen", "hub"):
            if isinstance(link.get(key), str) and not _on_loopback(link[key]):
                yield f"link.{key}: plaintext is for loopback only; use 127.0.0.1, or remove link.plaintext"


def _faults_of_label_holder(data: dict[str, Any], link: dict[str, Any], for_training: bool) -> Iterator[str]:
    if for_training and "label" not in data:
        yield "data.label: missing; this party is the label holder, so name the label's column"
    if "listen" not in link:
        yield 'link.listen: missing; the label holder is the hub: give its address, such as "0.0.0.0:50051"'
    if "hub" in link:
        yield "link.hub: not for the label holder, which is the hub itself; remove it"


def _faults_of_feature_holder(
    data: dict[str, Any], evaluation: dict[str, Any], link: dict[str, Any], label_holder: str
) -> Iterator[str]:
    keys = [f"data.{key}" for key in OF_LABEL_HOLDER if key in data]
    keys += [f"evaluation.{key}" for key in ("calibration", "keep_activations") if key in evaluation]
    for key in keys:
        yield f"{key}: not for a feature holder; the label is held by {label_holder}; remove it"
    if "hub" not in link:
        yield f'link.hub: missing; give the address of {label_holder}, such as "{label_holder}:50051"'
    if "listen" in link:
        yield "link.listen: not for a feature holder, which only dials out; remove it"


def _faults_of_serve(serve: dict[str, Any], holds_label: bool) -> Iterator[str]:
    ours = ["listen", "applications", "clients", "client_ca", "deadline_ms", "hold_us", "cache_seconds"]
    ours += ["cache_rows", "most_ids"]
    if holds_label and "hub" in serve:
        yield "serve.hub: not for the label holder, which is the hub itself; remove it"
    for key in [] if holds_label else ours:
        if key in serve:
            yield f"serve.{key}: not for a feature holder, which only answers the label holder; remove it"


def _table(tables: dict[str, Any], key: str) -> dict[str, Any]:
    value = tables.get(key)
    return value if isinstance(value, dict) else {}


def _on_loopback(text: str) -> bool:
    try:
        return address_of(text).is_loopback
    except ValueError:
        return True  # not an address at all: already a fault of its own
