"""Served scores are the offline ones, whoever asks how; without the partner they are what is left."""

import json
import threading
from collections.abc import Callable

import grpc
import numpy as np
import pytest
import torch

from parties.audit import compare, read
from parties.egress import earlier
from parties.errors import StorageError
from parties.model import Model
from parties.serving.notes import QUESTION, Notes
from parties.target import Target
from protos.serving_pb2 import Answer, Question
from tests.parties.serving.conftest import HUB, PARTNER, PEOPLE, Serving, scores, until, who


def test_every_path_gives_the_offline_score(serving: Callable[..., Serving], offline: np.ndarray) -> None:
    served = serving(cached=60.0)
    served.answer()
    single = served.ask([17])
    whole = served.ask([*range(PEOPLE)])
    again = served.ask([*range(PEOPLE)])
    assert who(single) == [[HUB, PARTNER]]
    assert who(whole) == [[HUB, PARTNER]] * PEOPLE == who(again)
    assert scores(single) == pytest.approx(offline[17:18], abs=1e-6)
    assert scores(whole) == pytest.approx(offline, abs=1e-6)
    assert scores(again) == pytest.approx(offline, abs=1e-6)
    assert served.partner.counts.cached == PEOPLE + 1


def test_an_unknown_id_is_scored_alone_and_nobody_is_asked(
    serving: Callable[..., Serving], trained: dict[str, Model]
) -> None:
    served = serving()
    served.answer()
    log = trained[HUB].folder / "serving" / PARTNER / "audit.jsonl"
    before = log.read_bytes()
    found = served.ask([PEOPLE + 7, PEOPLE + 8])
    assert log.read_bytes() == before
    assert who(found) == [[HUB]] * 2
    assert served.partner.counts.asked == served.partner.counts.questions == 0
    mixed = served.ask([3, PEOPLE + 7, 4])
    assert who(mixed) == [[HUB, PARTNER], [HUB], [HUB, PARTNER]]
    assert scores(mixed)[1] == pytest.approx(scores(found)[0], abs=1e-6)
    assert served.partner.counts.asked == 2


def test_each_set_of_parties_has_its_own_calibration(
    serving: Callable[..., Serving], trained: dict[str, Model]
) -> None:
    target = trained[HUB].target()
    assert target.calibration is not None
    assert [*target.fewer] == [""]
    served = serving()
    served.answer()
    found = served.ask([1, PEOPLE + 1])
    assert who(found) == [[HUB, PARTNER], [HUB]]
    assert all(one.calibrated for one in found.took_part)
    store, model = served.scorer.store, trained[HUB]
    with torch.no_grad():
        own = model.bottom(model.run).eval()(*store.columns(np.array([store.blank])))
        logits = model.top(model.run).eval()([own, None])
    assert scores(found)[1] == pytest.approx(float(target.fewer[""].scores(logits)), abs=1e-6)
    assert Target.from_dict(json.loads(json.dumps(target.as_dict()))) == target


def test_without_the_partner_all_are_answered_and_it_comes_back_by_itself(
    serving: Callable[..., Serving], offline: np.ndarray
) -> None:
    served = serving()
    before = served.ask([*range(50)])
    assert who(before) == [[HUB]] * 50
    one = served.answer()
    assert who(served.ask([*range(50)])) == [[HUB, PARTNER]] * 50
    one.stop()
    until(lambda: not served.partner.there)
    assert scores(served.ask([*range(50)])) == pytest.approx(scores(before), abs=1e-6)
    served.answer()
    assert scores(served.ask([*range(50)])) == pytest.approx(offline[:50], abs=1e-6)


def test_a_partner_that_does_not_answer_in_time_is_left_out(serving: Callable[..., Serving]) -> None:
    served, answers = serving(deadline=0.05), None
    answers = served.answers()
    frozen, answer = threading.Event(), answers.answer

    def late(question: Question) -> Answer:
        frozen.wait(5.0)
        return answer(question)

    answers.answer = late  # type: ignore[method-assign]
    served.answer(answers)
    for _ in range(5):
        assert who(served.ask([1])) == [[HUB]]
    frozen.set()
    until(lambda: who(served.ask([1])) == [[HUB, PARTNER]])


def test_context_overrides_columns_of_the_label_holder(
    serving: Callable[..., Serving], trained: dict[str, Model]
) -> None:
    served = serving()
    model, store = trained[HUB], served.scorer.store
    rows = np.array([3, 5])  # ids are rows of this table
    for context in ({"x": "-2"}, {"x": "2"}, {}):
        with torch.no_grad():
            own = model.bottom(model.run).eval()(*store.columns(rows, store.override(context)))
            wanted = model.target().scores(model.top(model.run).eval()([own, None]), "")
        assert scores(served.ask([3, 5], **context)) == pytest.approx(wanted.numpy(), abs=1e-6)
    for context in ({"nothing": "1"}, {"x": "many"}, {"pages": "a"}):
        with pytest.raises(grpc.RpcError) as caught:
            served.ask([3], **context)
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert "many" not in caught.value.details()


def test_who_is_asked_too_much_refuses_and_answers_again(serving: Callable[..., Serving]) -> None:
    served = serving()
    served.answer(served.answers(per_second=20.0))
    assert who(served.ask([*range(20)])) == [[HUB, PARTNER]] * 20
    assert who(served.ask([*range(20)])) == [[HUB]] * 20
    assert served.partner.there
    until(lambda: who(served.ask([1])) == [[HUB, PARTNER]])


@pytest.mark.parametrize("largest", [1 << 26, 500])
def test_all_that_leaves_is_in_both_audit_logs(
    serving: Callable[..., Serving],
    trained: dict[str, Model],
    monkeypatch: pytest.MonkeyPatch,
    largest: int,
) -> None:
    """In one file, or in many."""
    monkeypatch.setattr("parties.serving.notes.LARGEST", largest)
    served = serving()
    one = served.answer()
    for person in range(5):
        served.ask([person])
    one.stop()
    until(lambda: not served.partner.there)
    logs = {}
    for me, peer in ((HUB, PARTNER), (PARTNER, HUB)):
        log = trained[me].folder / "serving" / peer / "audit.jsonl"
        until(lambda log=log: '"end":"done"' in log.read_text().splitlines()[-1])
        logs[me] = read(log)
    assert compare(*logs.values()) == []
    sent, answered = ([*one.attempts.values()][-1].sent for one in logs.values())
    assert sent[PARTNER]["question"][0] == answered[HUB]["answer"][0] == 5
    assert all((len(earlier(log.path)) > 1) == (largest == 500) for log in logs.values())


def test_what_cannot_be_noted_is_not_asked(
    serving: Callable[..., Serving], monkeypatch: pytest.MonkeyPatch
) -> None:
    served = serving()
    one = served.answer()

    def full(notes: Notes, kind: str, number: int, payload: bytes) -> bool:
        if kind == QUESTION:
            raise StorageError("cannot write audit.jsonl: No space left on device")
        return True

    monkeypatch.setattr(Notes, "leaves", full)
    assert who(served.ask([1])) == [[HUB]]
    until(
        lambda: any("No space left on device; scores go on without logistics" in line for line in served.said)
    )
    monkeypatch.undo()
    until(lambda: served.partner.there)
    assert who(served.ask([1])) == [[HUB, PARTNER]]
    assert one.there
