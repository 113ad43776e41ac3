"""party.toml: what one party keeps to itself, table by table."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, PlainValidator, ValidationInfo, field_validator

from parties.address import Address
from parties.certificate import deniable
from parties.contract import PartyName, Pin
from parties.contract_training import CLASS
from parties.document import Section
from parties.errors import ConfigError
from parties.id_kinds import IdColumns
from parties.label_keys import ClassWeights, Duration, LabelColumns, Moment
from parties.limits import Limits

Scalar = str | int | float | bool


def _resolved(path: Path, info: ValidationInfo) -> Path:
    if "\0" in str(path):
        raise ValueError("must not contain a NUL character")
    folder: Path = info.context["folder"] if info.context else Path()
    return under(folder, path).absolute()


def under(folder: Path, path: Path) -> Path:
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


def address_of(value: object) -> Address:
    try:
        address = Address.parse(value if isinstance(value, str) else "")
    except (ConfigError, ValueError):
        raise ValueError("must be host:port, such as platform.example.com:50051 or [::1]:50051") from None
    if address.port == 0:
        raise ValueError("the port must be 1 to 65535")
    return address


def _loopback(address: Address) -> Address:
    if not address.is_loopback:
        raise ValueError("must be an address of this machine alone, such as 127.0.0.1:9464")
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
HostPort = Annotated[Address, PlainValidator(address_of)]
Column = Annotated[str, Field(strict=True, min_length=1)]
Columns = Annotated[tuple[Column, ...], Field(strict=False)]
Separators = Annotated[dict[str, str], PlainValidator(_separators)]
GroupColumns = Annotated[tuple[Column, ...], Field(strict=False, min_length=1)]
Positive = Annotated[tuple[Annotated[Scalar, PlainValidator(_scalar)], ...], Field(strict=False)]


USED_ONCE = ("label", "weight", "rank_within", "event_time", "label_time", "numeric", "categorical", "bags")
"""Keys that name columns, each of which has one part."""


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
    event_time: Column | None = None
    """When what the label is about happened; with the keys below, as `parties.delay` takes them."""
    label_time: Column | None = None
    """When the yes came."""
    window: Duration | None = None
    """After the event, in which a yes counts."""
    maturity: Duration | None = None
    """The age from which a label is final; by default the window."""
    as_of: Moment | None = None
    """From when age is reckoned; by default the newest time in these columns."""
    numeric: Columns = ()
    categorical: Columns = ()
    bags: Separators = Field(default={})
    """Columns of lists, each with the separator of its entries; "" where the cells are lists themselves."""
    exclude: Columns = ()
    nulls: Literal["drop", "refuse"] = "drop"
    """What to do with rows whose id is null or blank."""
    duplicates: Literal["drop", "refuse"] = "drop"
    """What to do with rows whose id has been seen before."""

    @field_validator(*USED_ONCE, "exclude")
    @classmethod
    def _used_once(cls, value: Any, info: ValidationInfo) -> Any:
        columns = [] if value is None else [value] if isinstance(value, str) else list(value)
        for position, column in enumerate(columns):
            if column in columns[:position]:
                raise ValueError(f"column {column!r} stands here twice")
            for key in ("id", *USED_ONCE):
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
    denied: Annotated[tuple[Annotated[str, AfterValidator(deniable)], ...], Field(strict=False)] = ()
    """Peers' keys and certificates that are not to be trusted any more."""


class Link(Section):
    """Where the parties meet."""

    listen: HostPort | None = None
    hub: HostPort | None = None
    wait: float = Field(default=300.0, gt=0, le=86_400)
    """Seconds to wait for the other parties to come."""
    away: float = Field(default=Limits.away, gt=0, le=86_400)
    silence: float = Field(default=Limits.silence, gt=0, le=86_400)
    progress: float = Field(default=Limits.progress, gt=0, le=604_800)
    plaintext: bool = False
    """No TLS, on loopback only, for experiments."""

    @property
    def limits(self) -> Limits:
        return Limits(silence=self.silence, away=self.away, progress=self.progress)


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
    keep_activations: bool = False
    """Whether what arrives of the test users is kept, for `party audit inversion`."""


class Metrics(Section):
    """Numbers for Prometheus."""

    listen: Annotated[HostPort, AfterValidator(_loopback)] | None = None


class Serve(Section):
    """`party serve`: what docs/serve.md tells of."""

    listen: HostPort | None = None
    """Where the label holder waits for feature holders, to ask them."""
    hub: HostPort | None = None
    """Where a feature holder finds it."""
    applications: HostPort | None = None
    """Where the label holder answers its own applications."""
    clients: Annotated[tuple[Pin, ...], Field(strict=False)] = ()
    """Keys of these applications' certificates."""
    client_ca: File | None = None
    """Who signs them; by default tls.ca."""
    deadline_ms: float = Field(default=40.0, gt=0, le=60_000)
    """How long a request waits for feature holders."""
    hold_us: float = Field(default=300.0, ge=0, le=100_000)
    """How long a question may wait for others to go with it."""
    cache_seconds: float = Field(default=60.0, ge=0, le=86_400)
    cache_rows: int = Field(default=200_000, ge=0, le=1 << 27)
    """Of each feature holder's embeddings."""
    most_ids: int = Field(default=1024, ge=1, le=4096)
    """In a request."""
    ids_per_second: float = Field(default=50_000.0, gt=0, le=1e9)
    """Asked of each feature holder, at most; or answered by this one."""


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
    metrics: Metrics = Metrics()
    serve: Serve = Serve()
    groups: Annotated[dict[Column, GroupColumns], AfterValidator(_apart)] = Field(default={})
    """Columns whose importance is measured together, by the group's name."""
