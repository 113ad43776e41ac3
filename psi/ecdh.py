"""The engine `ecdh`: the oblivious PRF 2HashDH over ristretto255, F_k(x) = H2(x, k * H1(x)).

Jarecki, Kiayias and Krawczyk 2014; in the form of RFC 9497, mode OPRF, suite ristretto255-SHA512, whose
test vectors `tests/psi/test_ecdh.py` runs. The output is the RFC's, truncated to 16 bytes.
"""

from collections import deque
from collections.abc import Sequence
from hashlib import sha512
from itertools import zip_longest
from typing import Final

import numpy as np
from numpy.typing import NDArray

from protos.rounds import Progress, Rounds, Send
from psi import ristretto, sizes
from psi.interface import Setting

CONTEXT: Final = b"OPRFV1-\0-ristretto255-SHA512"  # RFC 9497 section 3.1: mode 0x00
GROUP_TAG: Final = b"HashToGroup-" + CONTEXT

CHUNK: Final = 8192
"""Elements a message: 256 KiB, 20 to 160 ms of work on two cores, so that peers are fed early."""

WINDOW: Final = 8
"""Messages that the receiver has sent and not yet had answered, at most: memory stays bounded, and round
trips stay hidden."""

OUTPUT: Final = 16
"""Bytes kept of each F_k(x), after hashing."""

Bytes = NDArray[np.uint8]


def blind(inputs: list[bytes], blinds: bytes) -> bytes:
    """RFC 9497 section 3.3.1, Blind: r * H1(x), one scalar r an input, or one for all."""
    return ristretto.hash_and_multiply(blinds, inputs, GROUP_TAG)


def finalize(inputs: list[bytes], elements: bytes) -> list[bytes]:
    """RFC 9497 section 3.3.1, the hash in Finalize, of k * H1(x): 64 bytes an input."""
    return [
        sha512(
            len(x).to_bytes(2, "big") + x + b"\0\x20" + elements[32 * i : 32 * i + 32] + b"Finalize"
        ).digest()
        for i, x in enumerate(inputs)
    ]


def evaluate(key: bytes, inputs: list[bytes]) -> bytes:
    """RFC 9497 section 3.3.1, Evaluate: [n * 16], F_k of each input, by whoever holds the key."""
    return _outputs(inputs, blind(inputs, key))


class Ecdh:
    """The engine. One multiplication to blind, one a sender to evaluate, one a sender to unblind."""

    def receiver(self, setting: Setting, senders: Sequence[str], digests: Bytes) -> Rounds[dict[str, Bytes]]:
        """F under each sender's key, [n, 16] each. All senders get the same blinded elements."""
        outputs = {sender: bytearray() for sender in senders}
        chunks = _chunks(digests)
        unblinds: deque[bytes] = deque()
        for step in range(len(chunks) + WINDOW):
            if step < len(chunks):
                blinds = ristretto.scalars(len(chunks[step]), setting.random)
                blinded = blind(chunks[step], blinds)
                unblinds.append(ristretto.inverses(blinds))
                for sender in senders:
                    yield Send(sender, "blinded", blinded)
            answered = step - WINDOW
            if 0 <= answered < len(chunks):
                inputs, unblind = chunks[answered], unblinds.popleft()
                for sender in senders:
                    evaluated = yield from sizes.receive(sender, "evaluated", len(inputs) * ristretto.SIZE)
                    outputs[sender] += _outputs(inputs, ristretto.multiply(unblind, evaluated, sender))
                yield Progress("psi", min(CHUNK * (answered + 1), len(digests)), len(digests))
        return {sender: _rows(hashed) for sender, hashed in outputs.items()}

    def sender(self, setting: Setting, receiver: str, count: int, digests: Bytes) -> Rounds[Bytes]:
        """Evaluate the receiver's elements under a fresh key; meanwhile, F of our own digests, [n, 16]."""
        key = ristretto.scalars(1, setting.random)
        outputs = bytearray()
        theirs = [min(CHUNK, count - start) for start in range(0, count, CHUNK)]
        done, total = 0, count + len(digests)
        for size, own in zip_longest(theirs, _chunks(digests)):
            if size:
                blinded = yield from sizes.receive(receiver, "blinded", size * ristretto.SIZE)
                yield Send(receiver, "evaluated", ristretto.multiply(key, blinded, receiver))
            if own:  # while the receiver works on its chunk, one of ours
                outputs += evaluate(key, own)
            done += (size or 0) + len(own or ())
            yield Progress("psi", done, total)
        return _rows(outputs)

    def traffic(self, count: int, own: int) -> int:
        """Each of the receiver's elements goes out and comes back."""
        return 2 * ristretto.SIZE * count

    def unread(self, at_most: int) -> int:
        """A full window of messages, and the one that overlaps it."""
        return min((WINDOW + 1) * CHUNK, at_most) * ristretto.SIZE


def _chunks(digests: Bytes) -> list[list[bytes]]:
    each = [row.tobytes() for row in digests]
    return [each[i : i + CHUNK] for i in range(0, len(each), CHUNK)]


def _outputs(inputs: list[bytes], elements: bytes) -> bytes:
    return b"".join([full[:OUTPUT] for full in finalize(inputs, elements)])


def _rows(outputs: bytearray) -> Bytes:
    return np.frombuffer(bytes(outputs), np.uint8).reshape(-1, OUTPUT)
