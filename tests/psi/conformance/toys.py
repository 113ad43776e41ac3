"""A small protocol that conforms, and variants of it that each break one promise.

Two-party Diffie-Hellman in the integers modulo a prime that is far too small: quick, and no secret.
"""

import hashlib
import hmac
from collections.abc import Callable, Generator, Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from protos.rounds import Receive, RemoteProtocolError, Round, Rounds, Save, Send, mapped
from psi.interface import Setting

Bytes = NDArray[np.uint8]
Rows = NDArray[np.int64]

PRIME = 2**127 - 1
SIZE = 16


class Toy:
    """Each party raises its ids to a secret power, and the other's powers once more; what both have is
    common.

    A party that swaps what it sends back could make the other take wrong ids for common; the proof at the
    end, over the ids and a key that only these two have, tells.
    """

    name: ClassVar[str] = "toy"
    parties: ClassVar[range] = range(2, 3)
    leakage: ClassVar[str] = "each party learns how many ids the other holds"
    cost: ClassVar[str] = "64 bytes an id"
    maturity: ClassVar[str] = "a toy"
    secure: ClassVar[bool] = True

    def align(self, setting: Setting, digests: Bytes) -> Rounds[Rows]:
        (peer,) = (name for name in setting.parties if name != setting.me)
        order = self.order(len(digests), setting.random)
        key = self.key(setting)
        yield Send(peer, "base", encoded([pow(3, key, PRIME)]))
        yield Send(peer, "once", encoded([pow(element(row), key, PRIME) for row in digests[order]]))
        base = self.decoded((yield Receive(peer, "base", SIZE)), peer)
        if len(base) != 1:
            raise RemoteProtocolError(f"{peer} sent no base")
        theirs = self.decoded((yield Receive(peer, "once", SIZE * setting.at_most)), peer)
        again = [pow(one, key, PRIME) for one in theirs]
        yield Send(peer, "twice", encoded(again))
        back = self.decoded((yield Receive(peer, "twice", SIZE * len(digests))), peer)
        if len(back) != len(digests):
            raise RemoteProtocolError(f"{peer} sent {len(back)} elements back, not {len(digests)}")
        row_of = dict(zip(back, order.tolist(), strict=True))
        rows = np.array([row_of[one] for one in sorted(set(again) & row_of.keys())], np.int64)
        proof = hmac.digest(encoded([pow(base[0], key, PRIME)]), digests[rows].tobytes(), "sha256")
        yield Send(peer, "proof", proof)
        self.compare((yield Receive(peer, "proof", 32)), proof, peer)
        return rows

    def traffic(self, counts: Sequence[int], common: int) -> int:
        return 2 * (SIZE * sum(counts) + SIZE + 32)

    def unread(self, at_most: int) -> int:
        return 2 * SIZE * at_most + SIZE + 32

    def order(self, count: int, random: Callable[[int], bytes]) -> Rows:
        return np.argsort(np.frombuffer(random(8 * count), "<u8"))

    def key(self, setting: Setting) -> int:
        return int.from_bytes(setting.random(16)) | 1

    def decoded(self, payload: bytes, peer: str) -> list[int]:
        if len(payload) % SIZE:
            raise RemoteProtocolError(f"{peer} sent {len(payload)} bytes of elements")
        elements = [int.from_bytes(payload[at : at + SIZE]) for at in range(0, len(payload), SIZE)]
        if any(not 1 < one < PRIME - 1 for one in elements) or len(set(elements)) < len(elements):
            raise RemoteProtocolError(f"{peer} sent what is no element, or one twice")
        return elements

    def compare(self, told: bytes, proof: bytes, peer: str) -> None:
        if told != proof:
            raise RemoteProtocolError(f"{peer} has another result")


def element(digest: Bytes) -> int:
    return int.from_bytes(hashlib.blake2b(digest.tobytes(), digest_size=15).digest()) + 2


def encoded(elements: Sequence[int]) -> bytes:
    return b"".join(one.to_bytes(SIZE) for one in elements)


class LosesARow(Toy):
    def align(self, setting: Setting, digests: Bytes) -> Rounds[Rows]:
        rows = yield from super().align(setting, digests)
        return rows if len(rows) < 100 else rows[:-1]


class OrderOfItsOwn(Toy):
    def align(self, setting: Setting, digests: Bytes) -> Rounds[Rows]:
        rows = yield from super().align(setting, digests)
        return np.sort(rows)


class TellsAHash(Toy):
    """An unsalted digest of one id, as a greeting."""

    def align(self, setting: Setting, digests: Bytes) -> Rounds[Rows]:
        (peer,) = (name for name in setting.parties if name != setting.me)
        yield Send(peer, "hello", hashlib.sha256(digests[:1].tobytes()).digest())
        yield Receive(peer, "hello", 32)
        return (yield from super().align(setting, digests))


class SameKeys(Toy):
    """The key of an attempt comes from the run id: an attempt begun afresh repeats every message."""

    def key(self, setting: Setting) -> int:
        return int.from_bytes(hashlib.sha256(setting.run + setting.me.encode()).digest()[:15]) | 1


class Salted(Toy):
    """Hashes under a fresh salt: every run looks different, and every run is a dictionary."""

    def align(self, setting: Setting, digests: Bytes) -> Rounds[Rows]:
        (peer,) = (name for name in setting.parties if name != setting.me)
        if setting.me == setting.leader:
            salt = setting.random(16)
            yield Send(peer, "salt", salt)
        else:
            salt = yield Receive(peer, "salt", 16)
        hashes = [hashlib.sha256(salt + row.tobytes()).digest() for row in digests]
        yield Send(peer, "hashes", b"".join(sorted(hashes)))
        theirs = yield Receive(peer, "hashes", 32 * setting.at_most)
        common = {theirs[at : at + 32] for at in range(0, len(theirs), 32)} & set(hashes)
        return np.array([hashes.index(one) for one in sorted(common)], np.int64)


