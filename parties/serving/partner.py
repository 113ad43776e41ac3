"""The label holder's view of one feature holder: asks it for embeddings, and never waits for it by mistake.

Several requests at once become one question (a micro-batch): while another question is under way, the first
request holds its own open for `hold` seconds, or until it is full. A partner that has not answered for
`patience` seconds is late: it is not asked until it has, and requests go on without it at once. One that has
not answered for `silence` seconds is hung up on, so that it dials again.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import Any, Final, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from parties.serving.cache import EmbeddingCache
from parties.serving.rate import TokenBucket
from protos.rounds import RemoteProtocolError
from splitnn.crossing import Crossing

MOST_ASKED: Final = 4096
"""Users in a question."""

People: TypeAlias = NDArray[Any]
"""[n]: common users, int64 places in the alignment; or others, digests of their ids, void of 16 bytes."""

OTHERS: Final = "V"
"""The kind of dtype of the latter."""


class Line(Protocol):
    """A stream on which a partner is there."""

    def ask(self, number: int, users: People) -> None: ...

    def hang_up(self) -> None: ...


@dataclass
class Counts:
    """Since the process began: of requests' parts, and of users."""

    asked: int = 0
    questions: int = 0
    answered: int = 0
    cached: int = 0
    late: int = 0
    limited: int = 0
    away: int = 0
    refused: int = 0

    def as_dict(self) -> dict[str, int]:
        return {one.name: getattr(self, one.name) for one in fields(self)}


@dataclass(eq=False)
class _Question:
    """All of one kind of people."""

    parts: list[People] = field(default_factory=list)
    size: int = 0
    users: People = field(default_factory=lambda: np.empty(0, np.int64))
    rows: NDArray[np.float32] | None = None
    opened: float = 0.0
    sent: float = 0.0
    full: threading.Event = field(default_factory=threading.Event)
    over: threading.Event = field(default_factory=threading.Event)


@dataclass(frozen=True)
class Asked:
    """A request's part of a question."""

    users: People
    _question: _Question
    _partner: "Partner"
    _first: bool

    def leave(self) -> None:
        """Hold the question open as long as it may be, and see it off. Call it before `wait`."""
        if self._first:
            self._partner.see_off(self._question)

    def wait(self, until: float) -> NDArray[np.float32] | None:
        """The embeddings [n, cut] of `users`, or None: not answered by then, or not at all. NaN: of somebody
        whom it does not have."""
        question = self._question
        question.over.wait(max(0.0, until - self._partner.now()))
        if question.rows is None:
            return None
        return question.rows[np.searchsorted(question.users, self.users)]


