"""run.toml: bounds, and the canonical form."""

import json
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from parties.contract import Contract
from parties.difference import CANONICAL_AT_MOST
from parties.document import check

TABLES: dict[str, Any] = {
    "version": 1,
    "name": "conversion",
    "label_holder": "platform",
    "seed": 7,
    "parties": {
        name: {"key": f"sha256:{letter * 64}"}
        for name, letter in (("platform", "a"), ("logistics", "b"), ("advertiser", "c"))
    },
    "ids": {"type": "email"},
}


SECURE: dict[str, Any] = {"model": {"fusion": "secure-sum"}, "evaluation": {"importance": "none"}}


def made(**changes: Any) -> Contract:
    contract = check(Contract, TABLES | changes, Path("run.toml"), faults := [])
    assert contract is not None, faults
    return contract


def faults(**changes: Any) -> list[str]:
    found: list[str] = []
    assert check(Contract, TABLES | changes, Path("run.toml"), found) is None
    return [line.removeprefix("run.toml: ") for line in found]


def test_canonical_order_of_parties() -> None:
    assert made().names == ["advertiser", "logistics", "platform"]
    assert made().feature_holders == ["advertiser", "logistics"]
    assert made(label_holder="logistics").feature_holders == ["advertiser", "platform"]


def test_digest_of_a_known_contract() -> None:
    """A change here means that parties of two releases do not agree: add to WIRE_VERSIONS with it."""
    digest = made().digest.hex()
    assert digest == "74cf8b774d4cfd7522811dcbfb2e4d3b0543adda85a1acea64f4587604456e79"


def test_a_privacy_that_asks_for_nothing_is_none() -> None:
    """The contract of who has no such section is that of releases that know none."""
    assert made(privacy={}).canonical == made().canonical
    assert "privacy" not in json.loads(made().canonical)
    assert json.loads(made(**SECURE, privacy={"sum_fraction": 16}).canonical)["privacy"] == {
        "sum_fraction": 16
    }


def test_who_does_not_reveal_membership_agrees_with_releases_that_do_not_know_of_it() -> None:
    assert made(reveals_membership=False).canonical == made().canonical
    assert "reveals_membership" not in json.loads(made().canonical)
    assert json.loads(made(reveals_membership=True).canonical)["reveals_membership"] is True
    assert made(reveals_membership=True).digest != made().digest


def test_canonical_form_is_ascii_json_with_every_default() -> None:
    content = json.loads(made().canonical.decode("ascii"))
    assert content["training"]["schedule"] == "exact"
    assert content["model"]["bottom_hidden"] == [128]
    assert len(made().canonical) < CANONICAL_AT_MOST // 16
    assert made(**content).canonical == made().canonical


@settings(deadline=None, max_examples=50)
@given(st.data())
def test_digest_does_not_depend_on_how_the_file_is_written(data: st.DataObject) -> None:
    """Order of keys and tables, blanks, comments, defaults spelled out, 1 for 1.0: all the same contract."""
    content = json.loads(made(training={"learning_rate": 1.0}).canonical)
    content["ids"] = content["ids"][0] | {"type": "email"}  # one table, as `type` alone would be
    for name, table in content.items():
        if isinstance(table, dict):  # TOML has no null
            content[name] = {key: value for key, value in table.items() if value is not None}
    for section in ("psi", "examples", "model", "codec", "evaluation"):
        if data.draw(st.booleans()):
            del content[section]
    content["training"]["learning_rate"] = data.draw(st.sampled_from([1, 1.0]))

    def lines(table: dict[str, Any], name: str) -> str:
        keys = data.draw(st.permutations([key for key in table if not isinstance(table[key], dict)]))
        tables = data.draw(st.permutations([key for key in table if isinstance(table[key], dict)]))
        blank = data.draw(st.sampled_from(["", " ", "\t", "  "]))
        comment = data.draw(st.sampled_from(["", "# a comment = 1", "\n\n"]))
        here = "".join(f"{key}{blank}={blank}{json.dumps(table[key])} {comment}\n" for key in keys)
        head = f"[{name}] {comment}\n" if name else ""
        return head + here + "".join(lines(table[key], f"{name}.{key}".lstrip(".")) for key in tables)

    written = tomllib.loads(lines(content, ""))
    assert made(**written).digest == made(training={"learning_rate": 1.0}).digest


def test_a_step_fits_into_a_message() -> None:
    with pytest.raises(AssertionError, match=r"batch times model\.cut"):
        made(model={"cut": 4096}, training={"batch": 1 << 20})
    assert made(model={"cut": 64}, training={"batch": 1 << 20}).training.batch == 1 << 20


