"""`party check`: whatever can be tried is tried, and what will leave the machine is said."""

import json
import socket
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest

import psi
from parties.certs import Identity
from parties.charges import Charge
from parties.check import Findings, check
from parties.check_text import text
from parties.config import Config, load
from parties.contract import Contract
from parties.errors import BudgetError, ConfigError, ContractExpired, DataError, IdentityError, NetworkError
from parties.hub import Hub
from parties.label_draws import question
from parties.own import own_protocols
from parties.spending import kept_of, ledger_of
from parties.storage import own_secret
from psi.ids import IdError
from psi.protocols import EcdhPsi

Make = Callable[..., Config]

CSV = {
    "platform": (
        "email,converted,age,city\nann@x.org,1,30,Oslo\nben@x.org,0,40,Rome\nBEN@x.org,0,,Rome\n,1,20,Oslo\n"
    ),
    "logistics": "email,parcels\nann@x.org,3\nben@x.org,4\n",
}


class Talkative(EcdhPsi):
    """Its peers may send more unasked than can wait."""

    def unread(self, at_most: int) -> int:
        return 2 << 30


@pytest.fixture
def port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@pytest.fixture
def config_of(tmp_path: Path, certificates: Path, contract_of: Callable[..., Contract], port: int) -> Make:
    """Write the folder of a party, and load it.

    changes: of run.toml; certificate: another party's; held: `data.id`; data: more of that table; label:
    the label holder's.
    """

    def make(
        name: str,
        csv: str | None = None,
        certificate: str = "",
        held: str = '"email"',
        data: str = "",
        label: str = "converted",
        **changes: object,
    ) -> Config:
        contract = contract_of(**changes)
        whose = certificate or name
        labelled, where = (f'label = "{label}"\n', "listen") if name == "platform" else ("", "hub")
        (tmp_path / "own.csv").write_text(CSV[name] if csv is None else csv)
        (tmp_path / "run.toml").write_text(toml(contract))
        (tmp_path / "party.toml").write_text(
            f'party = "{name}"\n[data]\nfile = "own.csv"\nid = {held}\n{labelled}{data}\n'
            f'[tls]\nca = "{certificates}/ca.pem"\ncertificate = "{certificates}/{whose}.pem"\n'
            f'key = "{certificates}/{whose}.key"\n[link]\n{where} = "127.0.0.1:{port}"\n'
        )
        return load(tmp_path / "party.toml")

    return make


def kinds(found: Findings) -> dict[str, str]:
    return {column["name"]: column["kind"] for column in found.data["columns"]}


def toml(contract: Contract) -> str:
    return "\n".join(f"{key} = {written(value)}" for key, value in contract.model_dump(mode="json").items())


def written(value: Any) -> str:
    """In TOML, which has no null."""
    if isinstance(value, dict):
        held = (f"{key} = {written(part)}" for key, part in value.items() if part not in (None, []))
        return f"{{ {', '.join(held)} }}"
    return f"[{', '.join(map(written, value))}]" if isinstance(value, list) else json.dumps(value)


@pytest.fixture
def hub(identities: dict[str, Identity], port: int) -> Iterator[None]:
    pins = {name: identities[name].fingerprint for name in ("advertiser", "logistics")}
    with Hub(identities["platform"], f"127.0.0.1:{port}", pins) as hub:
        hub.open()
        yield


def test_label_holder(config_of: Make, port: int) -> None:
    found = check(config_of("platform"))
    assert found.faults == []
    assert found.role == "label holder"
    assert found.link == {"listen": f"127.0.0.1:{port}", "free": True}
    assert found.data["rows"] == 4
    counts = {"usable": 2, "null": 1, "blank": 0, "duplicate": 1, "further": 0}
    assert found.data["ids"] == {"email": {"columns": ["email"], "types": ["email"], **counts}}
    assert kinds(found) == {"age": "number", "city": "category"}
    assert found.data["warnings"][-1] == "fewer usable ids than psi.minimum = 100: no training"
    assert found.psi["protocol"] == "ecdh"
    assert any("32 float32 numbers a row and step, the gradients" in line for line in found.leaves)