class Partner:
    """crossing: decodes what it answers. users: of the alignment. clock: seconds."""

    def __init__(
        self,
        name: str,
        crossing: Crossing,
        cache: EmbeddingCache,
        cap: TokenBucket,
        hold: float,
        patience: float,
        silence: float,
        say: Callable[[str], None] = lambda line: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name, self.cache, self.counts = name, cache, Counts()
        self._crossing, self._cap, self._say, self._clock = crossing, cap, say, clock
        self._hold, self._patience, self._silence = hold, patience, silence
        self._lock = threading.Lock()
        self._line: Line | None = None
        self._open: dict[str, _Question] = {}  # by kind of people
        self._under_way: dict[int, _Question] = {}  # the oldest first
        self._number = 0
        self._spent = False  # it has said that it will answer no more on this line
        self._distrusted = False  # it was said of this line

    @property
    def there(self) -> bool:
        """Has it a line, and answers?"""
        with self._lock:
            return self._line is not None and not self._spent and self._waited() <= self._patience

    def attach(self, line: Line) -> None:
        """From here on it is asked on this line; questions on the line before have no answer."""
        with self._lock:
            before, self._line, self._spent, self._distrusted = self._line, line, False, False
            self._drop()
        if before is not None:
            before.hang_up()

    def detach(self, line: Line) -> None:
        """The line is over."""
        with self._lock:
            if self._line is line:
                self._line = None
                self._drop()

    def ask(self, users: People) -> Asked | None:
        """For the embeddings of these users, in order, none twice, at most MOST_ASKED; None
        where it is not there to be asked, or may not be asked so much."""
        with self._lock:
            if self._line is None or self._spent:
                self.counts.away += 1
                return None
            waited = self._waited()
            if waited > self._patience:
                self.counts.late += 1
                if waited > self._silence:
                    self._line.hang_up()
                return None
            if not self._cap.take(len(users)):
                self.counts.limited += 1
                return None
            self.counts.asked += len(users)
            question = self._open.get(users.dtype.kind)
            if question is not None and question.size + len(users) > MOST_ASKED:
                self._send(question)
                question = None
            first = question is None
            if question is None:
                question = self._open[users.dtype.kind] = _Question(opened=self._clock())
            question.parts.append(users)
            question.size += len(users)
            if not self._under_way or question.size == MOST_ASKED:
                self._send(question)
                first = False
        return Asked(users, question, self, first)

    def see_off(self, question: _Question) -> None:
        """Once it is full, or has been open for as long as it may."""
        question.full.wait(max(0.0, question.opened + self._hold - self._clock()))
        with self._lock:
            if question in self._open.values():
                self._send(question)

    def now(self) -> float:
        return self._clock()

    def answered(self, line: Line, number: int, payload: bytes, known: bytes = b"") -> None:
        """known: of others than common users, a byte each. Raises RemoteProtocolError for an answer to
        nothing that was asked, and embeddings of another width, or that are not finite."""
        with self._lock:
            if line is not self._line:
                return
            question = self._under_way.pop(number, None)
        if question is None:
            raise RemoteProtocolError(f"{self.name!r} answers question {number}, which it was not asked")
        try:
            what, count = f"the answer from {self.name!r}", len(question.users)
            if question.users.dtype.kind == OTHERS:
                question.rows = self._of_others(payload, what, known, count, number)
            else:
                _, rows = self._crossing.receive_activation(payload, what, count, number)
                question.rows = rows.detach().numpy()
                self.cache.put(question.users, question.rows)
            self.counts.answered += count
        finally:
            question.over.set()

    def distrust(self, users: NDArray[np.int64]) -> None:
        """Its embeddings of these, though finite, make no score: none is used again."""
        self.cache.drop(users)
        with self._lock:
            told, self._distrusted = self._distrusted, True
        if not told:
            self._say(f"{self.name} answers with embeddings that make no score; it is left out of those")

    def _of_others(
        self, payload: bytes, what: str, known: bytes, count: int, number: int
    ) -> NDArray[np.float32]:
        there = np.frombuffer(known, np.uint8)
        if len(there) != count or (there > 1).any() or not (there.any() or not payload):
            raise RemoteProtocolError(f"{what} does not say of whom it is")
        rows = np.full((count, self._crossing.width), np.nan, np.float32)
        if there.any():
            _, found = self._crossing.receive_activation(payload, what, int(there.sum()), number)
            rows[there == 1] = found.detach().numpy()
        return rows

    def refused(self, line: Line, number: int, why: str, for_good: bool) -> None:
        """It does not answer this question. for_good: nor any other, on this line."""
        with self._lock:
            if line is not self._line:
                return
            question = self._under_way.pop(number, None)
            self._spent = self._spent or for_good
            self.counts.refused += 1
        if question is not None:
            question.over.set()
        if for_good:
            self._say(f"{self.name} answers no more: {why}; scores go on without it")

    def _waited(self) -> float:
        """Seconds, for the oldest answer."""
        oldest = next(iter(self._under_way.values()), None)
        return 0.0 if oldest is None else self._clock() - oldest.sent

    def _send(self, question: _Question) -> None:
        self._open.pop(question.parts[0].dtype.kind)
        question.full.set()
        if self._line is None:  # it has gone while the question was held open
            question.over.set()
            return
        self._number += 1
        parts = question.parts
        question.users = parts[0] if len(parts) == 1 else np.unique(np.concatenate(parts))
        question.sent = self._clock()
        self._under_way[self._number] = question
        self.counts.questions += 1
        self._line.ask(self._number, question.users)

    def _drop(self) -> None:
        for question in self._under_way.values():
            question.over.set()
        self._under_way.clear()
        for question in self._open.values():
            question.full.set()
            question.over.set()
        self._open.clear()
