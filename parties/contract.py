"""run.toml: what all parties agree on. Its digest covers the validated content, not the file's bytes."""

import hashlib
import json
import re
from functools import cached_property
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, ValidationInfo, field_validator

from parties.certificate import PIN
from parties.certs import PARTY_NAME
from parties.contract_privacy import Privacy
from parties.contract_secure_sum import SECURE_SUM, fits_secure_sum, sum_has_room
from parties.contract_training import Codec, Evaluation, Examples, Model, Training
from parties.document import Section
from parties.id_kinds import IdKinds

STEP_AT_MOST = 1 << 26
"""Numbers that cross the cut in one message: 256 MiB, well below the most for which a link makes room."""

PROTOCOL = re.compile(r"[a-z0-9][a-z0-9-]{0,63}|[A-Za-z_][\w.]{0,127}:[A-Za-z_]\w{0,127}", re.ASCII)
"""The name of a PSI protocol: registered, or `module:Class`."""

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
    if not PIN.fullmatch(key):
        raise ValueError("must be sha256: and 64 hex digits, as `party certs --fingerprint FILE` prints them")
    return key


def _columns_pin(pin: str) -> str:
    if not re.fullmatch("hmac-sha256:[0-9a-f]{64}", pin):
        raise ValueError("must be hmac-sha256: and 64 hex digits, as `party check` prints them")
    return pin


def _protocol(name: str) -> str:
    if not PROTOCOL.fullmatch(name):
        raise ValueError("must be a name such as ecdh, or a class such as my_lab.fast_psi:FastPsi")
    return name


PartyName = Annotated[
    str, AfterValidator(_party_name), Field(description="1 to 32 of `a-z 0-9 -`, a letter first")
]
ColumnsPin = Annotated[
    str, AfterValidator(_columns_pin), Field(description="`hmac-sha256:` and 64 hex digits")
]
Pin = Annotated[str, AfterValidator(_pin), Field(description="`sha256:` and 64 hex digits")]


class Member(Section):
    """One party of the run."""

    key: Pin
    """SHA-256 of its certificate's public key (SubjectPublicKeyInfo, DER), of one party only;
    `party certs --fingerprint FILE` prints it."""
    columns: ColumnsPin | None = None
    """HMAC of its table's columns under its own secret, as `party check` prints it there: no run begins
    with a table of other columns. docs/data.md#tables-that-change"""


class Psi(Section):
    """Which private set intersection, and which sets it is for."""

    protocol: Annotated[
        str,
        AfterValidator(_protocol),
        Field(description="a registered name, `module:Class`, or `auto`"),
    ] = "ecdh"
    """The private set intersection: docs/psi.md. `auto`: of the secure ones that all parties have installed,
    the one with the fewest bytes."""
    allow_insecure: bool = False
    """Allow a protocol that hides nothing from a party which guesses ids; `auto` never takes one."""
    minimum: int = Field(default=100, ge=1)
    """Fewest common users to train on; `party align` tells any number."""
    at_most: int = Field(default=1_000_000, ge=1, le=1 << 30, validate_default=True)
    """Most ids that a party may bring, at least `minimum`; a set over it ends the run at all parties before
    anything else is sent."""
    largest_ratio: float | None = Field(default=None, ge=1, le=1e9)
    """No party may bring more than so many times the ids of the smallest set."""
    hide_sizes: bool = False
    """Every party fills its set up to `at_most`, so that no party is told another's size. Not with
    `largest_ratio`."""

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


