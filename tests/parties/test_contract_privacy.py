"""[privacy] of run.toml: bounds, what fits which task, and that it is the plan's."""

import json
import math
from dataclasses import asdict
from datetime import date, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from parties.contract import Contract
from parties.contract_privacy import LABEL_DEFENCES, RANDOMISED
from parties.document import check
from parties.errors import ContractExpired
from parties.own import refuse_expired

TABLES: dict[str, Any] = {
    "version": 1,
    "name": "private",
    "label_holder": "platform",
    "seed": 7,
    "parties": {
        name: {"key": f"sha256:{letter * 64}"} for name, letter in (("platform", "a"), ("logistics", "b"))
    },
    "ids": {"type": "email"},
}
ISO = {"label_defence": "iso", "label_strength": 1.0}
NOISE = {"embedding_clip": 1.0, "embedding_sigma": 4.0}
GATE = {"max_label_leak": 0.7}


def made(task: str = "binary", **privacy: Any) -> Contract:
    tables = TABLES | {"model": {"task": task}, "privacy": privacy}
    contract = check(Contract, tables, Path("run.toml"), found := [])
    assert contract is not None, found
    return contract


def faults(task: str = "binary", **privacy: Any) -> list[str]:
    found: list[str] = []
    tables = TABLES | {"model": {"task": task}, "privacy": privacy}
    assert check(Contract, tables, Path("run.toml"), found) is None
    return [line.removeprefix("run.toml: ") for line in found]


def test_who_asks_for_nothing_has_the_contract_of_before() -> None:
    plain = check(Contract, TABLES, Path("run.toml"), [])
    assert plain is not None
    assert made(label_defence="none").canonical == plain.canonical
    assert b"privacy" not in plain.canonical


def test_every_key_counts() -> None:
    asked: list[dict[str, Any]] = [
        {"label_defence": "max_norm"},
        {"label_defence": "marvell", "label_strength": 1.0},
        {"label_defence": "marvell", "label_strength": 2.0},
        {"label_epsilon": 1.0},
        GATE,
        ISO | GATE | {"max_label_strength": 8.0},
        NOISE,
        NOISE | {"embedding_budget": 30.0},
        NOISE | {"delta": 1e-3},
        {"label_epsilon": 0.01},
        {"label_epsilon": 1.0, "label_budget": 3.0},
        {"purpose": "scores"},
        {"expires": date(2027, 1, 31)},
    ]
    assert len({made(**privacy).digest for privacy in asked}) == len(asked)
    expires = json.loads(made(expires=date(2027, 1, 31)).canonical)["privacy"]
    assert expires == {"expires": "2027-01-31"}


