"""run.toml: what all parties agree on. Its digest covers the validated content, not the file's bytes."""

import hashlib
import json
import re
from functools import cached_property
from itertools import pairwise
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, ValidationInfo, field_validator

from parties.certs import PARTY_NAME
from parties.document import Section, dotted
from parties.id_kinds import IdKinds
from protos.rounds import RemoteProtocolError

CANONICAL_AT_MOST = 64 << 10
"""Bytes of a canonical contract. Sixteen parties with the longest names need about 3 KiB."""


STEP_AT_MOST = 1 << 26
"""Numbers that cross the cut in one message: 256 MiB, well below what the link lets wait unread."""

PROTOCOL = re.compile(r"[a-z0-9][a-z0-9-]{0,63}|[A-Za-z_][\w.]{0,127}:[A-Za-z_]\w{0,127}", re.ASCII)
"""The name of a PSI protocol: registered, or `module:Class`."""

CLASS = re.compile(r"[A-Za-z_][\w.]{0,127}:[A-Za-z_]\w{0,127}", re.ASCII)
"""A class of the user's, `module:Class`."""

AUTO = "auto"
"""As `psi.protocol`: of the protocols installed at all parties, the one that costs least."""


def _party_name(name: str) -> str:
    if not PARTY_NAME.fullmatch(name):
        raise ValueError("a party's name is 1 to 32 of a-z, 0-9 and '-', and begins with a letter")
    return name


def _run_name(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}", name):
        raise ValueError("a run's name is 1 to 64 of A-Z, a-z, 0-9, '_' and '-'")
    return name


def _pin(key: str) -> str:
    if not re.fullmatch(r"sha256:[0-9a-f]{64}", key):
        raise ValueError("must be sha256: and 64 hex digits, as `party certs --fingerprint FILE` prints them")
    return key


def _protocol(name: str) -> str:
    if not PROTOCOL.fullmatch(name):
        raise ValueError("must be a name such as ecdh, or a class such as my_lab.fast_psi:FastPsi")
    return name


def _top(name: str) -> str:
    if name not in ("mlp", "deepfm") and not CLASS.fullmatch(name):
        raise ValueError("must be 'mlp', 'deepfm', or a class such as my_lab.models:MyTop")
    return name


PartyName = Annotated[str, AfterValidator(_party_name)]
Widths = Annotated[
    tuple[Annotated[int, Field(strict=True, ge=1, le=65536)], ...], Field(strict=False, max_length=16)
]
Fraction = Annotated[float, Field(gt=0, lt=1)]


class Member(Section):
    """One party of the run."""

    key: Annotated[str, AfterValidator(_pin)]
    """SHA-256 of its certificate's public key (SubjectPublicKeyInfo, DER), `sha256:<64 hex>`."""


class Psi(Section):
    """Which private set intersection, and which sets it is for."""

    protocol: Annotated[str, AfterValidator(_protocol)] = "ecdh"
    allow_insecure: bool = False
    """Allow a protocol that hides nothing from a party which guesses ids."""
    minimum: int = Field(default=100, ge=1)
    """Fewest common users to train on."""
    at_most: int = Field(default=1_000_000, ge=1, le=1 << 30, validate_default=True)
    """Most ids that a party may bring."""
    largest_ratio: float | None = Field(default=None, ge=1, le=1e9)
    """No party may bring more than so many times the ids of the smallest set."""
    hide_sizes: bool = False
    """Every party fills its set up to `at_most`, and no party learns another's true size."""

    @field_validator("at_most")
    @classmethod
    def _room_for_the_minimum(cls, at_most: int, info: ValidationInfo) -> int:
        if at_most < info.data.get("minimum", 1):
            raise ValueError("must be at least psi.minimum")
        return at_most

    @field_validator("hide_sizes")
    @classmethod
    def _hidden_sizes_cannot_be_compared(cls, hide_sizes: bool, info: ValidationInfo) -> bool:
        if hide_sizes and info.data.get("largest_ratio") is not None:
            raise ValueError("nobody can check psi.largest_ratio of hidden sizes; remove one of them")
        return hide_sizes


LOSSES = {
    "binary": ("cross-entropy",),
    "multiclass": ("cross-entropy",),
    "multilabel": ("cross-entropy",),
    "regression": ("squared", "huber", "poisson"),
}
"""Those that fit each task; `splitnn.tasks` has them."""