def test_lists_are_told_by_their_column(config_of: Make) -> None:
    csv = "email,parcels,pages\nann@x.org,3,a b\nben@x.org,4,\n"
    found = check(config_of("logistics", csv, data='bags = { pages = " " }'))
    assert kinds(found) == {"pages": "bag", "parcels": "number"}


COLUMNS = """
column   kind      features                                    missing  distinct  range
age      number    normal scores, flag where missing           10.0%    9         whole numbers from 0 on
code     key       left out                                             200
one      number    none: constant                                       1         whole numbers from 0 on
remark   text      left out                                    50.0%    100
shop     category  embeddings of 4 levels and of rare ones              4
since    date      trend, time of year, day of month, weekday           200       days
vip      boolean   standardised                                         2
visited  date      trend, time of day                                   200       times
"""


def test_a_table_of_columns(config_of: Make) -> None:
    """Kinds, features, gaps and counts; warnings for what is left out and what is suspect; no cell."""
    header = "email,converted,age,code,one,remark,shop,since,vip,visited"
    rows = [
        f"u{row}@x.org,{row % 4 // 2},{'' if row % 10 == 9 else 2 ** (row % 10)},k{row},7,"
        f"{f'a remark {row}' if row % 2 else ''},{row % 4},{date(2024, 1, 1) + timedelta(3 * row)},"
        f"{'yes' if row % 3 else 'no'},2026-11-20T{row // 60:02}:{row % 60:02}"
        for row in range(200)
    ]
    data = '[data.types]\nshop = "category"'
    found = check(config_of("platform", "\n".join([header, *rows]), data=data))
    assert COLUMNS in text(found)
    assert found.data["columns"][0] == {
        "name": "age",
        "kind": "number",
        "features": "normal scores, flag where missing",
        "missing": 0.1,
        "distinct": 9,
        "range": "whole numbers from 0 on",
    }
    told = [line.split(": ", 1)[1].split(";")[0].split(": is it")[0] for line in found.data["warnings"]]
    assert told[:-1] == [
        "column 'code' is left out: 200 distinct values in 200 rows",
        "column 'remark' is left out: 100 distinct values in 100 rows",
        "column 'one' is left out: constant in training",
        "column 'shop' alone tells the label (AUC 1.000)",
    ]
    assert found.faults == []


def test_several_examples_are_told_with_what_they_tell(config_of: Make) -> None:
    config = config_of("platform", data='rank_within = "city"', examples={"per_entity": "several"})
    found = check(config)
    assert found.faults == []
    assert "converted: binary, cross-entropy loss; ranked within each city" in text(found)
    counts = {"usable": 2, "null": 1, "blank": 0, "duplicate": 0, "further": 1}
    assert found.data["ids"]["email"].items() >= counts.items()
    assert "0 duplicate; 1 further examples of these ids" in " ".join(text(found).split())
    assert "every party learns how many rows platform has of each common user" in " ".join(
        text(found).split()
    )
    assert any("how many rows you have of each user in common" in line for line in found.leaves)
    elsewhere = check(config_of("logistics", examples={"per_entity": "several"}))
    assert elsewhere.data["ids"]["email"]["further"] == 0
    assert not any("how many rows" in line for line in elsewhere.leaves)
    assert check(config_of("platform")).examples == []


def test_the_label_is_told_without_a_cell(config_of: Make) -> None:
    csv = "email,converted,age\n" + "".join(
        f"u{i}@x.org,{['Oslo', 'Rome', 'Bonn'][i % 3]},{i}\n" for i in range(9)
    )
    found = check(config_of("platform", csv, model={"task": "multiclass"}))
    assert found.faults == []
    assert found.data["label"] == {
        "columns": ["converted"],
        "task": "multiclass",
        "loss": "cross-entropy",
        "classes": 3,
        "weight": None,
        "class_weights": False,
        "rank_within": None,
    }
    assert "converted: multiclass, 3 classes, cross-entropy loss" in text(found)
    assert not [city for city in ("Oslo", "Rome", "Bonn") if city in text(found)]