@pytest.mark.parametrize(
    ("privacy", "line"),
    [
        ({"label_defence": "laplace"}, "label_defence: must be 'none', 'max_norm', 'iso' or 'marvell'"),
        ({"label_defence": "iso"}, 'label_defence = "iso" needs label_strength'),
        (
            {"label_defence": "iso", "label_strength": 0.0},
            'label_strength: must be above 0 (for no noise choose label_defence = "none"',
        ),
        ({"label_defence": "iso", "label_strength": -1.0}, "label_strength: must be above 0 (for"),
        (
            ISO | GATE | {"max_label_strength": -1.0},
            "max_label_strength: must be above 0 (where it is to stay, leave it out), not -1.0",
        ),
        ({"label_defence": "iso", "label_strength": math.nan}, "label_strength: must be"),
        ({"label_defence": "iso", "label_strength": math.inf}, "label_strength: must be"),
        (
            {"label_strength": 1.0},
            'label_strength has an effect with label_defence = "iso" or "marvell" only',
        ),
        ({"label_defence": "max_norm", "label_strength": 1.0}, "label_strength has an effect with"),
        ({"label_epsilon": 1e-16}, "label_epsilon: must be greater than or equal to 0.01"),
        ({"label_epsilon": -1.0}, "label_epsilon: must be greater than or equal to 0.01"),
        ({"label_epsilon": math.nan}, "label_epsilon: must be"),
        ({"label_epsilon": 31.0}, "label_epsilon: must be less than or equal to 30"),
        ({"max_label_leak": 0.5}, "max_label_leak: must be greater than 0.5"),
        ({"max_label_leak": 1.1}, "max_label_leak: must be less than or equal to 1"),
        (ISO | {"max_label_strength": 2.0}, "max_label_strength has an effect with max_label_leak only"),
        (ISO | GATE | {"max_label_strength": 1.0}, "max_label_strength must be above label_strength, 1"),
        ({"purpose": "a\nb"}, "purpose: must be one line of text"),
        ({"purpose": " "}, "purpose: must be one line of text"),
        ({"expires": "2027-01-31"}, "expires: must be a date without quotes, such as 2027-01-31"),
        ({"expires": datetime(2027, 1, 31)}, "expires: must be a date without quotes"),
        (
            NOISE | {"embedding_clip": 0},
            "embedding_clip: must be above 0 (for no noise leave it and embedding_sigma out), not 0",
        ),
        (NOISE | {"embedding_clip": -2.0}, "embedding_clip: must be above 0 (for no noise leave"),
        (
            NOISE | {"embedding_sigma": -1.0},
            "embedding_sigma: must be at least 0 (for no noise leave it and embedding_clip out), not -1.0",
        ),
        ({"embedding_sigma": 1.0}, "embedding_clip and embedding_sigma go together; set both, or neither"),
        ({"embedding_clip": 1.0}, "embedding_clip and embedding_sigma go together; set both, or neither"),
        (
            NOISE | {"embedding_budget": 0},
            "embedding_budget: must be above 0 (for no budget leave it out), not 0",
        ),
        (NOISE | {"embedding_budget": -(10**400)}, "embedding_budget: must be above 0 (for no budget"),
        (
            {"label_epsilon": 1.0, "label_budget": 0},
            "label_budget: must be above 0 (for no budget leave it out), not 0",
        ),
        ({"label_epsilon": 1.0, "label_budget": -3}, "label_budget: must be above 0 (for no budg"),
        ({"embedding_budget": 3.0}, "embedding_budget needs embedding_clip, and embedding_sigma above 0"),
        (NOISE | {"embedding_sigma": 0.0, "embedding_budget": 3.0}, "embedding_budget needs embedding_clip"),
        (
            NOISE | {"embedding_budget": 20.0},
            "embedding_budget is less than the 22.02 that 50 epochs may spend: raise it, or embedding_sigma",
        ),
        ({"label_epsilon": 4.0, "label_budget": 3.0}, "label_budget must be at least label_epsilon"),
        ({"label_budget": 3.0}, "label_budget needs label_epsilon: true labels have no epsilon"),
        (NOISE | {"delta": 0}, "delta: must be greater than 0, not 0"),
        (NOISE | {"delta": math.nan}, "delta: must be"),
        (
            NOISE | {"delta": 0.99},
            "delta: must be at most 0.001, not 0.99: it is the chance that epsilon does",
        ),
        ({"label_defense": "iso"}, "label_defense: unknown key; did you mean privacy.label_defence?"),
    ],
    ids=str,
)
def test_bounds(privacy: dict[str, Any], line: str) -> None:
    [found] = faults(**privacy)
    assert found.startswith((f"privacy.{line}", f"privacy: {line}")), found
    assert "\n" not in found


