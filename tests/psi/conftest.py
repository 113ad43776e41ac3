"""What the tests of the star share: a quick engine without secrecy, parties' sets, and a liar's voice."""

import hashlib
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from protos.memory import Together
from protos.rounds import Receive, Round, Rounds, Send, mapped
from psi.interface import Setting

Bytes = NDArray[np.uint8]

NAMES = ("lead", "b", "c", "d", "e", "f")


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

    def each(word: Round) -> Generator[Round, Any, Any]:
        if isinstance(word, Send) and (word.to, word.kind) in changes:
            word = Send(word.to, word.kind, changes[word.to, word.kind](word.payload))
        return (yield word)

    return mapped(rounds, each)


def exact(sets: Sequence[Bytes], outcome: Together[Any], note: object = "") -> None:
    """All parties have the same ids in the same order, each once, and they are the plain intersection.

    sets: of the parties, who are called as in NAMES.
    """
    named = [[bytes(row) for row in own[outcome.results[me]]] for me, own in zip(NAMES, sets, strict=False)]
    assert all(one == named[0] for one in named), note
    assert len(set(named[0])) == len(named[0]), note
    assert set(named[0]) == set.intersection(*({bytes(row) for row in own} for own in sets)), note


@pytest.fixture(scope="session")
def check_exact() -> Callable[..., None]:
    return exact


@pytest.fixture(scope="session")
def plain() -> PlainEngine:
    return PlainEngine()


@pytest.fixture(scope="session")
def make_digests() -> Callable[[Sequence[int]], Bytes]:
    return digests


@pytest.fixture(scope="session")
def lie() -> Callable[..., Generator[Any, Any, Any]]:
    return tampered