@pytest.mark.parametrize(
    ("task", "cells", "wanted"),
    [
        ("binary", ["12.5", "3", "7"], 'such as "regression"'),
        ("binary", ["Oslo", "Rome", "Bonn"], 'such as "multiclass"'),
        ("regression", ["Oslo", "Rome", "Bonn"], "3 non-numeric cell(s), the first in row 1"),
        ("multiclass", ["Oslo", "Oslo", "Oslo"], "every row is of one class"),
    ],
)
def test_a_label_that_does_not_fit_the_task(
    config_of: Make, task: str, cells: list[str], wanted: str
) -> None:
    csv = "email,converted,age\n" + "".join(f"u{i}@x.org,{cell},{i}\n" for i, cell in enumerate(cells))
    [fault] = check(config_of("platform", csv, model={"task": task})).faults
    assert isinstance(fault, DataError)
    assert wanted in str(fault)
    assert "Oslo" not in str(fault)


@pytest.mark.usefixtures("hub")
def test_feature_holder_with_the_hub_there(config_of: Make, port: int) -> None:
    found = check(config_of("logistics", model={"cut": 5}, psi={"minimum": 2}, training={"batch": 1}))
    assert found.faults == []
    assert found.link == {"hub": f"127.0.0.1:{port}", "reachable": True}
    assert found.data["label"] is None
    assert found.data["warnings"] == []
    assert any("5 float32 numbers a row and step, the activations" in line for line in found.leaves)


def test_hub_not_there(config_of: Make) -> None:
    found = check(config_of("logistics"))
    assert [type(fault) for fault in found.faults] == [NetworkError]
    assert found.link["reachable"] is False
    assert found.data["rows"] == 2


@pytest.mark.usefixtures("hub")
def test_port_taken(config_of: Make) -> None:
    found = check(config_of("platform"))
    assert [type(fault) for fault in found.faults] == [NetworkError]
    assert found.link["free"] is False


def test_all_faults_are_found(config_of: Make) -> None:
    config = config_of("logistics", csv="", certificate="advertiser", psi={"protocol": "best-of-all"})
    found = check(config)
    assert [type(fault) for fault in found.faults] == [IdentityError, DataError, ConfigError]
    assert "names advertiser" in str(found.faults[0])
    assert "run.toml: psi.protocol: no PSI protocol 'best-of-all'; installed are" in str(found.faults[2])
    assert found.as_json()["error"] == found.as_json()["faults"][0]
    assert [fault["exit_code"] for fault in found.as_json()["faults"]] == [4, 3, 2]
    page, _, mend = text(found).partition("\nTo mend: 3\n")
    assert " ".join(mend.split()) == " ".join(f"- {fault}" for fault in found.faults)
    assert "cost:" not in page
    assert "MB on all wires" in text(check(config_of("logistics")))


def test_a_contract_that_is_over_is_refused_like_by_a_run(config_of: Make) -> None:
    from parties.phases import prepare

    config = config_of("logistics")
    privacy = config.contract.privacy.model_copy(update={"expires": date(2027, 1, 31)})
    config = replace(config, contract=config.contract.model_copy(update={"privacy": privacy}))
    last, after = (lambda: date(2027, 1, 31)), (lambda: date(2027, 2, 1))
    assert ContractExpired not in map(type, check(config, last).faults)
    assert type(check(config, after).faults[0]) is ContractExpired
    assert check(config, after).as_json()["error"]["exit_code"] == 5
    with pytest.raises(ContractExpired, match="last day for a run"):
        prepare(config, after)


def test_defences_are_told_among_what_leaves(config_of: Make) -> None:
    privacy = {"label_defence": "iso", "label_strength": 2.5, "label_epsilon": 3.0, "max_label_leak": 0.7}
    found = check(config_of("platform", privacy=privacy))
    assert found.as_json()["privacy"].items() >= privacy.items()
    assert "privacy      label_strength: 2.5" in text(found)
    [line] = [line for line in found.leaves if "gradients at" in line]
    assert (
        "at their cut layer (noise by iso of strength 2.5, labels that lie with epsilon 3, "
        "none whose leak is above 0.7); and when training stops" in line
    )


def test_a_certificate_that_run_toml_does_not_pin(config_of: Make) -> None:
    parties = {
        name: {"key": f"sha256:{letter * 64}"} for name, letter in (("platform", "a"), ("logistics", "b"))
    }
    found = check(config_of("platform", parties=parties))
    assert [type(fault) for fault in found.faults] == [IdentityError]
    assert f"run.toml says sha256:{'a' * 64} for platform" in str(found.faults[0])


