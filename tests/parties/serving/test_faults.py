"""Who asks, who answers, a disk or a clock fails: scores go on without it, and with it once it is well."""

import errno
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
import pytest

from parties.address import Address
from parties.audit import compare, read
from parties.certs import Identity
from parties.errors import IdentityError
from parties.model import Model
from parties.serving.answers import Answers
from parties.serving.applications import AT_ONCE, SERVICE
from parties.serving.hub import PartnerHub
from protos.serving_pb2 import Answer, Id, Question, ScoreRequest
from tests.parties.conftest import Reissue
from tests.parties.serving.conftest import HUB, PARTNER, Serving, until, who

BOTH = [[HUB, PARTNER]]


def frozen(answers: Answers) -> threading.Event:
    """Until this is set, and then it goes on."""
    thawed, answer = threading.Event(), answers.answer

    def late(question: Question) -> Answer:
        thawed.wait(20.0)
        return answer(question)

    answers.answer = late  # type: ignore[method-assign]
    return thawed


def test_a_label_holder_that_was_started_anew_is_found(
    serving: Callable[..., Serving], trained: dict[str, Model]
) -> None:
    served = serving()
    one = served.answer()
    port = served.hub.port
    served.hub.close()
    until(lambda: not one.there)
    assert who(served.ask([1])) == [[HUB]]
    where, partners = Address("127.0.0.1", port), {PARTNER: served.partner}
    again = PartnerHub(served.hub.serves.host, trained[HUB], where, partners, served.said.append)
    again.open()
    served.stack.callback(again.close)
    until(lambda: served.partner.there)
    assert who(served.ask([1])) == BOTH


def test_clients_that_are_gone_keep_nobody_waiting(serving: Callable[..., Serving]) -> None:
    """More than are answered at once."""
    served = serving(deadline=0.3)
    answers = served.answers()
    thawed = frozen(answers)
    served.answer(answers)
    own = served.client
    credentials = grpc.ssl_channel_credentials(own.ca, own.key, own.certificate)
    options = [("grpc.ssl_target_name_override", HUB), ("grpc.enable_http_proxy", 0)]
    with grpc.secure_channel(f"127.0.0.1:{served.applications.port}", credentials, options) as channel:
        call = channel.unary_unary(f"/{SERVICE}/Score")
        request = ScoreRequest(ids=[Id(parts=["1"])]).SerializeToString()
        gone = [call.future(request, timeout=30.0) for _ in range(AT_ONCE + 8)]
        until(lambda: served.partner.counts.questions > 0)
        for one in gone:
            one.cancel()
    assert who(served.ask([2])) == [[HUB]]
    thawed.set()
    until(lambda: who(served.ask([2])) == BOTH)
    assert served.tally.requests["failed"] == 0


@pytest.fixture
def full(monkeypatch: pytest.MonkeyPatch) -> set[Path]:
    """Files for which there is room for a few bytes, and no more."""
    files, write = set[Path](), os.write

    def limited(file: int, data: bytes) -> int:
        if Path(f"/proc/self/fd/{file}").readlink() not in files:
            return write(file, data)
        if len(data) <= 20:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(file, data[:-20])

    monkeypatch.setattr(os, "write", limited)
    return files


@pytest.mark.parametrize("name", [HUB, PARTNER])
def test_nothing_leaves_while_the_disk_of_the_egress_log_is_full(
    serving: Callable[..., Serving], trained: dict[str, Model], full: set[Path], name: str
) -> None:
    served = serving(deadline=0.5)
    one = served.answer()
    assert who(served.ask([1])) == BOTH
    logs = {
        me: trained[me].folder / "serving" / peer / "audit.jsonl"
        for me, peer in ((HUB, PARTNER), (PARTNER, HUB))
    }
    full.add(logs[name].resolve())
    before = served.partner.counts.answered
    for person in range(2, 5):
        assert who(served.ask([person])) == [[HUB]]
    assert served.partner.counts.answered == before
    until(lambda: any("No space left on device" in line for line in served.said))
    full.clear()
    until(lambda: who(served.ask([5])) == BOTH)
    one.stop()
    until(lambda: not served.partner.there)
    for log in logs.values():
        until(lambda log=log: '"end":"done"' in log.read_text().splitlines()[-1])
    assert compare(*(read(log) for log in logs.values())) == []


@pytest.mark.parametrize("jump", [-86_400.0 * 365, 86_400.0 * 365])
def test_a_clock_that_jumps_disturbs_no_score(
    serving: Callable[..., Serving], monkeypatch: pytest.MonkeyPatch, jump: float
) -> None:
    served, real = serving(cached=60.0), time.time
    served.answer()
    assert who(served.ask([1])) == BOTH
    monkeypatch.setattr(time, "time", lambda: real() + jump)
    found = [served.ask([person], timeout=None) for person in (1, 2)]  # gRPC counts a deadline by that clock
    assert [who(one) for one in found] == [BOTH, BOTH]
    assert served.partner.counts.cached == 1
    assert served.partner.there


@pytest.mark.slow
def test_a_line_outlives_its_certificate_and_no_other_is_opened(
    serving: Callable[..., Serving], reissue: Reissue
) -> None:
    ends = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=6)
    served = serving()
    one = served.answering()
    one.serves = one.serves._replace(host=replace(one.serves.host, identity=reissue(PARTNER, ends)))
    with ThreadPoolExecutor(1) as pool:
        ended = pool.submit(one.serve)
        until(lambda: served.partner.there)
        time.sleep(max((ends - datetime.now(UTC)).total_seconds(), 0) + 1.5)
        assert who(served.ask([1])) == BOTH
        one._call.cancel()
        fault = ended.exception(20.0)
    assert isinstance(fault, IdentityError)
    assert "logistics.pem: has expired" in str(fault)
    assert who(served.ask([1])) == [[HUB]]
    served.answer()
    assert who(served.ask([1])) == BOTH


def test_a_client_whose_certificate_has_expired_is_not_heard(
    serving: Callable[..., Serving], reissue: Reissue, client: Identity
) -> None:
    served = serving()
    old = reissue("webshop", datetime.now(UTC) - timedelta(minutes=1), client)
    with pytest.raises(grpc.RpcError) as caught:
        served.ask([1], timeout=2.0, identity=old)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert len(served.ask([1]).scored) == 1