class Model(Section):
    """The split network; splitnn.plan says what each number shapes."""

    task: Literal["binary", "multiclass", "multilabel", "regression"] = "binary"
    loss: Literal["cross-entropy", "squared", "huber", "poisson"] = Field(default=None, validate_default=True)
    """Where nothing is said, the first of LOSSES."""
    cut: int = Field(default=32, ge=1, le=4096)
    bottom_hidden: Widths = (128,)
    top_hidden: Widths = (64,)
    dropout: float = Field(default=0.2, ge=0, lt=1)
    norm: Literal["none", "layer"] = "none"
    residual: bool = False
    """Hidden layers as wide as the one before are added to their input."""
    fusion: Literal["bi-interaction", "concat", "sum", "mean", "attention"] = "bi-interaction"
    top: Annotated[str, AfterValidator(_top)] = "mlp"

    @field_validator("residual")
    @classmethod
    def _some_layers_can_be_added(cls, residual: bool, info: ValidationInfo) -> bool:
        hidden = [info.data.get(name, (1, 1)) for name in ("bottom_hidden", "top_hidden")]
        if residual and all(a != b for widths in hidden for a, b in pairwise(widths)):
            raise ValueError("needs two neighbouring hidden layers of one width")
        return residual

    @field_validator("loss", mode="before")
    @classmethod
    def _loss_fits_the_task(cls, loss: object, info: ValidationInfo) -> object:
        fitting = LOSSES.get(info.data.get("task", ""), ())
        if loss is None:
            return fitting[0] if fitting else "cross-entropy"  # a bad task is a fault of its own
        if fitting and loss not in fitting and any(loss in losses for losses in LOSSES.values()):
            raise ValueError(f"must be {' or '.join(map(repr, fitting))} for this model.task")
        return loss


class Training(Section):
    """How the network is trained."""

    schedule: Literal["exact", "pipelined"] = "exact"
    in_flight: int = Field(default=8, ge=1, le=64)
    """Of the schedule `pipelined`: batches under way at once."""
    optimizer: Literal["adam", "sgd"] = "adam"
    learning_rate: float = Field(default=1e-3, gt=0, le=100)
    learning_rate_schedule: Literal["constant", "cosine", "step"] = "constant"
    warmup: int = Field(default=0, ge=0, le=1_000_000)
    """Steps in which the learning rate rises from near 0."""
    decay: float = Field(default=0.1, gt=0, le=1)
    """Of the schedule `step`: the factor after every `decay_epochs` epochs."""
    decay_epochs: int = Field(default=10, ge=1, le=100_000)
    clip_norm: float | None = Field(default=None, gt=0, le=1e9)
    """The longest gradient of one party's weights, as a 2-norm."""
    weight_decay: float = Field(default=1e-4, ge=0, le=100)
    batch: int = Field(default=256, ge=1, le=1 << 20)
    epochs: int = Field(default=50, ge=1, le=100_000)
    patience: int = Field(default=8, ge=1, le=100_000)


class Codec(Section):
    """How what crosses the cut is written; splitnn.codecs says what each does."""

    activations: Literal["fp32", "bf16", "int8", "randtopk"] = "fp32"
    gradients: Literal["fp32", "bf16", "int8"] = "fp32"
    keep: int | None = Field(default=None, ge=1, le=4096, validate_default=True)
    """Numbers of each row that randtopk keeps."""
    explore: float = Field(default=0.1, ge=0, lt=1)
    """The share of randtopk's draws that go to numbers which are not among the largest."""

    @field_validator("keep")
    @classmethod
    def _keep_goes_with_randtopk(cls, keep: int | None, info: ValidationInfo) -> int | None:
        activations = info.data.get("activations")
        if activations == "randtopk" and keep is None:
            raise ValueError("is required where codec.activations is randtopk")
        if activations not in ("randtopk", None) and keep is not None:
            raise ValueError(f"has no use where codec.activations is {activations}; remove it")
        return keep


class Evaluation(Section):
    """Which fractions of the aligned rows are kept out of training."""

    validation: Fraction = 0.15
    test: Fraction = Field(default=0.15, validate_default=True)

    @field_validator("test")
    @classmethod
    def _rows_are_left_to_train_on(cls, test: float, info: ValidationInfo) -> float:
        if test + info.data.get("validation", 0.0) >= 1:
            raise ValueError("evaluation.validation and evaluation.test must add up to less than 1")
        return test