def test_a_batch_of_more_rows_than_can_be_left(config_of: Make) -> None:
    """Still a training: of one step an epoch."""
    csv = "email,parcels\n" + "".join(f"u{i}@x.org,{i % 9}\n" for i in range(2000))
    found = check(config_of("logistics", csv, training={"batch": 1401}))
    assert found.data["warnings"] == [
        "training.batch = 1,401 is more than the 1,400 rows that 2,000 common users leave to train on: "
        "each epoch is one step"
    ]
    assert check(config_of("logistics", csv, training={"batch": 1400})).data["warnings"] == []


def test_more_ids_than_agreed(config_of: Make) -> None:
    found = check(config_of("platform", psi={"minimum": 1, "at_most": 1}))
    assert [type(fault) for fault in found.faults] == [DataError]
    assert "2 usable email ids, and the contract allows psi.at_most = 1" in str(found.faults[0])


def test_each_kind_of_id_is_counted(config_of: Make) -> None:
    csv = "email,name,born,x\nann@x.org,Ann,1990,1\n,Ann,1990,2\nben@x.org,Ben,,3\n"
    kinds = [{"type": "phone"}, {"name": "person", "types": ["string", "integer"]}, {"type": "email"}]
    held = '{ email = "email", person = ["name", "born"] }'
    found = check(config_of("logistics", csv, held=held, ids=kinds))
    assert [(kind, ids["usable"], ids["null"]) for kind, ids in found.data["ids"].items()] == [
        ("person", 1, 1),
        ("email", 2, 1),
    ]
    assert found.data["ids"]["person"]["duplicate"] == 1
    assert [column["name"] for column in found.data["columns"]] == ["x"]
    assert "id person: name, born (string, integer): 1 usable" in " ".join(text(found).split())


def test_an_insecure_protocol_must_be_allowed(config_of: Make) -> None:
    found = check(config_of("platform", psi={"protocol": "insecure-hash"}))
    assert [type(fault) for fault in found.faults] == [ConfigError]
    assert "run.toml: psi.allow_insecure: insecure-hash hides nothing" in str(found.faults[0])
    allowed = {"protocol": "insecure-hash", "allow_insecure": True}
    assert check(config_of("platform", psi=allowed)).faults == []


def test_auto_is_among_the_secure_ones_that_take_so_many_parties(config_of: Make) -> None:
    config = config_of("platform", psi={"protocol": "auto", "allow_insecure": True})
    for name, protocol in own_protocols(config).items():
        assert protocol.secure
        assert 3 in protocol.parties, name
    assert {"ecdh", "rr22"} <= own_protocols(config).keys()
    assert {"dh", "insecure-hash"}.isdisjoint(own_protocols(config))
    assert "of these" in text(check(config))


def test_what_hidden_sizes_cost_is_told(config_of: Make) -> None:
    found = check(config_of("platform", psi={"at_most": 1 << 20}))
    ecdh = found.psi["protocols"]["ecdh"]
    assert ecdh["bytes"] < 10_000
    assert 100 << 20 < ecdh["bytes_hidden"] < 200 << 20
    assert "if all have as many ids as you" in " ".join(text(found).split())
    assert any("how many ids you bring" in line for line in found.leaves)
    hidden = check(config_of("platform", psi={"hide_sizes": True}))
    assert "if all sets are filled up to psi.at_most" in " ".join(text(hidden).split())
    assert any("psi.at_most, in place of how many ids you bring" in line for line in hidden.leaves)


def test_ids_of_another_type(config_of: Make) -> None:
    found = check(config_of("platform", ids={"type": "integer"}))
    assert [type(fault) for fault in found.faults] == [IdError]


