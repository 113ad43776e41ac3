"""A partner is asked in few questions, answers to whom it concerns, and keeps nobody waiting."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from parties.serving.cache import EmbeddingCache
from parties.serving.partner import MOST_ASKED, Partner
from parties.serving.rate import TokenBucket
from protos.rounds import RemoteProtocolError
from splitnn.crossing import Codecs, Crossing
from splitnn.tensors import encode

USERS, CUT = 10_000, 2


class Echo:
    """A line whose other end answers a user's embedding: its number, and that of the question."""

    def __init__(self, partner: Partner, answers: Callable[["Echo", int, NDArray[np.uint32]], None]) -> None:
        self.partner, self._answers = partner, answers
        self.questions: list[list[int]] = []
        self.hung_up = False

    def ask(self, number: int, users: NDArray[np.uint32]) -> None:
        self.questions.append(users.tolist())
        self._answers(self, number, users)

    def hang_up(self) -> None:
        self.hung_up = True

    def answer(self, number: int, users: NDArray[np.uint32]) -> None:
        self.partner.answered(self, number, payload(number, users))


def payload(number: int, users: NDArray[np.uint32]) -> bytes:
    rows = torch.tensor([[float(user), float(number)] for user in users.tolist()])
    return encode(rows, number)


def at_once(line: Echo, number: int, users: NDArray[np.uint32]) -> None:
    threading.Thread(target=line.answer, args=(number, users)).start()


def soon(line: Echo, number: int, users: NDArray[np.uint32]) -> None:
    threading.Timer(0.02, line.answer, (number, users)).start()


def never(line: Echo, number: int, users: NDArray[np.uint32]) -> None:
    pass


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def made(
    answers: Callable[..., None], hold: float = 3e-4, rate: float = 1e9, clock: Clock | None = None
) -> tuple[Partner, Echo]:
    cache, crossing = EmbeddingCache(USERS, CUT, USERS, 9.0), Crossing(Codecs(), CUT, b"", "peer")
    more = {} if clock is None else {"clock": clock}
    partner = Partner("peer", crossing, cache, TokenBucket(rate, rate), hold, 0.5, 10.0, **more)
    line = Echo(partner, answers)
    partner.attach(line)
    return partner, line


def test_each_request_has_its_own_users_and_several_share_a_question() -> None:
    partner, line = made(soon, hold=0.01)
    draw = np.random.default_rng(1)
    wanted = [np.unique(draw.integers(0, USERS, 50)) for _ in range(40)]

    def one(users: NDArray[np.int64]) -> NDArray[np.float32] | None:
        asked = partner.ask(users)
        assert asked is not None
        asked.leave()
        return asked.wait(partner.now() + 5.0)

    with ThreadPoolExecutor(40) as pool:
        for users, rows in zip(wanted, pool.map(one, wanted), strict=True):
            assert rows is not None
            assert rows[:, 0].tolist() == users.tolist()
    assert len(line.questions) < 40
    assert partner.counts.questions == len(line.questions)
    assert {user for users in wanted for user in users} == {user for one in line.questions for user in one}


def test_a_question_holds_so_many_users_and_none_twice() -> None:
    partner, line = made(never)
    for start in range(5):
        partner.ask(np.arange(start, start + 3000))
    assert all(len(users) == len({*users}) <= MOST_ASKED for users in line.questions)
    assert len(line.questions) == 4  # the last is still open


def test_a_late_partner_is_not_asked_until_it_has_answered() -> None:
    clock = Clock()
    partner, line = made(never, clock=clock)
    assert partner.ask(np.array([1])) is not None
    clock.now = 0.6
    assert partner.ask(np.array([2])) is None
    assert not partner.there
    line.answer(1, np.array([1], np.uint32))
    assert partner.there
    assert partner.ask(np.array([2])) is not None
    assert partner.counts.late == 1
    clock.now = 11.0
    assert partner.ask(np.array([3])) is None
    assert line.hung_up


def test_a_request_waits_until_its_deadline_and_no_longer() -> None:
    clock = Clock()
    partner, _ = made(never, clock=clock)
    asked = partner.ask(np.array([1]))
    assert asked is not None
    asked.leave()
    assert asked.wait(0.0) is None