class Contract(Section):
    """run.toml, validated. Two parties hold the same contract exactly when the digests are equal."""

    version: Literal[1]
    """The version of this format."""
    name: Annotated[str, AfterValidator(_run_name), Field(description="1 to 64 of `A-Z a-z 0-9 _ -`")]
    """Label of the run; part of its folder's name."""
    seed: int = Field(ge=0, lt=1 << 63)
    """Public: order and split of the rows."""
    parties: dict[PartyName, Member] = Field(min_length=2, max_length=16)
    """One table a party; their order means nothing."""
    label_holder: PartyName
    """Who has the label; it is the hub, to which the others dial. One of the parties."""
    reveals_membership: bool = False
    """When serving, ask feature holders about ids outside the alignment, too: tells them who is asked about,
    and the label holder whom they have (docs/serve.md#who-takes-part). Agree on it before training: a model
    is of its contract."""
    ids: IdKinds
    """By which ids the parties know the same person: one table, or of several kinds of id, 1 to 8 in order of
    preference, `[[ids]]`: the first that all parties have is used (docs/configuration.md#kinds-of-id)."""
    psi: Psi = Psi()
    examples: Examples = Examples()
    model: Model = Model()
    training: Training = Training()
    codec: Codec = Codec()
    evaluation: Evaluation = Field(default=Evaluation(), validate_default=True)
    privacy: Privacy = Field(default=Privacy(), validate_default=True)

    @field_validator("parties")
    @classmethod
    def _no_key_twice(cls, parties: dict[str, Member]) -> dict[str, Member]:
        if len({member.key for member in parties.values()}) < len(parties):
            raise ValueError("two parties have the same key; each party has a key of its own")
        return parties

    @field_validator("model")
    @classmethod
    def _a_sum_is_of_several(cls, model: Model, info: ValidationInfo) -> Model:
        if model.fusion == SECURE_SUM and len(info.data.get("parties", "of three")) < 3:
            raise ValueError(
                "fusion 'secure-sum' needs at least 2 feature holders, as the sum of one is its activation: "
                "choose 'sum', or another fusion"
            )
        if model.fusion == SECURE_SUM and model.party_dropout:
            raise ValueError(
                "party_dropout must be 0 with fusion = 'secure-sum': the sum without a party, beside that "
                "with it, is that party's activation"
            )
        return model

    @field_validator("model", "training", "codec", "evaluation")
    @classmethod
    def _all_of_it_goes_with_a_secure_sum(cls, section: Section, info: ValidationInfo) -> Section:
        model = section if isinstance(section, Model) else info.data.get("model")
        if model is not None:
            fits_secure_sum(str(info.field_name), section, model.fusion)
        return section

    @field_validator("evaluation")
    @classmethod
    def _some_are_left_to_train_again(cls, evaluation: Evaluation, info: ValidationInfo) -> Evaluation:
        if evaluation.contribution == "none":
            return evaluation
        if len(info.data.get("parties", "of three")) < 3:
            raise ValueError(
                "contribution = 'retrain' needs at least 2 feature holders: without the only one, the label "
                "holder is alone, and a run always says how good that is; remove it"
            )
        if "model" in info.data and info.data["model"].fusion == SECURE_SUM:
            raise ValueError(
                "contribution must be 'none' with model.fusion = 'secure-sum': the sum without a party, "
                "beside that with it, tells of that party's activation"
            )
        return evaluation

    @field_validator("privacy")
    @classmethod
    def _further_trainings_have_no_account(cls, privacy: Privacy, info: ValidationInfo) -> Privacy:
        if "evaluation" in info.data and info.data["evaluation"].contribution != "none":
            privacy.check_one_training()
        return privacy

    @field_validator("privacy")
    @classmethod
    def _a_sum_has_room(cls, privacy: Privacy, info: ValidationInfo) -> Privacy:
        if "model" in info.data and "parties" in info.data:
            if info.data["model"].fusion == SECURE_SUM:
                sum_has_room(privacy, len(info.data["parties"]) - 1)
            elif (privacy.sum_bound, privacy.sum_fraction) != (Privacy().sum_bound, Privacy().sum_fraction):
                raise ValueError(
                    "sum_bound and sum_fraction have an effect with model.fusion = 'secure-sum' only; remove "
                    "them"
                )
        return privacy

    @field_validator("training")
    @classmethod
    def _a_step_fits_into_a_message(cls, training: Training, info: ValidationInfo) -> Training:
        cut = info.data["model"].cut if "model" in info.data else 1
        if training.batch * cut > STEP_AT_MOST:
            raise ValueError(f"batch times model.cut must be at most {STEP_AT_MOST:,}; lower one of them")
        several = {"pipelined": ("in_flight",), "celu": ("in_flight", "cache")}
        for name in several.get(training.schedule, ()):
            if getattr(training, name) * training.batch * cut > STEP_AT_MOST:
                raise ValueError(
                    f"{name} times batch times model.cut must be at most {STEP_AT_MOST:,}; lower one of them"
                )
        return training

    @field_validator("codec")
    @classmethod
    def _no_more_is_kept_than_there_is(cls, codec: Codec, info: ValidationInfo) -> Codec:
        if "model" in info.data and codec.keep is not None and codec.keep > info.data["model"].cut:
            raise ValueError(f"keep must be at most model.cut, {info.data['model'].cut}, not {codec.keep}")
        return codec

    @field_validator("privacy")
    @classmethod
    def _noise_is_of_the_exact_schedule(cls, privacy: Privacy, info: ValidationInfo) -> Privacy:
        schedule = info.data["training"].schedule if "training" in info.data else "exact"
        if privacy.embedding_sigma is not None and schedule != "exact":
            raise ValueError(
                f"embedding_clip and embedding_sigma need training.schedule = 'exact', not {schedule!r}"
            )
        return privacy

    @field_validator("privacy")
    @classmethod
    def _budgets_are_enough_for_a_run(cls, privacy: Privacy, info: ValidationInfo) -> Privacy:
        if privacy.embedding_budget is not None and "training" in info.data:
            from splitnn.accountant import epsilon, rho  # numpy: who has no budget need not wait for it

            epochs = info.data["training"].epochs
            least = epsilon(rho((privacy.embedding_sigma or 0.0) / 2, epochs), privacy.delta)
            if least > privacy.embedding_budget:
                raise ValueError(
                    f"embedding_budget is less than the {least:.2f} that {epochs} epochs may spend: raise "
                    "it, or embedding_sigma, or lower training.epochs"
                )
        return privacy

    @field_validator("privacy")
    @classmethod
    def _defences_fit_the_task(cls, privacy: Privacy, info: ValidationInfo) -> Privacy:
        if "model" in info.data:
            privacy.check(info.data["model"].task)
        return privacy

    @field_validator("privacy")
    @classmethod
    def _epsilon_is_of_all_that_leaves(cls, privacy: Privacy, info: ValidationInfo) -> Privacy:
        if privacy.label_epsilon is None:
            return privacy
        if "evaluation" in info.data and info.data["evaluation"].importance == "columns":
            raise ValueError(
                "label_epsilon does not cover evaluation.importance = 'columns', which tells of true test "
                "labels: choose 'parties' or 'none'"
            )
        if "examples" in info.data and info.data["examples"].per_entity == "several":
            raise ValueError(
                "label_epsilon needs examples.per_entity = 'one': rows of one id have no names of their own "
                "by which each could answer alike in every run; or choose label_defence = max_norm or iso"
            )
        return privacy

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
    def several(self) -> bool:
        """May several examples point at one entity?"""
        return self.examples.per_entity == "several"

    @property
    def is_summed(self) -> bool:
        """Does the label holder learn the sum of the activations only?"""
        return self.model.fusion == SECURE_SUM

    @property
    def feature_holders(self) -> list[str]:
        return [name for name in self.names if name != self.label_holder]

    @cached_property
    def canonical(self) -> bytes:
        """JSON with sorted keys, no blanks, ASCII only; every default spelled out, but `training.warm_start`,
        `evaluation.contribution`, `reveals_membership`, `columns` of a party and `privacy` hold only what is
        asked for: who does not agrees with releases that do not know it."""
        content = self.model_dump(mode="json")
        if not self.reveals_membership:
            del content["reveals_membership"]
        if self.training.warm_start is None:
            del content["training"]["warm_start"]
        if self.evaluation.contribution == "none":
            del content["evaluation"]["contribution"]
        for member in content["parties"].values():
            if member["columns"] is None:
                del member["columns"]
        content["privacy"] = self.privacy.model_dump(mode="json", exclude_defaults=True)
        if not content["privacy"]:
            del content["privacy"]
        return json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()

    @cached_property
    def digest(self) -> bytes:
        """SHA-256 of the canonical form, 32 bytes."""
        return hashlib.sha256(self.canonical).digest()