@pytest.mark.parametrize(
    ("schedule", "name"), [("pipelined", "in_flight"), ("celu", "in_flight"), ("celu", "cache")]
)
def test_what_waits_fits_into_memory(schedule: str, name: str) -> None:
    large: dict[str, Any] = {"schedule": schedule, "batch": 1 << 20, "in_flight": 1}
    large |= {"cache": 1} if schedule == "celu" else {}
    assert made(model={"cut": 64}, training=large).training.schedule == schedule
    with pytest.raises(AssertionError, match=rf"{name} times batch times model\.cut"):
        made(model={"cut": 64}, training=large | {name: 2})


def test_no_more_is_kept_than_there_is() -> None:
    assert faults(codec={"activations": "randtopk", "keep": 33}) == [
        "codec: keep must be at most model.cut, 32, not 33"
    ]
    assert made(codec={"activations": "randtopk", "keep": 32}).codec.keep == 32
    assert faults(codec={"explore": 1e-300}) == ["codec.explore: must be 0, or at least 1e-6, not 1e-300"]


def test_every_field_counts() -> None:
    changes: list[dict[str, Any]] = [
        {"name": "other"},
        {"label_holder": "logistics"},
        {"seed": 8},
        {"parties": TABLES["parties"] | {"bank": {"key": f"sha256:{'d' * 64}"}}},
        {"ids": {"type": "string"}},
        {"ids": {"type": "email", "name": "mail"}},
        {"ids": [{"type": "email"}, {"type": "phone"}]},
        {"ids": [{"type": "phone"}, {"type": "email"}]},
        {"ids": {"types": ["email", "phone"]}},
        {"ids": {"types": ["phone", "email"]}},
        {"psi": {"protocol": "auto"}},
        {"psi": {"allow_insecure": True}},
        {"psi": {"at_most": 999}},
        {"psi": {"largest_ratio": 9}},
        {"psi": {"hide_sizes": True}},
        {"psi": {"protocol": "my_lab.fast_psi:FastPsi"}},
        {"psi": {"minimum": 99}},
        {"model": {"dropout": 0.3}},
        {"model": {"party_dropout": 0.3}},
        {"model": {"task": "multiclass"}},
        {"model": {"task": "regression"}},
        {"model": {"task": "regression", "loss": "huber"}},
        {"training": {"batch": 512}},
        {"codec": {"activations": "bf16"}},
        {"codec": {"gradients": "bf16"}},
        {"codec": {"activations": "randtopk", "keep": 3}},
        {"codec": {"activations": "randtopk", "keep": 4}},
        {"codec": {"explore": 0.2}},
        {"evaluation": {"test": 0.2}},
        {"examples": {"per_entity": "several"}},
        {"examples": {"at_most": 1000}},
        SECURE,
        SECURE | {"privacy": {"sum_bound": 16.0}},
        SECURE | {"privacy": {"sum_fraction": 16}},
    ]
    assert len({made().digest, *(made(**change).digest for change in changes)}) == len(changes) + 1


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"version": 2}, "version: must be 1, not 2"),
        ({"name": "../x"}, "name: a run's name is 1 to 64 of A-Z, a-z, 0-9, '_' and '-'"),
        ({"seed": -1}, "seed: must be greater than or equal to 0, not -1"),
        ({"seed": 1 << 63}, f"seed: must be less than {1 << 63}, not {1 << 63}"),
        ({"seed": True}, "seed: must be a whole number, not true"),
        ({"label_holder": "bank"}, "label_holder: must be one of the names under [parties.NAME], not 'bank'"),
        ({"psi": {"minimum": 0}}, "psi.minimum: must be greater than or equal to 1, not 0"),
        ({"psi": {"minimum": 9, "at_most": 8}}, "psi.at_most: must be at least psi.minimum, not 8"),
        ({"psi": {"minimum": 10**7}}, f"psi.at_most: must be at least psi.minimum, not {10**6}"),
        (
            {"psi": {"protocol": "os:system; rm"}},
            "psi.protocol: must be a name such as ecdh, or a class such as my_lab.fast_psi:FastPsi, "
            "not 'os:system; rm'",
        ),
        (
            {"psi": {"largest_ratio": 10, "hide_sizes": True}},
            "psi.hide_sizes: nobody can check psi.largest_ratio of hidden sizes; remove one of them",
        ),
        ({"psi": {"largest_ratio": 0.5}}, "psi.largest_ratio: must be greater than or equal to 1, not 0.5"),
        ({"psi": {"hide_sizes": 1}}, "psi.hide_sizes: must be true or false, not 1"),
        ({"parties": 3}, "parties: must be a table, not 3"),
        ({"training": 3}, "training: must be a table, not 3"),
        (
            SECURE | {"parties": {name: TABLES["parties"][name] for name in ("platform", "logistics")}},
            "model: fusion 'secure-sum' needs at least 2 feature holders, as the sum of one is its "
            "activation: choose 'sum', or another fusion",
        ),
        (
            SECURE | {"model": {"fusion": "secure-sum", "top": "deepfm"}},
            "model: top must be 'mlp' with model.fusion = 'secure-sum', not 'deepfm': others look at single "
            "activations",
        ),
        (
            SECURE | {"model": {"fusion": "secure-sum", "party_dropout": 0.1}},
            "model: party_dropout must be 0 with fusion = 'secure-sum': the sum without a party, beside that "
            "with it, is that party's activation",
        ),
        (
            SECURE | {"training": {"schedule": "celu"}},
            "training: schedule must be 'exact' with model.fusion = 'secure-sum', not 'celu': the others "
            "have no sums",
        ),
        (
            SECURE | {"codec": {"activations": "randtopk", "keep": 3}},
            "codec: activations must be 'fp32' with model.fusion = 'secure-sum', not 'randtopk': what is "
            "masked is written whole",
        ),
        (
            {"model": {"fusion": "secure-sum"}},
            "evaluation: importance must be 'none' with model.fusion = 'secure-sum', not 'parties': it is "
            "measured on single activations",
        ),
        (
            SECURE | {"privacy": {"sum_bound": 1024.0}},
            "privacy: the sum of 2 feature holders does not fit: 2 x sum_bound x 2^sum_fraction must be "
            "below 2^31; lower sum_bound below 1024, or sum_fraction",
        ),
        (
            SECURE | {"privacy": {"sum_bound": 0.1, "sum_fraction": 3}},
            "privacy.sum_fraction: is too small for privacy.sum_bound: nothing of an activation would be "
            "left",
        ),
        (
            {"privacy": {"sum_bound": 16.0}},
            "privacy: sum_bound and sum_fraction have an effect with model.fusion = 'secure-sum' only; "
            "remove them",
        ),
        (
            SECURE | {"privacy": {"sum_fraction": 30}},
            "privacy: the sum of 2 feature holders does not fit: 2 x sum_bound x 2^sum_fraction must be "
            "below 2^31; lower sum_bound below 1, or sum_fraction",
        ),
        (SECURE | {"privacy": {"sum_bound": 0}}, "privacy.sum_bound: must be greater than 0, not 0"),
    ],
    ids=str,
)
def test_bounds(changes: dict[str, Any], line: str) -> None:
    assert faults(**changes) == [line]