class Unshuffled(Toy):
    """The elements go out in the order of the rows: the peer sees where its own ids stand in them."""

    def order(self, count: int, random: Callable[[int], bytes]) -> Rows:
        return np.arange(count)


class OrderOfTheLeader(Toy):
    """The result comes in the order of the leader's rows."""

    def align(self, setting: Setting, digests: Bytes) -> Rounds[Rows]:
        rows = yield from super().align(setting, digests)
        (peer,) = (name for name in setting.parties if name != setting.me)
        if setting.me == setting.leader:
            order = np.argsort(rows)
            yield Send(peer, "order", order.astype("<u4").tobytes())
        else:
            order = np.frombuffer((yield Receive(peer, "order", 4 * len(rows))), "<u4")
        return rows[order]


class Pairwise(Toy):
    """Three parties: the leader intersects with each in turn, and tells what is left: it sees each pair."""

    parties: ClassVar[range] = range(3, 4)

    def align(self, setting: Setting, digests: Bytes) -> Rounds[Rows]:
        me, leader = setting.me, setting.leader
        pairs = [Setting(me, (leader, client), setting.run, setting.at_most, setting.random)
                 for client in setting.clients if me in (leader, client)]  # fmt: skip
        shared = []
        for pair in pairs:
            shared.append((yield from super().align(pair, digests)))
        if me == leader:
            common = sorted(set.intersection(*(set(rows.tolist()) for rows in shared)))
            for client, rows in zip(setting.clients, shared, strict=True):
                places = np.array([rows.tolist().index(row) for row in common], "<u4")
                yield Send(client, "places", places.tobytes())
            return np.array(common, np.int64)
        places = np.frombuffer((yield Receive(leader, "places", 4 * len(shared[0]))), "<u4")
        return shared[0][places]


class ValueErrors(Toy):
    def decoded(self, payload: bytes, peer: str) -> list[int]:
        if len(payload) % SIZE:
            raise ValueError("bad length")
        return super().decoded(payload, peer)


class Overlooks(Toy):
    """What is left over of a message is not looked at."""

    def decoded(self, payload: bytes, peer: str) -> list[int]:
        return super().decoded(payload[: len(payload) // SIZE * SIZE], peer)


class Believes(Toy):
    """Nobody looks at the proof."""

    def compare(self, told: bytes, proof: bytes, peer: str) -> None:
        if len(told) != len(proof):
            raise RemoteProtocolError(f"{peer} sent {len(told)} bytes of proof")


class Chatty(Toy):
    """An error of many lines."""

    def compare(self, told: bytes, proof: bytes, peer: str) -> None:
        if told != proof:
            raise RemoteProtocolError(f"{peer} has another result:\n{told.hex()}\n{proof.hex()}")


class SendsMore(Toy):
    def traffic(self, counts: Sequence[int], common: int) -> int:
        return super().traffic(counts, common) * 94 // 100


class RunsAhead(Toy):
    def unread(self, at_most: int) -> int:
        return SIZE * at_most


class AsksForAnything(Toy):
    """The peer may fill the memory before the length is looked at."""

    def align(self, setting: Setting, digests: Bytes) -> Rounds[Rows]:
        def each(word: Round) -> Generator[Round, Any, Any]:
            return (yield Receive(word.sender, word.kind, 1 << 40) if isinstance(word, Receive) else word)

        return mapped(super().align(setting, digests), each)


class RaisesAtOnce(Toy):
    def align(self, setting: Setting, digests: Bytes) -> Rounds[Rows]:
        raise ValueError("no such\nkey")
        yield


class NoGenerator(Toy):
    """No word is yielded, so what is called is a function."""

    def align(self, setting: Setting, digests: Bytes) -> Any:
        return np.arange(len(digests))


class FailsBeforeItIsOne(Toy):
    def align(self, setting: Setting, digests: Bytes) -> Any:
        raise ValueError("no such key")


class YieldsWhatIsNoRound(Toy):
    word: ClassVar[Any] = 3

    def align(self, setting: Setting, digests: Bytes) -> Rounds[Rows]:
        yield self.word
        return (yield from super().align(setting, digests))


class Saves(YieldsWhatIsNoRound):
    word = Save(1, bytes)


class SendsText(YieldsWhatIsNoRound):
    word = Send("b", "hello", "text")  # type: ignore[arg-type]


class SendsToNobody(YieldsWhatIsNoRound):
    word = Send("nobody", "hello", b"")


class NoLimit(YieldsWhatIsNoRound):
    word = Receive("b", "hello", None)  # type: ignore[arg-type]


class NoFormula(Toy):
    def traffic(self, counts: Sequence[int], common: int) -> int:
        raise KeyError("counts")

    def unread(self, at_most: int) -> int:
        return None  # type: ignore[return-value]


class TwoParties(Toy):
    parties = 2  # type: ignore[assignment]


class ManyParties(Toy):
    parties = range(6, 8)


class NamedAsOurs(Toy):
    name = "ecdh"


class SecureInWords(Toy):
    secure = "yes"  # type: ignore[assignment]


class ManyLines(Toy):
    leakage = "a count\nand more"
