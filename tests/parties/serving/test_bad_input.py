"""Bad input over the real link: a typed status, or the documented fallback; and the server lives."""

import shutil
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import product
from pathlib import Path
from typing import Any

import grpc
import pandas as pd
import pytest
import torch

from parties import certs
from parties.address import Address
from parties.certs import Identity
from parties.errors import IdentityError
from parties.model import Model
from parties.serving.answers import Answers
from parties.serving.fresh import Fresh
from parties.serving.hub import PartnerHub
from parties.serving.store import Store, users_of
from parties.sources.files import source_of
from protos.rounds import RemoteProtocolError
from protos.serving_pb2 import Answer, Question
from splitnn.tensors import encode
from tests.parties.serving.conftest import HUB, PARTNER, PEOPLE, Serving, free, scores, until, who

BOTH = [HUB, PARTNER]


def refusal(call: Callable[[], Any]) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return caught.value.code(), caught.value.details()


def answers_well(served: Serving) -> None:
    """Both ends still do."""
    if not served.partner.there:
        served.answer()
    assert who(served.ask([1, 2])) == [BOTH, BOTH]


@pytest.mark.parametrize(
    ("ids", "why"),
    [
        ([], "no ids"),
        ([*range(301)], "301 ids, more than the 300 of serve.most_ids"),
        (["seven"], "id 1 is blank, or none of type integer"),
        ([1, " "], "id 2 is blank"),
        ([["1", "2"]], "id 1 has 2 parts, not 1"),
        ([[]], "id 1 has 0 parts"),
    ],
)
def test_what_is_no_request_is_refused_and_the_next_is_answered(
    serving: Callable[..., Serving], ids: list[object], why: str
) -> None:
    served = serving()
    code, told = refusal(lambda: served.ask(ids))
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert why in told
    assert "seven" not in told
    answers_well(served)


@pytest.mark.parametrize(
    ("one", "code"),
    [
        (b"\x0a\x03\x0a\x011", grpc.StatusCode.RESOURCE_EXHAUSTED),  # more bytes than a message may have
        (b"\x0a\x00", grpc.StatusCode.INVALID_ARGUMENT),
    ],
    ids=["long", "short"],
)
def test_a_million_ids_are_refused(
    serving: Callable[..., Serving], one: bytes, code: grpc.StatusCode
) -> None:
    served = serving()
    assert refusal(lambda: served.send(one * 1_000_000))[0] is code
    answers_well(served)


def test_garbage_is_refused(serving: Callable[..., Serving]) -> None:
    served = serving()
    assert refusal(lambda: served.send(b"\xff" * 100))[0] is grpc.StatusCode.INVALID_ARGUMENT
    answers_well(served)


def test_ids_that_nobody_knows_are_scored_alone(serving: Callable[..., Serving]) -> None:
    served = serving()
    served.answer()
    assert who(served.ask([PEOPLE + 7, -5])) == [[HUB]] * 2
    assert served.partner.counts.asked == 0
    answers_well(served)


@pytest.mark.parametrize("name", [HUB, PARTNER, "advertiser"])
def test_a_client_without_a_pinned_key_is_refused(
    serving: Callable[..., Serving], identities: dict[str, Identity], name: str
) -> None:
    served = serving()
    code, _ = refusal(lambda: served.ask([1], identity=identities[name]))
    assert code is grpc.StatusCode.PERMISSION_DENIED
    answers_well(served)


@pytest.mark.parametrize("fault", ["none", "another CA", "expired"])
def test_a_client_without_a_certificate_of_the_ca_is_not_heard(
    serving: Callable[..., Serving], client: Identity, certificates: Path, tmp_path: Path, fault: str
) -> None:
    served = serving()
    bad: Any = replace(client, key=None, certificate=None)
    if fault != "none":
        if fault == "expired":
            for file in ("ca.pem", "ca.key"):
                shutil.copy(certificates / file, tmp_path)
        certs.issue(tmp_path, ["webshop"], now=datetime.now(UTC) - timedelta(days=366))
        key, certificate = ((tmp_path / f"webshop.{end}").read_bytes() for end in ("key", "pem"))
        bad = replace(client, key=key, certificate=certificate)
    code, _ = refusal(lambda: served.ask([1], timeout=2.0, identity=bad))
    assert code is grpc.StatusCode.UNAVAILABLE
    answers_well(served)


@pytest.mark.parametrize(
    ("differs", "why"),
    [
        ("model", "serves another version of the model, with digest 7878"),
        ("people", "another list of common users, with digest 7878"),
    ],
)
def test_another_version_is_refused_by_digest_until_it_is_the_same(
    serving: Callable[..., Serving], trained: dict[str, Model], differs: str, why: str
) -> None:
    served = serving()
    one = served.answering()
    good = one.serves
    one.serves = good._replace(host=replace(good.host, **{differs: b"x" * 32}))
    thread = threading.Thread(target=one.serve, daemon=True)
    thread.start()
    served.stack.callback(thread.join, 5.0)
    served.stack.callback(one.stop)
    until(lambda: any(f"logistics {'has ' * (differs == 'people')}{why}" in line for line in served.said))
    until(lambda: any(line.endswith("; dialling again") for line in served.said))
    assert who(served.ask([1])) == [[HUB]]
    one.switch(good.host, trained[PARTNER], good.answers)
    until(lambda: served.partner.there)
    assert who(served.ask([1, 2])) == [BOTH, BOTH]