@pytest.mark.parametrize("name", ["../x", "/etc", "a\0", "Platform", "", "a" * 33, "1a", "a\n", "é"])
def test_names_of_parties(name: str) -> None:
    [line] = faults(parties=TABLES["parties"] | {name: {"key": f"sha256:{'d' * 64}"}})
    assert line.endswith("a party's name is 1 to 32 of a-z, 0-9 and '-', and begins with a letter")
    assert line.isprintable()


@pytest.mark.parametrize("key", ["", "a" * 64, "sha256:" + "A" * 64, "sha256:" + "a" * 63, "sha256:PASTE"])
def test_pins(key: str) -> None:
    [line] = faults(parties=TABLES["parties"] | {"bank": {"key": key}})
    assert line.startswith("parties.bank.key: must be sha256: and 64 hex digits, as `party certs --fing")


def test_two_parties_with_one_key() -> None:
    [line] = faults(parties=TABLES["parties"] | {"bank": TABLES["parties"]["platform"]})
    assert line == "parties: two parties have the same key; each party has a key of its own"


def test_number_of_parties() -> None:
    many = {f"p{i}": {"key": f"sha256:{i:064x}"} for i in range(17)}
    two = dict(list(many.items())[:2])
    assert made(parties=two, label_holder="p0").feature_holders == ["p1"]
    assert "at least 2" in faults(parties={"p0": many["p0"]}, label_holder="p0")[0]
    assert "at most 16" in faults(parties=many, label_holder="p0")[0]