@pytest.mark.parametrize("over", ["detach", "attach"])
def test_who_goes_lets_all_requests_go(over: str) -> None:
    partner, line = made(never)
    asked = [partner.ask(np.array([user])) for user in range(3)]
    if over == "detach":
        partner.detach(line)
    else:
        partner.attach(Echo(partner, never))
        assert line.hung_up
    assert all(one is not None and one.wait(partner.now() + 9.0) is None for one in asked)
    assert (partner.ask(np.array([5])) is None) == (over == "detach")


def test_an_answer_of_a_stream_that_is_over_is_of_no_account() -> None:
    partner, line = made(never)
    partner.ask(np.array([1]))
    partner.attach(Echo(partner, never))
    line.answer(1, np.array([1], np.uint32))
    assert not partner.cache.get(np.array([1]))[1].any()


@pytest.mark.parametrize(
    "answer",
    [
        encode(torch.zeros(1, CUT + 1), 1),
        encode(torch.zeros(2, CUT), 1),
        encode(torch.zeros(1, CUT), 2),
        encode(torch.zeros(1, CUT), 1)[:-4] + b"\0\0\xc0\x7f",  # NaN
        b"",
    ],
    ids=["width", "count", "number", "not finite", "empty"],
)
def test_what_is_no_answer_is_a_typed_error_and_nobody_waits_for_it(answer: bytes) -> None:
    partner, line = made(never)
    asked = partner.ask(np.array([1]))
    assert asked is not None
    with pytest.raises(RemoteProtocolError, match="the answer from 'peer'"):
        partner.answered(line, 1, answer)
    assert asked.wait(partner.now() + 9.0) is None
    assert not partner.cache.get(np.array([1]))[1].any()


@pytest.mark.parametrize(
    ("known", "rows"), [(b"", 2), (b"\1", 2), (b"\1\2", 2), (b"\1\0", 2), (b"\1\1", 1), (b"\0\0", 1)]
)
def test_an_answer_that_does_not_say_of_which_others_it_is_is_a_typed_error(known: bytes, rows: int) -> None:
    partner, line = made(never)
    asked = partner.ask(np.array([b"a" * 16, b"b" * 16]).view("V16"))
    assert asked is not None
    with pytest.raises(RemoteProtocolError, match="the answer from 'peer'"):
        partner.answered(line, 1, encode(torch.zeros(rows, CUT), 1), known)
    assert asked.wait(partner.now() + 9.0) is None


def test_common_users_and_others_are_in_questions_of_their_own() -> None:
    partner, line = made(never)
    partner.ask(np.array([1]))
    kinds = [np.array([2, 3]), np.array([b"a" * 16, b"c" * 16]).view("V16")]
    asked = [partner.ask(people) for people in (*kinds, kinds[1][1:])]
    for one in asked:
        assert one is not None
        one.leave()
    assert [len(people) for people in line.questions] == [1, 2, 2]
    partner.answered(line, 3, encode(torch.ones(1, CUT), 3), b"\0\1")
    rows = [one.wait(0.0) for one in asked if one is not None]
    assert rows[0] is None
    assert rows[1] is not None
    assert np.isnan(rows[1]).tolist() == [[True] * CUT, [False] * CUT]
    assert rows[2] is not None
    assert rows[2].tolist() == [[1.0] * CUT]


def test_an_answer_to_nothing_is_a_typed_error() -> None:
    _, line = made(never)
    with pytest.raises(RemoteProtocolError, match="was not asked"):
        line.answer(7, np.array([1], np.uint32))


def test_no_more_is_asked_than_the_cap_allows() -> None:
    partner, _ = made(at_once, rate=100)
    assert partner.ask(np.arange(90)) is not None
    assert partner.ask(np.arange(90)) is None
    assert partner.counts.limited == 1


def test_a_refusal_lets_the_request_go_and_one_for_good_ends_the_asking() -> None:
    partner, line = made(never)
    first = partner.ask(np.array([1]))
    assert first is not None
    partner.refused(line, 1, "too often", for_good=False)
    assert first.wait(partner.now() + 9.0) is None
    assert partner.there
    assert partner.ask(np.array([1])) is not None
    partner.refused(line, 2, "spent", for_good=True)
    assert partner.ask(np.array([1])) is None
    partner.attach(Echo(partner, never))
    assert partner.ask(np.array([1])) is not None
