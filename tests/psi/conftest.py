"""What the tests of the star share: a quick engine without secrecy, parties' sets, and a liar's voice."""

import hashlib
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from protos.rounds import Receive, Rounds, Send
from psi.interface import Setting

Bytes = NDArray[np.uint8]


def digests(ids: Sequence[int]) -> Bytes:
    made = b"".join(hashlib.blake2b(b"%d" % i, digest_size=16).digest() for i in ids)
    return np.frombuffer(made, np.uint8).reshape(-1, 16)


class PlainEngine:
    """An engine that gives its key away: it shows the topology at full speed, and hides nothing."""

    def receiver(self, setting: Setting, senders: Sequence[str], inputs: Bytes) -> Rounds[dict[str, Bytes]]:
        outputs = {}
        for sender in senders:
            outputs[sender] = self.prf((yield Receive(sender, "key", at_most=32)), inputs)
        return outputs

    def sender(self, setting: Setting, receiver: str, count: int, inputs: Bytes) -> Rounds[Bytes]:
        key = setting.random(32)
        yield Send(receiver, "key", key)
        return self.prf(key, inputs)

    def traffic(self, count: int, own: int) -> int:
        return 32

    def unread(self, at_most: int) -> int:
        return 32

    @staticmethod
    def prf(key: bytes, inputs: Bytes) -> Bytes:
        made = b"".join(hashlib.blake2b(row.tobytes(), key=key, digest_size=16).digest() for row in inputs)
        return np.frombuffer(made, np.uint8).reshape(-1, 16)


def tampered(rounds: Rounds[Any], changes: Mapping[tuple[str, str], Callable[[bytes], bytes]]) -> Rounds[Any]:
    """The same party, but what it sends to `to` as `kind` goes through changes[to, kind] first."""
    answer = None
    while True:
        try:
            word = rounds.send(answer)
        except StopIteration as stop:
            return stop.value
        if isinstance(word, Send) and (word.to, word.kind) in changes:
            word = Send(word.to, word.kind, changes[word.to, word.kind](word.payload))
        answer = yield word


@pytest.fixture(scope="session")
def plain() -> PlainEngine:
    return PlainEngine()


@pytest.fixture(scope="session")
def make_digests() -> Callable[[Sequence[int]], Bytes]:
    return digests


@pytest.fixture(scope="session")
def lie() -> Callable[..., Generator[Any, Any, Any]]:
    return tampered