def test_id_types_are_those_of_psi() -> None:
    from psi.ids import ID_TYPES

    assert [made(ids={"type": name}).ids[0].columns for name in ID_TYPES] == [(name,) for name in ID_TYPES]
    assert all(f"'{name}'" in faults(ids={"type": "?"})[0] for name in ID_TYPES)


def test_kinds_of_id_have_names() -> None:
    """One table, or several in order of preference; without a name, a kind has that of its types."""
    assert [kind.name for kind in made(ids={"type": "phone"}).ids] == ["phone"]
    kinds = made(
        ids=[{"types": ["string", "integer"]}, {"type": "email"}, {"name": "e2", "type": "email"}]
    ).ids
    assert [(kind.name, kind.columns) for kind in kinds] == [
        ("string-integer", ("string", "integer")),
        ("email", ("email",)),
        ("e2", ("email",)),
    ]
    assert made(ids=[{"type": "email"}]).digest == made(ids={"name": "email", "type": "email"}).digest


@pytest.mark.parametrize(
    ("ids", "line"),
    [
        ({}, 'ids.type: missing; give type = "email" for one column, or types for a composite id'),
        ([], "ids: needs 1 to 8 kinds of id"),
        ([{"type": "email", "name": str(i)} for i in range(9)], "ids: needs 1 to 8 kinds of id"),
        (3, "ids: must be a list, not 3"),
        ([3], "ids[0]: must be a table, not 3"),
        ([{"type": "email"}] * 2, "ids: two kinds of id have the name 'email'; give each a name of its own"),
        (
            {"type": "email", "types": ["email", "phone"]},
            "ids.type: stands beside types; keep type for one column, types for several",
        ),
        (
            {"types": ["email"]},
            "ids.types: a composite id has 2 to 8 types, one a column; for one column give type",
        ),
        (
            [{"type": "email"}, {"types": ["string"] * 9}],
            "ids[1].types: a composite id has 2 to 8 types, one a column; for one column give type",
        ),
        (
            [{"types": ["email", "fax"]}],
            "ids[0].types[1]: must be 'string', 'integer', 'email' or 'phone', not 'fax'",
        ),
        (
            {"type": "email", "name": "a b"},
            "ids.name: the name of a kind of id is 1 to 64 of A-Z, a-z, 0-9, '_' and '-'",
        ),
        (
            [{"type": "email"}, {"type": "phone", "nmae": "x"}],
            "ids[1].nmae: unknown key; did you mean ids[1].name?",
        ),
        ({"type": "email", "nmae": "x"}, "ids.nmae: unknown key; did you mean ids.name?"),
    ],
    ids=str,
)
def test_bad_kinds_of_id(ids: Any, line: str) -> None:
    assert faults(ids=ids) == [line]


def test_reading_a_contract_needs_no_torch() -> None:
    code = "import sys, parties.config; print(sorted({'torch', 'pandas', 'numpy', 'grpc'} & {*sys.modules}))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout == "[]\n"


def test_who_does_not_train_again_agrees_with_releases_that_do_not_know_of_it() -> None:
    assert "contribution" not in json.loads(made(evaluation={"contribution": "none"}).canonical)["evaluation"]
    asked = made(evaluation={"contribution": "retrain"})
    assert json.loads(asked.canonical)["evaluation"]["contribution"] == "retrain"
    assert asked.digest != made().digest


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (
            {"parties": {name: TABLES["parties"][name] for name in ("platform", "logistics")}},
            "evaluation: contribution = 'retrain' needs at least 2 feature holders",
        ),
        (SECURE, "evaluation: contribution must be 'none' with model.fusion = 'secure-sum'"),
        ({"privacy": {"label_defence": "max_norm"}}, "privacy: label_defence is reckoned for one training"),
        ({"privacy": {"label_epsilon": 1.0}}, "privacy: label_epsilon is reckoned for one training"),
        ({"privacy": {"max_label_leak": 0.9}}, "privacy: max_label_leak is reckoned for one training"),
        (
            {"privacy": {"embedding_clip": 1.0, "embedding_sigma": 4.0}},
            "privacy: embedding_sigma is reckoned for one training",
        ),
    ],
)
def test_what_does_not_go_with_training_again(changes: dict[str, Any], told: str) -> None:
    evaluation = changes.get("evaluation", {}) | {"contribution": "retrain"}
    [fault] = faults(**(changes | {"evaluation": evaluation}))
    assert fault.startswith(told)
    assert made(evaluation={"contribution": "retrain"}, privacy={"embedding_clip": 1, "embedding_sigma": 0})
