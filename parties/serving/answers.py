"""A feature holder's answers: what it lets out of its own rows, how much of it, and what that is charged."""

import math
import secrets
import threading

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
from parties.serving.store import Store
from parties.spending import EMBEDDING, budget_of, ledger_of
from parties.storage import locked
from protos.rounds import RemoteProtocolError
from protos.serving_pb2 import Answer, Question, Refusal
from splitnn.crossing import to_hub


class Answers:
    """store: replaced when a fresh table has been read. cap: of users a second."""

    def __init__(self, config: Config, model: Model, store: Store, cap: TokenBucket) -> None:
        self.store, self._cap = store, cap
        self.hub = config.contract.label_holder
        self._plan = model.plan
        self._account = Account(config, model, len(store.rows))
        self.answered = self.refused = 0
        self.begin()

    def begin(self) -> None:
        """A new line, on which noise is drawn from a seed of its own."""
        self._crossing = to_hub(self._plan, self.hub, secrets.token_bytes(32), None)
        self._last = 0

    def answer(self, question: Question) -> Answer:
        """Raises RemoteProtocolError for what is no question, AccountError, StorageError, TrainingError."""
        users = users_in(question, len(self.store.rows), self.hub)
        if question.number <= self._last:
            raise RemoteProtocolError(f"{self.hub!r} sent question {question.number} after {self._last}")
        self._last = question.number
        if not self._cap.take(len(users)):
            self.refused += 1
            return Answer(number=question.number, refused=Refusal.RATE)
        try:
            self._account.charge(users)
        except BudgetError:
            self.refused += 1
            return Answer(number=question.number, refused=Refusal.BUDGET)
        store = self.store
        with torch.no_grad():
            activation = torch.from_numpy(store.embeddings[store.rows[users]])
            _, payload = self._crossing.send_activation(activation, question.number, None)
        self.answered += len(users)
        return Answer(number=question.number, embeddings=payload)


def users_in(question: Question, users: int, hub: str) -> NDArray[np.int64]:
    """Raises RemoteProtocolError for none, too many, or places that the alignment does not have."""
    count, rest = divmod(len(question.users), 4)
    if rest or not 1 <= count <= MOST_ASKED:
        raise RemoteProtocolError(f"{hub!r} asks for {count} users, not 1 to {MOST_ASKED}")
    places = np.frombuffer(question.users, "<u4").astype(np.int64)
    if places[-1] >= users or (np.diff(places) <= 0).any():
        raise RemoteProtocolError(f"{hub!r} asks for users that the alignment does not have, or twice")
    return places


class Account:
    """What serving has told of each user, charged before it is told; nothing without a `[privacy]`.

    All that a process answers is one charge: of the user whose embedding left most often.
    """

    def __init__(self, config: Config, model: Model, users: int) -> None:
        self._config, self._plan, self._on = config, model.plan, config.contract.privacy != Privacy()
        self._times = np.zeros(users if self._on else 0, np.int32)
        self._most, self._run, self._lock = 0, secrets.token_hex(32), threading.Lock()
        if self._on and not path_of(config.party.storage, config.name).exists():
            with locked(config.party.storage, config.name):  # who begins an account holds the lock
                ledger_of(config).reserve(self._of(0))

    def _of(self, most: int) -> Charge:
        hub, contract = self._config.contract.label_holder, self._config.contract
        rho = self._plan.embedding.rho(most) if most else 0.0
        bound = rho if rho < math.inf else None
        return Charge(contract.parties[hub].key, hub, self._run, EMBEDDING, len(self._times), most, bound)

    def charge(self, users: NDArray[np.int64]) -> None:
        """Raises BudgetError, with nothing charged, AccountError, StorageError."""
        if not self._on:
            return
        with self._lock:
            most = max(self._most, int(self._times[users].max()) + 1)
            if most > self._most:
                ledger_of(self._config).reserve(self._of(most), budget_of(self._config))
                self._most = most
            self._times[users] += 1
