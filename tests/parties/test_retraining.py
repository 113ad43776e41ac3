"""Trainings without each feature holder in turn: the same bits as the reference on the fewer parties."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from parties.audit import read
from parties.egress import NAME as AUDIT
from parties.ledger import Ledger
from parties.phases import Outcome, Prepared, features_of, plan_of, whole_run
from parties.retraining import retrained
from parties.storage import private_seed
from parties.train import complete_run
from parties.unfinished import Unfinished
from protos.memory import together
from protos.rounds import Progress, Receive, Round, Save, Send
from splitnn.exact import LabelHolderResult
from splitnn.schedules import SCHEDULES
from tests.faults.simulated.worlds import Shape, World, make

HUB = "platform"
RETRAIN = ', contribution = "retrain"'


def prepared(folder: Path, **options: Any) -> dict[str, Prepared]:
    world: World = make(folder, Shape(people=80, evaluation=RETRAIN, **options))
    return {name: world.at(folder / "storage", name) for name in world.names}


def outcomes(parties: dict[str, Prepared]) -> dict[str, Outcome]:
    rounds = {name: whole_run(one, Unfinished.of(one.config, {})) for name, one in parties.items()}
    return together(rounds).results  # type: ignore[return-value]


@pytest.mark.parametrize(
    "options",
    [
        {"task": "binary"},
        {"parties": 4, "task": "binary"},
        {"training": ', schedule = "pipelined", in_flight = 2'},
        {"training": ', schedule = "celu", cache = 2, reuse = 1, in_flight = 1'},
        {"model": ", party_dropout = 0.3", "further": 'codec = { activations = "int8", gradients = "bf16" }'},
    ],
    ids=["three", "four", "pipelined", "celu", "party dropout and codecs"],
)
def test_each_is_the_reference_without_the_party(tmp_path: Path, options: dict[str, Any]) -> None:
    parties = prepared(tmp_path, **options)
    ran = outcomes(parties)
    heard: list[tuple[str, Round]] = []

    results = together(
        {name: retrained(one, ran[name]) for name, one in parties.items()},
        lambda name, word: heard.append((name, word)),
    ).results
    found = results.pop(HUB)[0]
    assert [*found] == sorted({*parties} - {HUB})
    assert not any(one for one, _ in results.values())
    assert not any(isinstance(word, Save) for _, word in heard)

    labels, examples = parties[HUB].data.labels, ran[HUB].examples
    assert labels is not None
    plan = replace(plan_of(parties[HUB].config.contract), importance="none")
    for absent, result in found.items():
        others = {HUB: parties[HUB]} | {name: parties[name] for name in sorted({*found} - {absent})}
        expected = SCHEDULES[plan.schedule].reference(
            plan,
            examples.split,
            {
                name: features_of(ran[name].pipeline, one.data.table, ran[name].examples.rows)
                for name, one in others.items()
            },
            labels.of(examples.rows, examples.split, None),
            {
                name: private_seed(one.secret, ran[name].meeting.run, f"model of {name} without {absent}")
                for name, one in others.items()
            },
            {},
        )
        assert isinstance(result, LabelHolderResult)
        assert torch.equal(result.scores, expected.scores)
        assert result.history == expected.history
        assert [*result.without] == [*others][1:] if plan.party_dropout else not result.without
    apart = [result.scores for result in found.values()]
    assert not any(torch.equal(one, ran[HUB].trained.scores) for one in apart)  # type: ignore[union-attr]


def test_who_is_left_out_says_nothing_and_hears_one_word(tmp_path: Path) -> None:
    parties = prepared(tmp_path, task="binary")
    ran = outcomes(parties)
    phase = dict.fromkeys(parties, "")
    heard = []

    def hear(name: str, word: Round) -> None:
        if isinstance(word, Progress):
            phase[name] = word.phase
        else:
            heard.append((phase[name], name, word))

    together({name: retrained(one, ran[name]) for name, one in parties.items()}, hear)
    for absent in sorted({*parties} - {HUB}):
        [word] = [
            word for at, name, word in heard if name == absent and at == f"training again without {absent}"
        ]
        assert word == Receive(HUB, "trained without", 0, word.within)
        to_it = [
            word
            for at, _, word in heard
            if isinstance(word, Send) and word.to == absent and at == f"training again without {absent}"
        ]
        assert to_it == [Send(absent, "trained without", b"")]


def test_it_is_charged_told_and_logged(tmp_path: Path) -> None:
    parties = prepared(tmp_path, task="binary", further='privacy.purpose = "to see what each brings"')
    rounds = {name: complete_run(one, Unfinished.of(one.config, {})) for name, one in parties.items()}
    found = together(rounds).results
    record = found[HUB]["contribution"]
    told = [(entry["partners"], entry["way"]) for entry in record["lifts"]]
    assert told == [
        (["advertiser", "logistics"], "retrained"),
        (["advertiser"], "retrained"),
        (["logistics"], "retrained"),
    ]
    assert record["leak"].keys() == {"advertiser", "logistics"}
    assert record["leak"]["logistics"].keys() == {"norm", "norm_rows", "cosine", "cosine_rows"}
    for name, one in parties.items():
        summary = found[name]
        assert ("contribution" in summary) == (name == HUB)
        config, run = one.config, summary["run"]
        charges = Ledger(config.party.storage, name, config.contract.parties[name].key).charges()
        often = {charge.mechanism: charge.releases for charge in charges if charge.run == run}
        mechanism = "labels" if name == HUB else "embedding"
        left_out = sorted({*parties} - {HUB, name})
        assert [*often] == [mechanism, *(f"{mechanism} without {absent}" for absent in left_out)]
        spent = summary["privacy"]["partners"]
        for partner in spent.values():
            own = [c for c in charges if c.run == run and c.name in spent and spent[c.name] is partner]
            assert partner["releases"] == sum(charge.releases for charge in own)
        folder = config.party.storage / f"faults-{run[:12]}" / name
        assert json.loads((folder / "summary.json").read_text()) == summary
        phases = {
            json.loads(line)["phase"]
            for line in (folder / AUDIT).read_text().splitlines()
            if '"kind":"activation"' in line or '"kind":"gradient"' in line
        }
        assert phases == {"training", *(f"training again without {absent}" for absent in [*left_out])}
        assert summary["parts"]["contribution"]["bytes_sent"] >= 0
        assert read(folder / AUDIT).party == name