@pytest.mark.parametrize("task", ["binary", "multiclass", "multilabel", "regression"])
@pytest.mark.parametrize(
    ("privacy", "tasks"),
    [
        (ISO, LABEL_DEFENCES["iso"]),
        ({"label_defence": "max_norm"}, LABEL_DEFENCES["max_norm"]),
        ({"label_defence": "marvell", "label_strength": 1.0}, LABEL_DEFENCES["marvell"]),
        ({"label_epsilon": 1.0}, RANDOMISED),
        (GATE, ("binary",)),
    ],
)
def test_what_fits_a_task_is_what_the_plan_takes(
    task: str, privacy: dict[str, Any], tasks: tuple[str, ...]
) -> None:
    from parties.phases import plan_of
    from splitnn.label_defence import LabelDefence

    if task in tasks:
        assert plan_of(made(task, **privacy)).label_defence != LabelDefence()
        return
    [line] = faults(task, **privacy)
    assert "choose" in line
    assert "max_norm or iso" in line
    agreed = made(task)
    privacy = agreed.privacy.model_copy(update=privacy)
    with pytest.raises(ValueError, match="task"):
        plan_of(agreed.model_copy(update={"privacy": privacy}))


@pytest.mark.parametrize(
    ("tables", "fitting", "line"),
    [
        (
            {"evaluation": {"importance": "columns"}},
            {"evaluation": {"importance": "parties"}},
            "label_epsilon does not cover evaluation.importance = 'columns', which tells of true test "
            "labels: choose 'parties' or 'none'",
        ),
        (
            {"examples": {"per_entity": "several"}},
            {"examples": {"per_entity": "one"}},
            "label_epsilon needs examples.per_entity = 'one': rows of one id have no names of their own "
            "by which each could answer alike in every run; or choose label_defence = max_norm or iso",
        ),
    ],
)
def test_labels_that_lie_are_all_that_is_told(
    tables: dict[str, Any], fitting: dict[str, Any], line: str
) -> None:
    def found(tables: dict[str, Any], **privacy: float) -> list[str]:
        check(Contract, TABLES | tables | {"privacy": privacy}, Path("run.toml"), found := [])
        return found

    assert found(tables, label_epsilon=1.0) == [f"run.toml: privacy: {line}"]
    assert found(fitting, label_epsilon=1.0) == found(tables) == []


def test_the_plan_is_told_all_of_it() -> None:
    from parties.phases import plan_of
    from splitnn.label_defence import LabelDefence

    assert plan_of(made()).label_defence == LabelDefence()
    assert plan_of(made(label_defence="max_norm")).label_defence == LabelDefence("max_norm", 1.0)
    whole = made(
        label_defence="marvell",
        label_strength=2.0,
        label_epsilon=3.0,
        max_label_leak=0.7,
        max_label_strength=9.0,
    )
    assert asdict(plan_of(whole).label_defence) == asdict(
        LabelDefence("marvell", 2.0, 3.0, max_strength=9.0, max_leak=0.7)
    )


def test_a_contract_ends_after_its_last_day() -> None:
    def on(day: date, **privacy: Any) -> None:
        party = SimpleNamespace(contract=Path("run.toml"))
        config: Any = SimpleNamespace(contract=made(**privacy), party=party)
        refuse_expired(config, lambda: day)

    on(date(2027, 1, 31), expires=date(2027, 1, 31))
    on(date(9999, 1, 1))
    with pytest.raises(ContractExpired) as caught:
        on(date(2027, 2, 1), expires=date(2027, 1, 31))
    assert str(caught.value) == (
        "run.toml: privacy.expires: 2027-01-31 was the last day for a run, and today is 2027-02-01 (UTC); "
        "agree on a new contract"
    )


def test_noise_on_embeddings_is_the_plans_and_of_the_exact_schedule() -> None:
    from parties.phases import plan_of
    from splitnn.embedding_dp import EmbeddingDP

    assert plan_of(made(**NOISE)).embedding == EmbeddingDP(1.0, 4.0)
    assert plan_of(made(embedding_clip=1.0, embedding_sigma=0.0)).embedding == EmbeddingDP(1.0)
    assert plan_of(made()).embedding == EmbeddingDP()
    found: list[str] = []
    tables = TABLES | {"training": {"schedule": "celu"}, "privacy": NOISE}
    assert check(Contract, tables, Path("run.toml"), found) is None
    assert found == [
        "run.toml: privacy: embedding_clip and embedding_sigma need training.schedule = 'exact', not 'celu'"
    ]
