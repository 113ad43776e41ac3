"""Two-party Diffie-Hellman over NIST P-256, for whom the rules allow no other curve.

Huberman, Franklin and Hogg 1999, with OpenSSL's elliptic-curve Diffie-Hellman as the commutative map: of a
point it gives the x of its multiple, and x(a * b * P) does not depend on which of the two came first.

    both:  masked = x(key * H(id)), shuffled        -> the other
    both:  masked twice = x(key * what came)        -> back, in the order it came
    both:  common are the ids whose value came out of both; their order is that of the values
    both:  the same once more, over one hash of all common ids: have both found the same?
"""

from collections.abc import Callable, Sequence
from hashlib import sha256
from typing import ClassVar, Final

import numpy as np
from cryptography.hazmat.primitives.asymmetric import ec
from numpy.typing import NDArray

from protos.rounds import Progress, Receive, RemoteProtocolError, Rounds, Send
from psi import IdError, Setting

CURVE: Final = ec.SECP256R1()
ORDER: Final = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
SIZE: Final = 32
CHUNK: Final = 4096
"""Multiplications between two words of progress: some 0.3 s of work, and the size of a chunk that is sent."""


class DhP256:
    name: ClassVar[str] = "dh-p256"
    parties: ClassVar[range] = range(2, 3)
    leakage: ClassVar[str] = "each party learns how many ids the other holds"
    cost: ClassVar[str] = "4 multiplications on P-256 and 128 bytes an id"
    maturity: ClassVar[str] = "an example; secure against parties that follow the protocol"
    secure: ClassVar[bool] = True

    def align(self, setting: Setting, digests: NDArray[np.uint8]) -> Rounds[NDArray[np.int64]]:
        if len(digests) > setting.at_most:
            raise IdError(f"{len(digests)} ids here, and the contract allows {setting.at_most}")
        me, (peer,) = setting.me, [name for name in setting.parties if name != setting.me]
        key = ec.derive_private_key(1 + int.from_bytes(setting.random(48)) % (ORDER - 1), CURVE)
        order = np.argsort(np.frombuffer(setting.random(8 * len(digests)), "<u8"))
        ids = [row.tobytes() for row in digests[order]]
        masked = yield from _each(lambda one: _mask(key, _hash(one)), ids, 0, 2 * len(ids))
        yield Send(peer, "masked", _chunks(masked))
        theirs = _split((yield Receive(peer, "masked", SIZE * setting.at_most)), peer)
        again = yield from _each(
            lambda one: _mask_of(peer, key, one), theirs, len(ids), len(ids) + len(theirs)
        )
        yield Send(peer, "masked twice", _chunks(again))
        back = _split((yield Receive(peer, "masked twice", SIZE * len(digests))), peer)
        row_of = dict(zip(_exactly(len(digests), back, peer), order.tolist(), strict=True))
        rows = np.array([row_of[value] for value in sorted(row_of.keys() & set(again))], np.int64)
        # A peer that swaps what it sends back would make us take other ids for common.
        yield Send(peer, "result", _mask(key, _hash(digests[rows].tobytes())))
        (result,) = _exactly(1, _split((yield Receive(peer, "result", SIZE)), peer), peer)
        twice = _mask_of(peer, key, result)
        yield Send(peer, "result twice", sha256(me.encode() + twice).digest())
        if (yield Receive(peer, "result twice", SIZE)) != sha256(peer.encode() + twice).digest():
            raise RemoteProtocolError(f"{peer} has another result; the alignment is void")
        return rows

    def traffic(self, counts: Sequence[int], common: int) -> int:
        return 2 * SIZE * sum(counts) + 4 * SIZE

    def unread(self, at_most: int) -> int:
        return 2 * SIZE * at_most + 2 * SIZE


def _each(work: Callable[[bytes], bytes], items: list[bytes], done: int, total: int) -> Rounds[list[bytes]]:
    """[work(item) for item in items]. total: of `Progress`; a set that has not come yet counts as ours."""
    results: list[bytes] = []
    for at in range(0, len(items), CHUNK):
        results += [work(item) for item in items[at : at + CHUNK]]
        yield Progress("psi", done + len(results), total)
    return results


def _chunks(values: list[bytes]) -> list[bytes]:
    return [b"".join(values[at : at + CHUNK]) for at in range(0, len(values), CHUNK)]


def _hash(message: bytes) -> bytes:
    """The x of a point that nobody knows a multiple of: the first candidate that lies on the curve.

    How many are tried depends on the id, and only this party can measure it.
    """
    tries = 0
    while True:
        candidate = sha256(b"dh-p256 example" + tries.to_bytes(4, "big") + message).digest()
        try:
            _point(candidate)
        except ValueError:
            tries += 1
        else:
            return candidate


def _point(x: bytes) -> ec.EllipticCurvePublicKey:
    """Raises ValueError where no point has this x. The other point is its negative, of equal multiples."""
    return ec.EllipticCurvePublicKey.from_encoded_point(CURVE, b"\2" + x)


def _mask(key: ec.EllipticCurvePrivateKey, x: bytes) -> bytes:
    return key.exchange(ec.ECDH(), _point(x))


def _mask_of(peer: str, key: ec.EllipticCurvePrivateKey, x: bytes) -> bytes:
    try:
        return _mask(key, x)
    except ValueError:
        raise RemoteProtocolError(f"{peer} sent what is no point of the curve") from None


def _split(payload: bytes, peer: str) -> list[bytes]:
    if len(payload) % SIZE:
        raise RemoteProtocolError(f"{peer} sent {len(payload)} bytes of values of {SIZE}")
    values = [payload[at : at + SIZE] for at in range(0, len(payload), SIZE)]
    if len(set(values)) < len(values):
        raise RemoteProtocolError(f"{peer} sent the same value twice")
    return values


def _exactly(count: int, values: list[bytes], peer: str) -> list[bytes]:
    if len(values) != count:
        raise RemoteProtocolError(f"{peer} sent {len(values)} values, not {count}")
    return values
