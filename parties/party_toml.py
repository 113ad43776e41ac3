"""party.toml: what one party keeps to itself, table by table."""

import codecs
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, Field, PlainValidator, ValidationInfo, field_validator

from parties.address import Address
from parties.certificate import deniable
from parties.columns import Kind, Scale
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


def _quoted(words: Any) -> str:
    """The words of a Literal."""
    return ", ".join(f"`{word}`" for word in get_args(words))


def _apart(groups: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    named = [column for columns in groups.values() for column in columns]
    for place, column in enumerate(named):
        if column in named[:place]:
            raise ValueError(f"column {column!r} stands here twice")
    return groups


def _table(path: Path) -> Path:
    try:
        return path if path.is_dir() else _existing(path)
    except OSError as error:
        raise ValueError(f"cannot be looked at: {error.strerror}") from None


def _encoding(name: str) -> str:
    try:
        "".encode(name)
    except (LookupError, ValueError):
        raise ValueError('is no encoding that is known; write "utf-8" or "cp1252", say') from None
    return codecs.lookup(name).name


def _separator(text: str) -> str:
    if len(text) != 1 or text in '"\r\n\0':
        raise ValueError('must be one character, such as ";" or "\\t"')
    return text


AnyPath = Annotated[Path, Field(strict=False, description="a path"), AfterValidator(_resolved)]
File = Annotated[AnyPath, AfterValidator(_existing), Field(description="a file that is there")]
Table = Annotated[AnyPath, AfterValidator(_table), Field(description="a file, or a folder of Parquet files")]
HostPort = Annotated[Address, PlainValidator(address_of), Field(description="`host:port`")]
Column = Annotated[str, Field(strict=True, min_length=1, description="a column")]
Columns = Annotated[tuple[Column, ...], Field(strict=False, description="a list of columns")]
Separators = Annotated[
    dict[str, str],
    PlainValidator(_separators),
    Field(description="a table of separators, or a list of columns"),
]
GroupColumns = Annotated[
    tuple[Column, ...], Field(strict=False, min_length=1, description="a list of columns")
]
Positive = Annotated[
    tuple[Annotated[Scalar, PlainValidator(_scalar)], ...],
    Field(strict=False, description="a list of strings, numbers, `true`, `false`"),
]
Kinds = Annotated[
    dict[Column, Kind], Field(description=f"a table of columns, each with one of {_quoted(Kind)}")
]
Scales = Annotated[
    dict[Column, Scale], Field(description=f"a table of columns, each with one of {_quoted(Scale)}")
]


USED_ONCE = (
    *("label", "weight", "rank_within", "event_time", "label_time"),
    *("numeric", "categorical", "bags", "types"),
)
"""Keys that name columns, each of which has one part."""


class DatabaseSection(Section):
    """Where `data.query` is sent: one of the three. A URL, such as `postgresql://user:password@host:5432/name`,
    stands in the environment or in a file of its own, as it may hold a password."""

    env: Annotated[str, Field(min_length=1, description="a name")] | None = None
    """The environment variable that holds the URL."""
    file: File | None = None
    """The file that holds the URL."""
    sqlite: File | None = None
    """A SQLite file; it is only read."""


class Data(Section):
    """The party's own table and which of its columns take part."""

    file: Table | None = None
    """CSV (also `.gz`) or Parquet: docs/data.md. Required, or `query`."""
    query: Annotated[str, Field(min_length=1, description="a SELECT")] | None = None
    """In place of a file: the rows that a database gives, best in an order that is always the same
    (`ORDER BY`): docs/data.md#from-a-database."""
    database: DatabaseSection = DatabaseSection()
    encoding: Annotated[str, AfterValidator(_encoding), Field(description="as Python names it")] = "utf-8"
    """Of a CSV's text: `"cp1252"`, `"utf-16"`."""
    separator: Annotated[str, AfterValidator(_separator), Field(description="one character")] = ","
    """Between the cells of a CSV: `";"`, `"\\t"`."""
    id: IdColumns
    """Where the ids are. A table of a column (composite: a list of columns) for each kind of id that this
    party has, where the contract has several kinds or a composite one:
    `id = { email = "e-mail", person = ["surname", "zip", "born"] }`."""
    label: LabelColumns = ()
    """What to predict: docs/data.md#labels; of a multi-label task a list of two or more. Label holder:
    required; others: refused."""
    positive: Positive = ()
    """The label's values that count as a yes (in each of its columns); not needed where it is true / false or
    1 / 0. Binary and multi-label tasks only."""
    weight: Column | None = None
    """How much each row counts in training: numbers of at least 0, in any unit. Label holder only."""
    class_weights: ClassWeights | None = None
    """How much each class counts in training: `{ no = 1, yes = 20 }`, `{ shoes = 2, hats = 1 }`; of a
    multi-label task the yes of each target: `{ conversion = 20 }`. A class that is not named counts 1.
    `balanced`: as much of each class as of any other, counted in the training rows. Label holder only, not
    for regression."""
    rank_within: Column | None = None
    """In which list (a session, a page) each row is ranked, for `gauc` and `ndcg@k`
    (docs/splitnn.md#ranking). With `examples.per_entity = "several"` a user is a list where this is not said.
    Label holder only, binary and multi-label tasks only."""
    ndcg_at: int = Field(default=10, ge=1, le=1_000_000)
    """The k of `ndcg@k`; for whom `rank_within` is."""
    event_time: Column | None = None
    """When what the row is about happened, of labels that arrive late
    (docs/data.md#labels-that-arrive-late). Label holder only, with `window`."""
    label_time: Column | None = None
    """When the yes came, empty where the label is a no: one after the window counts as a no. Binary tasks
    only."""
    window: Duration | None = None
    """The attribution window: how long after the event a yes counts. Required beside `event_time`."""
    maturity: Duration | None = None
    """Where it is not the window, and not shorter: the age from which a row's label is final; younger rows
    take no part."""
    as_of: Moment | None = None
    """From when age is reckoned, where that is not the newest time in these columns."""
    numeric: Columns = ()
    """Numbers that take part. With neither this nor `categorical`, all columns do, and their kind is seen
    from their cells, or said in `types`. Each column at one place only."""
    categorical: Columns = ()
    """Categories that take part."""
    bags: Separators = Field(default={})
    """Columns with a list in each cell, such as a browsing history. `{ history = " " }`: text, its entries
    separated by a blank; `["history"]`: lists of Parquet, which need no naming where the other columns have
    none. See docs/data.md#from-columns-to-features"""
    types: Kinds = Field(default={})
    """What single columns are, where their cells do not say it: `shop = "category"`, `since = "date"`. The
    others need not be named for that. `text` and `key` take no part. What each becomes:
    docs/data.md#from-columns-to-features"""
    exclude: Columns = ()
    """Columns that take no part."""
    scale: Scales = Field(default={})
    """How numbers are scaled, where it is not for their skewness to decide: `income = "log"`. See
    docs/data.md#from-columns-to-features"""
    exclude_ids: File | None = None
    """Who withdrew consent: CSV or Parquet with the columns of ids, as in the table. They take part in
    nothing: docs/data.md#people-who-withdraw-their-consent."""
    nulls: Literal["drop", "refuse"] = "drop"
    """What to do with rows whose id is null or blank."""
    duplicates: Literal["drop", "refuse"] = "drop"
    """What to do with rows whose id was seen in an earlier row; at the label holder with
    `examples.per_entity = "several"` they are examples, and `refuse` is refused."""

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

    @field_validator("scale")
    @classmethod
    def _of_numbers(cls, scale: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
        types = info.data.get("types", {})
        for column in scale:
            for key in ("id", *USED_ONCE, "exclude"):
                if key == "numeric" or (key == "types" and types.get(column) == "number"):
                    continue
                if column in _named(info.data.get(key)):
                    raise ValueError(f"column {column!r} is no number: data.{key} names it")
        return scale


def _named(value: Any) -> tuple[str, ...]:
    """The columns that a key names."""
    if isinstance(value, dict):  # of ids by kind, or of separators by column
        named = ([name] if isinstance(held, str) else held for name, held in value.items())
        return tuple(column for columns in named for column in columns)
    return value if isinstance(value, tuple) else (value,)


class Tls(Section):
    """PEM files: the CA that all parties trust, and this party's own certificate and private key."""

    ca: File
    """The CA that all parties trust."""
    certificate: File
    """Own certificate; the party's name is a DNS name in it."""
    key: File
    """Own private key, ECDSA P-256, without passphrase."""
    denied: Annotated[
        tuple[Annotated[str, AfterValidator(deniable)], ...],
        Field(
            strict=False,
            description="a list of `sha256:` and 64 hex digits of a key, or `serial:` and one in hex",
        ),
    ] = ()
    """Keys and certificates of peers that are not to be trusted any more: docs/operations.md#certificates"""


class Link(Section):
    """Where the parties meet."""

    listen: HostPort | None = None
    """Where the hub listens. Label holder: required; others: refused."""
    hub: HostPort | None = None
    """Where the hub is; IPv6 as `[::1]:50051`. Feature holders: required; others: refused."""
    wait: float = Field(default=300.0, gt=0, le=86_400)
    """Seconds to wait for the other parties to come."""
    away: float = Field(default=Limits.away, gt=0, le=86_400)
    """Seconds in which a party that was cut off, or whose process ended, may come back. The run waits; then
    it ends by name of the party."""
    silence: float = Field(default=Limits.silence, gt=0, le=86_400)
    """Seconds, at least 3, without any sign of life after which a line counts as cut, and is dialled again. A
    sign comes every second; a line slower than 0.5 MBit/s needs more."""
    progress: float = Field(default=Limits.progress, gt=0, le=604_800)
    """Seconds that a party which is alive may take for its next message; at least `silence` and `away`
    together."""
    plaintext: bool = False
    """No TLS, for experiments on one machine: loopback addresses only."""

    @property
    def limits(self) -> Limits:
        return Limits(silence=self.silence, away=self.away, progress=self.progress)


class OwnModel(Section):
    """What this party chooses for its own half of the network."""

    bottom: Annotated[str, AfterValidator(_bottom), Field(description="`mlp`, or `module:Class`")] = "mlp"
    """Own bottom model: docs/splitnn.md#choices. Nobody else needs to know."""


class OwnTraining(Section):
    """How its own weights are trained; by default as the contract says."""

    optimizer: Literal["adam", "sgd"] | None = None
    """By default the contract's."""
    learning_rate: float | None = Field(default=None, gt=0, le=100)
    """By default the contract's."""
    device: Literal["cpu", "cuda"] = "cpu"
    """Where own models compute."""
    precision: Literal["float32", "bf16"] = "float32"
    """`bf16`: own matrices are multiplied in bfloat16; what crosses stays float32."""


class OwnEvaluation(Section):
    """How the label holder judges the model; nobody else needs to know."""

    calibration: Literal["none", "temperature", "isotonic"] = "none"
    """How scores are made probabilities on the validation rows: docs/splitnn.md#calibration. Label holder
    only; `temperature` not for regression, `isotonic` for binary and multi-label tasks."""
    keep_activations: bool = False
    """Keep what arrives of the test users in the run's folder, for `party audit inversion`
    (docs/audit.md#what-columns-activations-tell). Label holder only."""


class Metrics(Section):
    """Numbers for Prometheus."""

    listen: (
        Annotated[HostPort, AfterValidator(_loopback), Field(description="`host:port`, loopback only")] | None
    ) = None
    """Where this process answers Prometheus: docs/operations.md#metrics"""


class Serve(Section):
    """Scores online, with `party serve`: docs/serve.md"""

    listen: HostPort | None = None
    """Where feature holders come to answer. Label holder, to serve: required; others: refused."""
    hub: HostPort | None = None
    """Where the label holder's `serve.listen` is. Feature holders, to serve: required; others: refused."""
    applications: HostPort | None = None
    """Where own applications ask for scores. Label holder, to serve: required; others: refused."""
    clients: Annotated[tuple[Pin, ...], Field(strict=False)] = ()
    """Keys of these applications' certificates. Label holder, to serve: required; others: refused."""
    client_ca: File | None = None
    """Who signs them; by default `tls.ca`. Label holder only."""
    deadline_ms: float = Field(default=40.0, gt=0, le=60_000)
    """How long a request waits for feature holders. Label holder only."""
    hold_us: float = Field(default=300.0, ge=0, le=100_000)
    """How long a question waits for others to go with it, where one is under way. Label holder only."""
    cache_seconds: float = Field(default=60.0, ge=0, le=86_400)
    """How long feature holders' embeddings are kept; 0: not at all. Label holder only."""
    cache_rows: int = Field(default=200_000, ge=0, le=1 << 27)
    """Of how many users of each feature holder. Label holder only."""
    most_ids: int = Field(default=1024, ge=1, le=4096)
    """Ids of a request. Label holder only."""
    ids_per_second: float = Field(default=50_000.0, gt=0, le=1e9)
    """Asked of each feature holder at most; or answered by this one."""


class PartyConfig(Section):
    """party.toml, validated; every path is absolute."""

    party: PartyName
    """Who this is, as the contract names it."""
    contract: AnyPath = Field(default=Path("run.toml"), validate_default=True)
    """The contract's file."""
    storage: AnyPath = Field(default=Path("runs"), validate_default=True)
    """Folder for the results, one folder a run, and for large tables (docs/data.md#large-tables)."""
    data: Data
    tls: Tls
    link: Link
    model: OwnModel = OwnModel()
    training: OwnTraining = OwnTraining()
    evaluation: OwnEvaluation = OwnEvaluation()
    metrics: Metrics = Metrics()
    serve: Serve = Serve()
    groups: Annotated[dict[Column, GroupColumns], AfterValidator(_apart)] = Field(
        default={}, description="a table of lists of columns"
    )
    """Columns whose importance is measured together, by a name that stays here:
    `address = ["city", "zip"]`. Each column in one group at most; a column in no group is one by itself; at
    most 1,024 of both with `evaluation.importance = "columns"`."""
