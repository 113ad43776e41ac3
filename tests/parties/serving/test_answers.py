"""What a feature holder answers, what it does not, and what it is charged for it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from parties.contract_privacy import Privacy
from parties.model import Model
from parties.serving.answers import Answers
from parties.serving.partner import MOST_ASKED
from parties.serving.rate import TokenBucket
from parties.serving.store import Store, users_of
from parties.spending import ledger_of
from protos.rounds import RemoteProtocolError
from protos.serving_pb2 import Question, Refusal
from splitnn.embedding_dp import EmbeddingDP
from splitnn.tensors import decode
from tests.parties.serving.conftest import PARTNER

FREE = TokenBucket(1e9, 1e9)


def question(number: int, *users: int) -> Question:
    return Question(number=number, users=np.array(users, "<u4").tobytes())


def answers_of(model: Model, cap: TokenBucket = FREE) -> Answers:
    users = users_of(model.config, model)
    return Answers(model.config, model, Store.read(model.config, model, users), users, cap)


@pytest.fixture
def private(trained: dict[str, Model], tmp_path: Path) -> Model:
    """With noise, and a budget for a few answers."""
    model = trained[PARTNER]
    agreed = model.config.contract.model_copy(
        update={"privacy": Privacy(embedding_clip=1.0, embedding_sigma=8.0, embedding_budget=2.5)}
    )
    agreed.__dict__.pop("digest", None)
    party = model.config.party.model_copy(update={"storage": tmp_path})
    config = replace(model.config, party=party)
    plan = replace(model.plan, embedding=EmbeddingDP(1.0, 8.0))
    made = replace(model, config=config, plan=plan)
    object.__setattr__(made, "config", replace(config, contract=agreed))
    return made


def test_an_answer_has_the_embeddings_of_these_users(trained: dict[str, Model]) -> None:
    model = trained[PARTNER]
    answers = answers_of(model)
    found = answers.answer(question(3, 2, 5, 11))
    assert found.number == 3
    with torch.no_grad():
        rows = answers.store.columns(answers.store.rows[[2, 5, 11]])
        wanted = model.bottom(model.run).eval()(*rows)
    torch.testing.assert_close(decode(found.embeddings, "it", wanted.shape, 3), wanted, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    "asked",
    [
        question(1),
        question(1, 5, 5),
        question(1, 7, 5),
        question(1, 0, 100_000),
        question(1, *range(MOST_ASKED + 1)),
        Question(number=1, users=b"\0\0\0\0\1"),
        question(0, 1),
    ],
    ids=["none", "twice", "falling", "beyond", "too many", "odd", "number"],
)
def test_what_is_no_question_is_a_typed_error(trained: dict[str, Model], asked: Question) -> None:
    with pytest.raises(RemoteProtocolError, match="'platform'"):
        answers_of(trained[PARTNER]).answer(asked)


def test_a_question_is_answered_once(trained: dict[str, Model]) -> None:
    answers = answers_of(trained[PARTNER])
    answers.answer(question(2, 1))
    with pytest.raises(RemoteProtocolError, match="question 2 after 2"):
        answers.answer(question(2, 1))
    answers.begin()
    answers.answer(question(1, 1))


def test_what_is_over_the_cap_is_refused(trained: dict[str, Model]) -> None:
    answers = answers_of(trained[PARTNER], TokenBucket(1e-9, 2))
    assert not answers.answer(question(1, 1, 2)).refused
    assert answers.answer(question(2, 3)).refused == Refusal.RATE


def test_each_answer_has_noise_of_its_own_and_is_charged_before_it_leaves(private: Model) -> None:
    answers = answers_of(private)
    first = answers.answer(question(1, 1, 2)).embeddings
    again = answers.answer(question(2, 1, 2)).embeddings
    assert first[24:] != again[24:]
    (charge,) = ledger_of(private.config).charges()
    assert (charge.mechanism, charge.releases) == ("embedding", 2)
    assert charge.rho == pytest.approx(private.plan.embedding.rho(2))
    answers.answer(question(3, 7))  # another user, less often told of
    assert ledger_of(private.config).charges() == [charge]


def test_a_budget_that_is_used_up_refuses_and_charges_no_more(private: Model) -> None:
    answers = answers_of(private)
    told = [answers.answer(question(number, 1)) for number in range(1, 40)]
    refused = [one.refused for one in told]
    assert refused == sorted(refused)
    assert refused[0] == Refusal.NONE
    assert refused[-1] == Refusal.BUDGET
    assert not told[-1].embeddings
    (charge,) = ledger_of(private.config).charges()
    assert charge.releases == refused.count(Refusal.NONE)
    more = answers_of(private)  # a process later the account stands
    assert more.answer(question(1, 1)).refused == Refusal.BUDGET
    assert not more.answer(question(2, 1)).embeddings