def test_a_protocol_for_fewer_parties(config_of: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    from psi.protocols import EcdhPsi

    monkeypatch.setattr(EcdhPsi, "parties", range(2, 3))
    found = check(config_of("platform"))
    assert "psi.protocol: ecdh is for 2 parties, and the contract has 3" in str(found.faults[0])


def test_the_text_shows_every_column_and_no_cell(config_of: Make) -> None:
    found = check(config_of("platform"))
    page = text(found)
    for word in ("age", "city", "converted", "email", "2 usable", "leakage:", "unaudited", "All is well."):
        assert word in page
    for cell in ("ann", "Oslo", "Rome"):
        assert cell not in page
        assert cell not in str(found.as_json())
    assert max(map(len, page.splitlines())) <= 110


def test_a_protocol_that_says_more_than_can_wait(config_of: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(psi, "load", lambda name: Talkative())
    with pytest.raises(ConfigError, match=r"psi\.at_most"):
        own_protocols(config_of("platform"))


def test_an_insecure_protocol_is_warned_about(config_of: Make) -> None:
    found = check(config_of("platform", psi={"protocol": "insecure-hash", "allow_insecure": True}))
    assert "warning      insecure-hash hides nothing: whoever guesses an id finds it" in text(found)
    assert not any("never an id" in line for line in found.leaves)


def test_what_crosses_is_said_as_the_codec_writes_it(config_of: Make) -> None:
    """And what importance by columns tells beside it, which is more than otherwise."""
    small = {"activations": "int8", "gradients": "bf16"}
    changes = {"codec": small, "evaluation": {"importance": "columns"}}
    leaves = check(config_of("logistics", **changes)).leaves
    assert any("32 int8 numbers a row and step, the activations" in line for line in leaves)
    assert any("which rows share a value" in line for line in leaves)
    leaves = check(config_of("platform", **changes)).leaves
    assert any("32 bfloat16 numbers a row and step, the gradients" in line for line in leaves)
    assert any("without each group of their columns" in line for line in leaves)
    few = {"activations": "randtopk", "keep": 4}
    leaves = check(config_of("logistics", codec=few)).leaves
    assert any("4 of 32 float32 numbers, and which, a row and step" in line for line in leaves)
    assert not any("share a value" in line for line in leaves)


def test_further_trainings_leave_too(config_of: Make) -> None:
    again = {"evaluation": {"contribution": "retrain"}}
    leaves = check(config_of("logistics", **again)).leaves
    assert any("to platform: the same of 1 further bottom model(s)" in line for line in leaves)
    leaves = check(config_of("platform", **again)).leaves
    assert any("further trainings, each without one of them" in line for line in leaves)
    assert not any("further" in line for line in check(config_of("platform")).leaves)


@pytest.mark.usefixtures("hub")
def test_what_a_run_may_spend_is_told_and_refused(config_of: Make) -> None:
    noise = {"embedding_clip": 1.0, "embedding_sigma": 4.0, "embedding_budget": 9.0}
    config = config_of("logistics", privacy=noise, training={"epochs": 10})
    said = (
        "with platform a run may spend epsilon 8.08 at delta 1e-05; spent so far 0.00, with it 8.08; budget 9"
    )
    assert check(config).privacy["spending"] == said
    key = config.contract.parties["platform"].key
    earlier = Charge(key, "platform", "1" * 64, "embedding", 1000, 10, 10 / 8)
    ledger_of(config).reserve(earlier)
    [fault] = check(config).faults
    assert isinstance(fault, BudgetError)


def test_what_labels_may_spend_is_told_and_refused(config_of: Make) -> None:
    """Answers that a partner has are known by the label's column: of another, they are others."""
    config = config_of("platform", privacy={"label_epsilon": 2.0, "label_budget": 3.0})
    said = (
        "with advertiser and with logistics a run may spend epsilon 2.00 at delta 1e-05; spent so far {}, "
        "with it 2.00; budget 3"
    )
    assert check(config).privacy["spending"] == said.format("0.00")
    for name in ("advertiser", "logistics"):
        kept = kept_of(own_secret(config.party.storage), ("email", question(config, ())))
        key = config.contract.parties[name].key
        ledger_of(config).reserve(Charge(key, name, "1" * 64, "labels", 9, 1, pure=2.0, kept=kept))
    assert check(config).privacy["spending"] == said.format("2.00")
    assert "privacy      spending: with advertiser and with logistics" in text(check(config))
    other = config_of(
        "platform",
        CSV["platform"].replace("converted", "bought"),
        label="bought",
        privacy={"label_epsilon": 2.0, "label_budget": 3.0},
    )
    [fault] = check(other).faults
    assert isinstance(fault, BudgetError)
