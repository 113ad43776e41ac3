"""The egress log of serving: in the model's folder, serving/<peer>/audit.jsonl; each stream is an attempt.

It goes on in another file where one has become large: audit-0001.jsonl, audit-0002.jsonl, ... are before it.
"""

import hashlib
import threading
from pathlib import Path
from typing import Final

from parties.egress import NAME, Egress
from parties.model import Model
from parties.storage import made
from protos.serving_pb2 import Answer, Question

PHASE: Final = "serving"
LARGEST: Final = 64 << 20
"""Bytes of a file of the log: a quarter of a million messages."""
QUESTION: Final = "question"
ANSWER: Final = "answer"


def kind_of(message: Question | Answer) -> str:
    """Questions about others than the common users, and their answers, are kinds of their own."""
    if isinstance(message, Question):
        return "question-by-id" if message.ids else QUESTION
    return "answer-by-id" if message.known else ANSWER


class Notes:
    """Of one line. Raises StorageError, AccountError where it cannot be written."""

    def __init__(self, model: Model, me: str, peer: str, session: bytes) -> None:
        folder = made(model.folder / "serving" / peer)
        self._peer, self._lock, self._over = peer, threading.Lock(), False
        self._egress = Egress(me)
        self._egress.open(Path(folder / NAME), model.run, session)
        self._egress.at(PHASE, 0)

    def leaves(self, kind: str, number: int, payload: bytes) -> bool:
        """To be asked before the message leaves: is it noted? It is not when this line is over."""
        with self._lock:
            if not self._over:
                if self._egress.size > LARGEST:
                    self._egress.turn()
                self._egress.at(PHASE, number)
                self._egress.leaves(self._peer, kind, len(payload), hashlib.sha256(payload).hexdigest())
            return not self._over

    def came(self, kind: str, size: int) -> None:
        with self._lock:
            self._egress.came(self._peer, kind, size)

    def end(self, how: str) -> None:
        """Once, and nothing after it."""
        with self._lock:
            if not self._over:
                self._over = True
                try:
                    self._egress.end(how)
                finally:
                    self._egress.close()