class Contract(Section):
    """run.toml, validated. Two parties hold the same contract exactly when the digests are equal."""

    version: Literal[1]
    name: Annotated[str, AfterValidator(_run_name)]
    seed: int = Field(ge=0, lt=1 << 63)
    """Public: row order and split."""
    parties: dict[PartyName, Member] = Field(min_length=2, max_length=16)
    label_holder: PartyName
    ids: IdKinds
    """In order of preference: the first that all parties have is used."""
    psi: Psi = Psi()
    model: Model = Model()
    training: Training = Training()
    codec: Codec = Codec()
    evaluation: Evaluation = Evaluation()

    @field_validator("parties")
    @classmethod
    def _no_key_twice(cls, parties: dict[str, Member]) -> dict[str, Member]:
        if len({member.key for member in parties.values()}) < len(parties):
            raise ValueError("two parties have the same key; each party has a key of its own")
        return parties

    @field_validator("training")
    @classmethod
    def _a_step_fits_into_a_message(cls, training: Training, info: ValidationInfo) -> Training:
        cut = info.data["model"].cut if "model" in info.data else 1
        if training.batch * cut > STEP_AT_MOST:
            raise ValueError(f"batch times model.cut must be at most {STEP_AT_MOST:,}; lower one of them")
        if training.schedule == "pipelined" and training.in_flight * training.batch * cut > STEP_AT_MOST:
            raise ValueError(
                f"in_flight times batch times model.cut must be at most {STEP_AT_MOST:,}; lower one of them"
            )
        return training

    @field_validator("codec")
    @classmethod
    def _no_more_is_kept_than_there_is(cls, codec: Codec, info: ValidationInfo) -> Codec:
        if "model" in info.data and codec.keep is not None and codec.keep > info.data["model"].cut:
            raise ValueError(f"keep must be at most model.cut, {info.data['model'].cut}, not {codec.keep}")
        return codec

    @field_validator("label_holder")
    @classmethod
    def _label_holder_takes_part(cls, name: str, info: ValidationInfo) -> str:
        if name not in info.data.get("parties", {name: None}):
            raise ValueError("must be one of the names under [parties.NAME]")
        return name

    @property
    def names(self) -> list[str]:
        """All parties in canonical order."""
        return sorted(self.parties)

    @property
    def feature_holders(self) -> list[str]:
        return [name for name in self.names if name != self.label_holder]

    @cached_property
    def canonical(self) -> bytes:
        """JSON with sorted keys, no blanks, ASCII only; every default spelled out."""
        content = self.model_dump(mode="json")
        return json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()

    @cached_property
    def digest(self) -> bytes:
        """SHA-256 of the canonical form, 32 bytes."""
        return hashlib.sha256(self.canonical).digest()


def first_difference(here: bytes, there: bytes, peer: str) -> str | None:
    """The first field, in canonical order, that differs: `training.batch: 256 here, 512 at logistics`.

    here, there: canonical contracts; `there` is what the peer says it holds, and is not trusted.
    Returns None where the content is the same.
    Raises RemoteProtocolError where `there` is too long or is not JSON.
    """
    if len(there) > CANONICAL_AT_MOST:
        raise RemoteProtocolError(
            f"{peer} sent a contract of {len(there)} bytes; at most {CANONICAL_AT_MOST} are allowed"
        )
    try:
        theirs = json.loads(there.decode("ascii"))
    except (ValueError, RecursionError):
        raise RemoteProtocolError(
            f"{peer} sent a contract that is not JSON; which version runs there?"
        ) from None
    found = _differing(json.loads(here), theirs, ())
    if found is None:
        return None
    key, own, other = found
    return f"{dotted(key) or 'the whole contract'}: {_short(own)} here, {_short(other)} at {peer}"


_ABSENT: Any = object()


def _differing(own: Any, other: Any, key: tuple[str, ...]) -> tuple[tuple[str, ...], Any, Any] | None:
    # The depth is that of our own contract: what the peer nests deeper is never walked.
    if isinstance(own, dict) and isinstance(other, dict):
        for name in sorted(own.keys() | other.keys()):
            found = _differing(own.get(name, _ABSENT), other.get(name, _ABSENT), (*key, name))
            if found:
                return found
        return None
    # 1, 1.0 and true, 0.0 and -0.0 are equal in Python and different things in JSON
    same = own == other and json.dumps(own) == json.dumps(other)
    return None if same else (key, own, other)


def _short(value: Any) -> str:
    if value is _ABSENT:
        return "nothing"
    if isinstance(value, dict):
        return "a table"
    if isinstance(value, list):
        return "a list" if len(value) > 16 or not all(isinstance(v, int) for v in value) else str(value)[:64]
    text = json.dumps(value)
    return text if len(text) <= 80 else text[:77] + "..."
