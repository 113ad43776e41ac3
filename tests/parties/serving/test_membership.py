"""With `reveals_membership` partners are asked about others than the common users, and say whom they have."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from parties.audit import compare, read
from parties.contract import Contract
from parties.contract_privacy import Privacy
from parties.model import Model
from parties.own import leakage_of_serving
from parties.serving.answers import Answers
from parties.serving.partner import MOST_ASKED
from parties.serving.rate import TokenBucket
from parties.serving.store import Store, users_of
from parties.spending import ledger_of
from protos.rounds import RemoteProtocolError
from protos.serving_pb2 import Question, Refusal
from splitnn.embedding_dp import EmbeddingDP
from tests.parties.serving.conftest import HUB, PARTNER, PEOPLE, Serving, scores, until, who

BOTH, ALONE = [HUB, PARTNER], [HUB]
NEW = 10
"""People after the alignment: the label holder has the first half of them, the partner the even ones."""
FREE = TokenBucket(1e9, 1e9)


def agreed(contract: Contract, **changes: object) -> Contract:
    made = contract.model_copy(update=changes)
    for cached in ("digest", "canonical"):
        made.__dict__.pop(cached, None)
    return made


@pytest.fixture(scope="module")
def trained(trained: dict[str, Model], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Model]:
    """The same model under a contract that reveals membership, and tables with more people."""
    made = {}
    for name, model in trained.items():
        config = model.config
        table, file = pd.read_csv(config.party.data.file), tmp_path_factory.mktemp(name) / "table.csv"
        new = np.arange(NEW)
        has = new < NEW // 2 if name == HUB else new % 2 == 0
        pd.concat([table, table[:NEW][has].assign(k=PEOPLE + new[has])]).to_csv(file, index=False)
        data = config.party.data.model_copy(update={"file": file})
        party = config.party.model_copy(update={"data": data})
        contract = agreed(config.contract, reveals_membership=True)
        made[name] = replace(model, config=replace(config, party=party, contract=contract))
    return made


def test_others_are_scored_with_whoever_has_them(
    serving: Callable[..., Serving], trained: dict[str, Model]
) -> None:
    served = serving(cached=60.0)
    served.answer()
    others = [*range(PEOPLE, PEOPLE + NEW + 2)]
    found = served.ask([3, *others, 4])
    has = [(other - PEOPLE) % 2 == 0 and other < PEOPLE + NEW for other in others]
    assert who(found) == [BOTH, *(BOTH if one else ALONE for one in has), BOTH]
    # A new person has the columns of an old one, where a party has it.
    halves, ours, old = {}, trained[HUB], np.arange(NEW + 2)
    for name, model in trained.items():
        store = Store.read(model.config, model, users_of(model.config, model))
        rows = np.where(old < NEW // 2, old, store.blank) if name == HUB else old
        with torch.no_grad():
            halves[name] = model.bottom(model.run).eval()(*store.columns(rows))
    for place, (other, both) in enumerate(zip(others, has, strict=True)):
        theirs = halves[PARTNER][place : place + 1] if both else None
        with torch.no_grad():
            logits = ours.top(ours.run).eval()([halves[HUB][place : place + 1], theirs])
        wanted = ours.target().scores(logits, None if both else "")
        assert scores(found)[1 + place] == pytest.approx(float(wanted), abs=1e-6), other
    asked = served.partner.counts.asked
    assert who(served.ask([others[0], others[0]])) == [BOTH, BOTH]
    assert served.partner.counts.asked == asked + 1  # no cache of others, and one question of each


def test_each_question_about_others_is_in_both_audit_logs(
    serving: Callable[..., Serving], trained: dict[str, Model]
) -> None:
    served = serving()
    one = served.answer()
    served.ask([1, PEOPLE])
    served.ask([PEOPLE + 1])
    one.stop()
    until(lambda: not served.partner.there)
    logs = {}
    for me, peer in ((HUB, PARTNER), (PARTNER, HUB)):
        log = trained[me].folder / "serving" / peer / "audit.jsonl"
        until(lambda log=log: '"end":"done"' in log.read_text().splitlines()[-1])
        logs[me] = read(log)
    assert compare(*logs.values()) == []
    asked, answered = ([*log.attempts.values()][-1].sent for log in logs.values())
    assert asked[PARTNER]["question-by-id"][0] == answered[HUB]["answer-by-id"][0] == 2
    assert asked[PARTNER]["question"][0] == answered[HUB]["answer"][0] == 1


@pytest.mark.parametrize("end", [HUB, PARTNER])
def test_rates_hold_for_others(serving: Callable[..., Serving], end: str) -> None:
    served = serving(rate=4.0 if end == HUB else 1e9)
    served.answer(served.answers(per_second=4.0 if end == PARTNER else 1e9))
    assert who(served.ask([PEOPLE, PEOPLE + 2, PEOPLE + 4])) == [BOTH] * 3
    assert who(served.ask([PEOPLE, PEOPLE + 2, PEOPLE + 4])) == [ALONE] * 3
    assert (served.partner.counts.limited, served.partner.counts.refused) == (
        (1, 0) if end == HUB else (0, 1)
    )


def answers_of(model: Model) -> Answers:
    users = users_of(model.config, model)
    return Answers(model.config, model, Store.read(model.config, model, users), users, FREE)


def question(number: int, *digests: bytes, users: bytes = b"") -> Question:
    return Question(number=number, ids=b"".join(digests), users=users)


@pytest.mark.parametrize(
    "bad",
    [
        question(1, b"a" * 16, b"a" * 16),
        question(1, b"b" * 16, b"a" * 16),
        question(1, b"a" * 15),
        question(1, b"a" * 16, users=bytes(4)),
        question(1, *(number.to_bytes(16, "big") for number in range(MOST_ASKED + 1))),
    ],
    ids=["twice", "falling", "short", "both", "too many"],
)
def test_what_is_no_question_about_others_is_a_typed_error(trained: dict[str, Model], bad: Question) -> None:
    with pytest.raises(RemoteProtocolError, match="'platform' asks"):
        answers_of(trained[PARTNER]).answer(bad)


def test_a_common_user_is_asked_about_by_place_only(trained: dict[str, Model]) -> None:
    """Otherwise its releases would be counted twice over."""
    model = trained[PARTNER]
    digest = users_of(model.config, model)[7].tobytes()
    with pytest.raises(RemoteProtocolError, match="asks by id for a common user"):
        answers_of(model).answer(question(1, digest))


def test_nobody_asks_by_id_where_the_contract_does_not_say_so(trained: dict[str, Model]) -> None:
    model = trained[PARTNER]
    quiet = agreed(model.config.contract, reveals_membership=False)
    with pytest.raises(RemoteProtocolError, match="does not say reveals_membership"):
        answers_of(replace(model, config=replace(model.config, contract=quiet))).answer(
            question(1, b"a" * 16)
        )


def test_noise_is_charged_for_others_whom_it_has(trained: dict[str, Model], tmp_path: Path) -> None:
    model = trained[PARTNER]
    contract = agreed(
        model.config.contract,
        privacy=Privacy(embedding_clip=1.0, embedding_sigma=8.0, embedding_budget=2.5),
    )
    party = model.config.party.model_copy(update={"storage": tmp_path})
    made = replace(
        model,
        config=replace(model.config, party=party, contract=contract),
        plan=replace(model.plan, embedding=EmbeddingDP(1.0, 8.0)),
    )
    answers = answers_of(made)
    [digest] = [
        one.tobytes()
        for one in own_digests(made)
        if answers._common is not None and answers._common.find(one[None])[0] < 0
    ][:1]
    nobody = answers.answer(question(1, b"nobody has this."))
    assert (nobody.known, nobody.embeddings) == (b"\0", b"")
    assert sum(one.releases for one in ledger_of(made.config).charges()) == 0
    told = [answers.answer(question(number, digest)) for number in range(2, 40)]
    assert told[0].embeddings[24:] != told[1].embeddings[24:]
    refused = [one.refused for one in told]
    assert refused[0] == Refusal.NONE
    assert refused[-1] == Refusal.BUDGET
    [charge] = ledger_of(made.config).charges()
    assert charge.releases == refused.count(Refusal.NONE)


def own_digests(model: Model) -> np.ndarray:
    from parties.own import own_data

    return own_data(model.config).ids[model.kind].digests


def test_what_is_revealed_is_told_first(trained: dict[str, Model]) -> None:
    contract = trained[HUB].config.contract
    [told] = leakage_of_serving(contract)
    assert "each feature holder learns who outside the alignment is asked about" in told
    assert leakage_of_serving(agreed(contract, reveals_membership=False)) == []
