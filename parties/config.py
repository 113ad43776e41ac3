"""party.toml: what one party keeps to itself; and `load`, which reads it and the run.toml that it names."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, PlainValidator, ValidationInfo, field_validator

from parties.address import Address
from parties.contract import Contract, PartyName
from parties.contract_training import CLASS
from parties.document import Section, check, dotted, read
from parties.errors import ConfigError
from parties.id_kinds import IdColumns, by_kind, faults_of_columns
from parties.label_keys import (
    OF_LABEL_HOLDER,
    ClassWeights,
    LabelColumns,
    faults_of_calibration,
    faults_of_examples,
    faults_of_task,
)

Role = Literal["label holder", "feature holder"]
Scalar = str | int | float | bool


def _resolved(path: Path, info: ValidationInfo) -> Path:
    if "\0" in str(path):
        raise ValueError("must not contain a NUL character")
    folder: Path = info.context["folder"] if info.context else Path()
    return _under(folder, path).absolute()


def _under(folder: Path, path: Path) -> Path:
    try:
        return folder / path.expanduser()
    except RuntimeError:
        raise ValueError("the home folder of that user is not known; write the path out") from None


def _existing(path: Path) -> Path:
    try:
        there = path.is_file()
    except OSError as error:
        raise ValueError(f"cannot be looked at: {error.strerror}") from None
    if not there:
        raise ValueError(f"no such file: {path}")
    return path


def _address(value: object) -> Address:
    try:
        address = Address.parse(value if isinstance(value, str) else "")
    except (ConfigError, ValueError):
        raise ValueError("must be host:port, such as platform.example.com:50051 or [::1]:50051") from None
    if address.port == 0:
        raise ValueError("the port must be 1 to 65535")
    return address


def _scalar(value: object) -> Scalar:
    if not isinstance(value, str | int | float | bool):
        raise ValueError("must be a string, a number or true / false")
    return value


def _separators(value: object) -> dict[str, str]:
    if isinstance(value, list) and value and all(isinstance(column, str) and column for column in value):
        if len({*value}) < len(value):
            raise ValueError("names a column twice")
        return dict.fromkeys(value, "")
    if isinstance(value, dict) and value and all(isinstance(one, str) and one for one in value.values()):
        return value
    raise ValueError('must be a list of columns, or a table of separators: { history = " " }')


def _bottom(name: str) -> str:
    if name != "mlp" and not CLASS.fullmatch(name):
        raise ValueError("must be 'mlp', or a class such as my_lab.models:MyBottom")
    return name


def _apart(groups: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    named = [column for columns in groups.values() for column in columns]
    for place, column in enumerate(named):
        if column in named[:place]:
            raise ValueError(f"column {column!r} stands here twice")
    return groups


AnyPath = Annotated[Path, Field(strict=False), AfterValidator(_resolved)]
File = Annotated[AnyPath, AfterValidator(_existing)]
HostPort = Annotated[Address, PlainValidator(_address)]
Column = Annotated[str, Field(strict=True, min_length=1)]
Columns = Annotated[tuple[Column, ...], Field(strict=False)]
Separators = Annotated[dict[str, str], PlainValidator(_separators)]
GroupColumns = Annotated[tuple[Column, ...], Field(strict=False, min_length=1)]
Positive = Annotated[tuple[Annotated[Scalar, PlainValidator(_scalar)], ...], Field(strict=False)]


class Data(Section):
    """The party's own table and which of its columns take part."""

    file: File
    id: IdColumns
    label: LabelColumns = ()
    positive: Positive = ()
    """The values of the label that count as a yes; not needed where it is true / false or 1 / 0."""
    weight: Column | None = None
    """How much each row counts in training."""
    class_weights: ClassWeights | None = None
    rank_within: Column | None = None
    """In which list each row is ranked; by default its user's."""
    ndcg_at: int = Field(default=10, ge=1, le=1_000_000)
    """So much of each list does NDCG look at."""
    numeric: Columns = ()
    categorical: Columns = ()
    bags: Separators = Field(default={})
    """Columns of lists, each with the separator of its entries; "" where the cells are lists themselves."""
    exclude: Columns = ()
    nulls: Literal["drop", "refuse"] = "drop"
    """What to do with rows whose id is null or blank."""
    duplicates: Literal["drop", "refuse"] = "drop"
    """What to do with rows whose id has been seen before."""

    @field_validator("label", "weight", "rank_within", "numeric", "categorical", "bags", "exclude")
    @classmethod
    def _used_once(cls, value: Any, info: ValidationInfo) -> Any:
        columns = [] if value is None else [value] if isinstance(value, str) else list(value)
        for position, column in enumerate(columns):
            if column in columns[:position]:
                raise ValueError(f"column {column!r} stands here twice")
            for key in ("id", "label", "weight", "rank_within", "numeric", "categorical", "bags"):
                if key != info.field_name and column in _named(info.data.get(key)):
                    raise ValueError(f"column {column!r} is already named by data.{key}")
        return value


