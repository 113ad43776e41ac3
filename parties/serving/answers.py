"""A feature holder's answers: what it lets out of its own rows, how much of it, and what that is charged."""

import math
import secrets
import threading
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from parties.charges import Charge
from parties.config import Config
from parties.contract_privacy import Privacy
from parties.errors import BudgetError
from parties.ledger import path_of
from parties.model import Model
from parties.serving.partner import MOST_ASKED
from parties.serving.rate import TokenBucket
from parties.serving.store import DigestIndex, Store
from parties.spending import EMBEDDING, budget_of, ledger_of
from parties.storage import locked
from protos.rounds import RemoteProtocolError
from protos.serving_pb2 import Answer, Question, Refusal
from splitnn.crossing import to_hub

NOBODY: Final = np.empty(0, np.int64)
WIDTH: Final = 16
"""Bytes of a digest."""


class Answers:
    """store: replaced when a fresh table has been read. users: `users_of` the model. cap: users a second."""

    def __init__(
        self, config: Config, model: Model, store: Store, users: NDArray[np.uint8], cap: TokenBucket
    ) -> None:
        self.store, self._cap = store, cap
        self.hub = config.contract.label_holder
        self._plan = model.plan
        self._account = Account(config, model, len(store.rows))
        self._common = DigestIndex(users) if config.contract.reveals_membership else None
        self.answered = self.refused = 0
        self.begin()

    def begin(self) -> None:
        """A new line, on which noise is drawn from a seed of its own."""
        self._crossing = to_hub(self._plan, self.hub, secrets.token_bytes(32), None)
        self._last = 0

    def answer(self, question: Question) -> Answer:
        """Raises RemoteProtocolError for what is no question, AccountError, StorageError, TrainingError."""
        store, users, others, known = self.store, NOBODY, list[bytes](), b""
        if question.ids:
            digests = others_in(question, self._common, self.hub)
            asked, rows = len(digests), store.rows_of(digests)
            has = rows != store.blank
            rows, known = rows[has], has.astype(np.uint8).tobytes()
            others = [digest.tobytes() for digest in digests[has]]
        else:
            users = users_in(question, len(store.rows), self.hub)
            asked, rows = len(users), store.rows[users]
        if question.number <= self._last:
            raise RemoteProtocolError(f"{self.hub!r} sent question {question.number} after {self._last}")
        self._last = question.number
        if not self._cap.take(asked):
            self.refused += 1
            return Answer(number=question.number, refused=Refusal.RATE)
        try:
            self._account.charge(users, others)
        except BudgetError:
            self.refused += 1
            return Answer(number=question.number, refused=Refusal.BUDGET)
        self.answered += asked
        if not len(rows):
            return Answer(number=question.number, known=known)
        with torch.no_grad():
            activation = torch.from_numpy(store.embeddings[rows])
            _, payload = self._crossing.send_activation(activation, question.number, None)
        return Answer(number=question.number, embeddings=payload, known=known)


def users_in(question: Question, users: int, hub: str) -> NDArray[np.int64]:
    """Raises RemoteProtocolError for none, too many, or places that the alignment does not have."""
    count, rest = divmod(len(question.users), 4)
    if rest or not 1 <= count <= MOST_ASKED:
        raise RemoteProtocolError(f"{hub!r} asks for {count} users, not 1 to {MOST_ASKED}")
    places = np.frombuffer(question.users, "<u4").astype(np.int64)
    if places[-1] >= users or (np.diff(places) <= 0).any():
        raise RemoteProtocolError(f"{hub!r} asks for users that the alignment does not have, or twice")
    return places


def others_in(question: Question, common: DigestIndex | None, hub: str) -> NDArray[np.uint8]:
    """Digests [n, 16] of ids outside the alignment. Raises RemoteProtocolError for none, too many, common
    users, who are asked about by their places, and where the contract has nobody asked."""
    if common is None:
        raise RemoteProtocolError(f"{hub!r} asks by id, and run.toml does not say reveals_membership = true")
    count, rest = divmod(len(question.ids), WIDTH)
    if rest or question.users or not 1 <= count <= MOST_ASKED:
        raise RemoteProtocolError(f"{hub!r} asks for {count} ids, not 1 to {MOST_ASKED}")
    each = [question.ids[at : at + WIDTH] for at in range(0, len(question.ids), WIDTH)]
    digests = np.frombuffer(question.ids, np.uint8).reshape(-1, WIDTH)
    if any(one >= other for one, other in pairwise(each)) or (common.find(digests) >= 0).any():
        raise RemoteProtocolError(f"{hub!r} asks by id for a common user, or twice")
    return digests


class Account:
    """What serving has told of each user, charged before it is told; nothing without a `[privacy]`.

    All that a process answers is one charge: of the user whose embedding left most often.
    """

    def __init__(self, config: Config, model: Model, users: int) -> None:
        self._config, self._plan, self._on = config, model.plan, config.contract.privacy != Privacy()
        self._times = np.zeros(users if self._on else 0, np.int32)
        self._of_others: Counter[bytes] = Counter()  # by digest; whom this party has
        self._most, self._run, self._lock = 0, secrets.token_hex(32), threading.Lock()
        if self._on and not path_of(config.party.storage, config.name).exists():
            with locked(config.party.storage, config.name):  # who begins an account holds the lock
                ledger_of(config).reserve(self._of(0))

    def _of(self, most: int) -> Charge:
        hub, contract = self._config.contract.label_holder, self._config.contract
        rho = self._plan.embedding.rho(most) if most else 0.0
        bound = rho if rho < math.inf else None
        people = len(self._times) + len(self._of_others)
        return Charge(contract.parties[hub].key, hub, self._run, EMBEDDING, people, most, bound)

    def charge(self, users: NDArray[np.int64], others: Sequence[bytes] = ()) -> None:
        """Raises BudgetError, with nothing charged, AccountError, StorageError."""
        if not self._on:
            return
        with self._lock:
            times = [int(self._times[users].max(initial=-1)), *(self._of_others[one] for one in others)]
            most = max(self._most, max(times) + 1)
            if most > self._most:
                ledger_of(self._config).reserve(self._of(most), budget_of(self._config))
                self._most = most
            self._times[users] += 1
            self._of_others.update(others)