class Garbled(Answers):
    """A partner that answers this."""

    payload: bytes = b""

    def answer(self, question: Question) -> Answer:
        return Answer(number=question.number, embeddings=self.payload)


@pytest.mark.parametrize(
    "payload",
    [
        encode(torch.zeros(1, 4), 1),
        encode(torch.zeros(2, 3), 1),
        encode(torch.zeros(1, 3), 1)[:-4] + b"\0\0\xc0\x7f",
        encode(torch.zeros(1, 3), 1)[:-4] + b"\0\0\x80\x7f",
        b"",
    ],
    ids=["wide", "many", "not a number", "infinite", "empty"],
)
def test_an_embedding_that_is_none_is_left_out_and_its_sender_is_told(
    serving: Callable[..., Serving], payload: bytes
) -> None:
    served = serving()
    bad = served.answers()
    bad.__class__, bad.payload = Garbled, payload  # type: ignore[attr-defined]
    with ThreadPoolExecutor(1) as pool:
        ended = pool.submit(served.answering(bad).serve)
        until(lambda: served.partner.there)
        assert who(served.ask([1])) == [[HUB]]
        assert isinstance(ended.exception(5.0), RemoteProtocolError)
    assert any("the answer from 'logistics'" in line for line in served.said)
    answers_well(served)


def test_an_embedding_that_makes_no_score_is_left_out_and_not_kept(serving: Callable[..., Serving]) -> None:
    """Finite, but so large that the network's numbers are not."""
    served = serving(cached=60.0)
    alone = scores(served.ask([1]))
    top = served.scorer._top
    huge = (torch.tensor([signs]) * 3e38 for signs in product((1.0, -1.0), repeat=3))
    with torch.inference_mode():
        payload = next(encode(one, 1) for one in huge if not top([torch.ones(1, 3), one]).isfinite().all())
    bad = served.answers()
    bad.__class__, bad.payload = Garbled, payload  # type: ignore[attr-defined]
    sender = served.answer(bad)
    found = served.ask([1])
    assert who(found) == [[HUB]]
    assert scores(found) == pytest.approx(alone, abs=1e-6)
    assert "logistics answers with embeddings that make no score; it is left out of those" in served.said
    sender.stop()
    until(lambda: not served.partner.there)
    served.answer()
    assert who(served.ask([1, 2])) == [BOTH, BOTH]


@pytest.mark.parametrize("name", [HUB, PARTNER])
def test_a_file_of_another_schema_is_said_and_the_rows_before_go_on(
    serving: Callable[..., Serving], trained: dict[str, Model], tmp_path: Path, name: str
) -> None:
    served, model, file = serving(), trained[name], tmp_path / "table.csv"
    answers, ours, column = served.answers(), served.scorer, {HUB: "x", PARTNER: "amount"}[name]
    served.answer(answers)
    table = pd.read_csv(model.config.party.data.file)
    table.to_csv(file, index=False)
    data = model.config.party.data.model_copy(update={"file": file})
    config = replace(model.config, party=model.config.party.model_copy(update={"data": data}))
    users, said = users_of(model.config, model), list[str]()
    whose = ours if name == HUB else answers
    fresh = Fresh(
        source_of(file),
        whose.store,
        lambda: Store.read(config, model, users),
        lambda store: setattr(whose, "store", store),
        said.append,
    )
    before = scores(served.ask([1, 2]))
    for bad in (table.drop(columns=column), table.assign(**{column: "many"}), table.iloc[:0, :0]):
        bad.to_csv(file, index=False)
        fresh.look(asked=True)
        assert said[-1].endswith("; the rows before go on serving")
        assert (scores(served.ask([1, 2])) == before).all()
    table.assign(**{column: 2.0}).to_csv(file, index=False)
    fresh.look(asked=True)
    assert said[-1].endswith("240 rows read anew")
    assert (scores(served.ask([1, 2])) != before).all()
    answers_well(served)


def test_a_partner_with_another_key_than_the_pinned_is_refused(
    serving: Callable[..., Serving], identities: dict[str, Identity]
) -> None:
    served = serving()
    one = served.answering()
    one.serves = one.serves._replace(host=replace(one.serves.host, identity=identities["advertiser"]))
    with pytest.raises(IdentityError, match="permission denied by platform"):
        one.serve()
    answers_well(served)


def test_a_label_holder_without_the_pinned_key_is_refused(
    serving: Callable[..., Serving], trained: dict[str, Model], certificates: Path, tmp_path: Path
) -> None:
    """With a certificate of its name from the same CA: TLS lets it pass."""
    served = serving()
    shutil.copy(certificates / "ca.pem", tmp_path)
    shutil.copy(certificates / "ca.key", tmp_path)
    certs.issue(tmp_path, [HUB])
    stranger = certs.load(tmp_path / "ca.pem", tmp_path / f"{HUB}.pem", tmp_path / f"{HUB}.key", HUB)
    host = replace(served.hub.serves.host, identity=stranger)
    other = PartnerHub(host, trained[HUB], free(), {PARTNER: served.partner}, served.said.append)
    other.open()
    served.stack.callback(other.close)
    one = served.answering()
    one._address = Address("127.0.0.1", other.port)
    with pytest.raises(IdentityError, match="platform has the key sha256:"):
        one.serve()
    assert not served.partner.there
    answers_well(served)