def _named(value: Any) -> tuple[str, ...]:
    """The columns that a key names."""
    if isinstance(value, dict):  # of ids by kind, or of separators by column
        named = ([name] if isinstance(held, str) else held for name, held in value.items())
        return tuple(column for columns in named for column in columns)
    return value if isinstance(value, tuple) else (value,)


class Tls(Section):
    """PEM files: the CA that all parties trust, and this party's own certificate and private key."""

    ca: File
    certificate: File
    key: File


class Link(Section):
    """Where the parties meet."""

    listen: HostPort | None = None
    hub: HostPort | None = None
    wait: float = Field(default=300.0, gt=0, le=86_400)
    """Seconds to wait for the other parties to come."""
    plaintext: bool = False
    """No TLS, on loopback only, for experiments."""


class OwnModel(Section):
    """What this party chooses for its own half of the network."""

    bottom: Annotated[str, AfterValidator(_bottom)] = "mlp"


class OwnTraining(Section):
    """How its own weights are trained; by default as the contract says."""

    optimizer: Literal["adam", "sgd"] | None = None
    learning_rate: float | None = Field(default=None, gt=0, le=100)
    device: Literal["cpu", "cuda"] = "cpu"
    precision: Literal["float32", "bf16"] = "float32"


class OwnEvaluation(Section):
    """How the label holder judges the model; nobody else needs to know."""

    calibration: Literal["none", "temperature", "isotonic"] = "none"
    """How scores are made probabilities on the validation rows."""


class PartyConfig(Section):
    """party.toml, validated; every path is absolute."""

    party: PartyName
    contract: AnyPath
    storage: AnyPath
    data: Data
    tls: Tls
    link: Link
    model: OwnModel = OwnModel()
    training: OwnTraining = OwnTraining()
    evaluation: OwnEvaluation = OwnEvaluation()
    groups: Annotated[dict[Column, GroupColumns], AfterValidator(_apart)] = Field(default={})
    """Columns whose importance is measured together, by the group's name."""


@dataclass(frozen=True)
class Config:
    """All that one party's process is told."""

    path: Path
    party: PartyConfig
    contract: Contract

    @property
    def name(self) -> str:
        return self.party.party

    @property
    def role(self) -> Role:
        return "label holder" if self.name == self.contract.label_holder else "feature holder"

    @property
    def feature_holders(self) -> list[str]:
        return self.contract.feature_holders

    @property
    def id_columns(self) -> dict[str, tuple[str, ...]]:
        """The columns of each kind of id that this party has, in the contract's order of preference."""
        return by_kind(self.party.data.id, self.contract.ids)


def load(path: Path | str, for_training: bool = True) -> Config:
    """Read party.toml at `path` and the run.toml that it names.

    for_training: otherwise the label holder needs no label.
    Raises ConfigError with every fault of both files, one a line.
    """
    path = Path(path)
    faults: list[str] = []
    private = read(path, faults)
    if faults:
        raise ConfigError(faults[0])
    private = {"contract": "run.toml", "storage": "runs", **private}
    party = check(PartyConfig, private, path, faults, folder=path.parent.absolute())

    contract, shared = None, {}
    place = _contract_file(path.parent, private["contract"])
    if place is not None:
        unread = len(faults)
        shared = read(place, faults)
        if len(faults) == unread:
            contract = check(Contract, shared, place, faults)
    faults += [f"{path}: {fault}" for fault in _faults_of_role(private, shared, for_training)]
    if faults or party is None or contract is None:
        raise ConfigError("\n".join(faults))
    return Config(path.absolute(), party, contract)


def _contract_file(folder: Path, value: object) -> Path | None:
    """None where the value is no path, which is a fault of party.toml."""
    if not isinstance(value, str) or "\0" in value:
        return None
    try:
        return _under(folder, Path(value))
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
            yield from faults_of_examples(data, _table(shared, "examples").get("per_entity"))
            yield from faults_of_calibration(evaluation.get("calibration"), task)
        else:
            yield from _faults_of_feature_holder(data, evaluation, link, label_holder)
    yield from faults_of_columns(data.get("id"), shared.get("ids"))
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
    keys += [f"evaluation.{key}" for key in ("calibration",) if key in evaluation]
    for key in keys:
        yield f"{key}: not for a feature holder; the label is held by {label_holder}; remove it"
    if "hub" not in link:
        yield f'link.hub: missing; give the address of {label_holder}, such as "{label_holder}:50051"'
    if "listen" in link:
        yield "link.listen: not for a feature holder, which only dials out; remove it"


def _table(tables: dict[str, Any], key: str) -> dict[str, Any]:
    value = tables.get(key)
    return value if isinstance(value, dict) else {}


def _on_loopback(text: str) -> bool:
    try:
        return _address(text).is_loopback
    except ValueError:
        return True  # not an address at all: already a fault of its own
