"""Vector oblivious linear evaluation over GF(2^128): C = A * delta + B, from dual LPN. UNAUDITED.

The receiver learns A and C, each uniform to it; the sender B and delta. Neither chooses A or B: they come
from a noise vector of weight 176 and a code (`psi.exconv`). `docs/psi.md` ("The engine rr22") has the steps
and the source of the parameters. Three messages: opening (to the receiver), reply, trees (to the receiver).
"""

from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from psi import exconv, gf128, ggm, kdf, ot

TREES: Final = 176
"""Noise positions, one a tree: -128 / log2(1 - 2 * 0.2) = 173.7, up to a multiple of 8 (libOTe)."""

SMALLEST: Final = 4096
"""Shorter ones are cut from this length: the code's distance is an estimate for long codes."""

OPENING: Final = 2 * ot.SECURITY * 64
"""Bytes of the opening: 128 base transfers for the extension, and as many for the bits of delta."""

_BLOCK: Final = gf128.BITS // 8

Words = NDArray[np.uint64]


def leaves(count: int) -> int:
    """Leaves of a tree where C has `count` elements: 176 of them are twice as many, or a little more."""
    most = -(-2 * max(count, SMALLEST) // TREES)
    return most + most % 2


def reply_size(count: int) -> int:
    transfers = TREES * ggm.depth(leaves(count))
    return 2 * ot.SECURITY * 32 + ot.extension_size(transfers) + gf128.BITS * TREES * _BLOCK


def trees_size(count: int) -> int:
    return (2 * ggm.depth(leaves(count)) + 1) * TREES * _BLOCK


class Sender:
    """Learns B, and draws delta. Once: `opening`, `share`, `trees`, in this order.

    label: names run and parties. random: n -> n bytes from a cryptographic source.
    """

    def __init__(self, count: int, label: bytes, random: Callable[[int], bytes]) -> None:
        self._count, self._label = count, label
        self._roots = np.frombuffer(random(TREES * _BLOCK), "<u8").reshape(TREES, 2)
        secret = random(2 * _BLOCK)
        self._chosen, self.opening = ot.choose(_bits(secret), label, random)
        self._extension = secret[:_BLOCK]
        self.delta: Words = np.frombuffer(secret[_BLOCK:], "<u8")

    def share(self) -> Words:
        """B, [count, 2]: needs no message."""
        vector, self._sums = ggm.grow(self._roots, leaves(self._count), _tree_keys(self._label))
        return _encoded(vector, self._count)

    def trees(self, reply: bytes, receiver: str) -> bytes:
        """The third message. reply: of `reply_size(count)` bytes.

        Raises RemoteProtocolError, naming `receiver`, for an invalid group element.
        """
        points, rest = _split(reply, 2 * ot.SECURITY * 32)
        levels = len(self._sums)
        columns, products = _split(rest, ot.extension_size(levels * TREES))
        keys = ot.open_chosen(self._chosen, points, receiver)
        # Noise value times delta: where the bit of delta is one, the key's stream plus what was sent.
        told = np.frombuffer(products, "<u8").reshape(gf128.BITS, TREES, 2)
        shares = _streams(keys[ot.SECURITY :])
        ones = _bits(self.delta.tobytes())
        shares[ones] ^= told[ones]
        # The XOR of a tree's leaves is that of the last level's two sides.
        last = self._sums[-1, 0] ^ self._sums[-1, 1] ^ gf128.combine(shares)
        pads = ot.extend_sender(keys[: ot.SECURITY], self._extension, columns, levels * TREES, self._label)
        masked = self._sums ^ np.stack(pads).reshape(2, levels, TREES, 2).swapaxes(0, 1)
        return bytes(masked.astype("<u8").tobytes() + last.astype("<u8").tobytes())


class Receiver:
    """Learns A and C. Once: `reply`; `factors` (at any time); `share`.

    label: names run and parties. random: n -> n bytes from a cryptographic source.
    """

    def __init__(self, count: int, label: bytes, random: Callable[[int], bytes]) -> None:
        self._count, self._label, self._random = count, label, random
        size = leaves(count)
        draws = random(2 * _BLOCK * TREES)
        self._points = np.array(
            [int.from_bytes(draws[i : i + _BLOCK], "big") % size for i in range(0, TREES * _BLOCK, _BLOCK)]
        )
        self._values: Words = np.frombuffer(draws, "<u8", offset=TREES * _BLOCK).reshape(TREES, 2)

    def reply(self, opening: bytes, sender: str) -> bytes:
        """The second message. opening: of `OPENING` bytes.

        Raises RemoteProtocolError, naming `sender`, for an invalid group element.
        """
        keys, points = ot.offer(opening, self._label, self._random, sender)
        # Per level, the transfer of the side that the path does not take.
        path = self._points >> np.arange(ggm.depth(leaves(self._count)))[:, None] & 1
        self._pads, columns = ot.extend_receiver(keys[: ot.SECURITY], path.ravel() == 0, self._label)
        ones = _streams([key for key, _ in keys[ot.SECURITY :]])
        others = _streams([key for _, key in keys[ot.SECURITY :]])
        self._products = gf128.combine(ones)
        return points + columns + (ones ^ others ^ self._values).astype("<u8").tobytes()

    def factors(self) -> Words:
        """A, [count, 2]: needs no message."""
        noise = np.zeros((leaves(self._count), TREES, 2), np.uint64)
        noise[self._points, np.arange(TREES)] = self._values
        return _encoded(noise, self._count)

    def share(self, trees: bytes) -> Words:
        """C, [count, 2]. trees: the third message, of `trees_size(count)` bytes; any such gives some C."""
        size = leaves(self._count)
        levels, across = ggm.depth(size), np.arange(TREES)
        told = np.frombuffer(trees, "<u8").reshape(2 * levels + 1, TREES, 2)
        path = self._points >> np.arange(levels)[:, None] & 1
        masked = told[:-1].reshape(levels, 2, TREES, 2)[np.arange(levels)[:, None], 1 - path, across]
        sums = masked ^ self._pads.reshape(levels, TREES, 2)
        vector = ggm.regrow(self._points, sums, size, _tree_keys(self._label))
        rest = np.bitwise_xor.reduce(vector, axis=0)
        vector[self._points, across] = told[-1] ^ rest ^ self._products
        return _encoded(vector, self._count)


def _encoded(vector: Words, count: int) -> Words:
    return exconv.encode(vector.reshape(-1, 2), max(count, SMALLEST))[:count]


def _tree_keys(label: bytes) -> tuple[bytes, bytes]:
    both = kdf.key(b"", "trees", label)
    return both[:16], both[16:]


def _streams(keys: list[bytes]) -> Words:
    """[128, TREES, 2] field elements, one row a key."""
    return np.stack([kdf.stream(key, 2 * TREES) for key in keys]).reshape(-1, TREES, 2)


def _bits(secret: bytes) -> NDArray[np.bool_]:
    return np.unpackbits(np.frombuffer(secret, np.uint8), bitorder="little").astype(bool)


def _split(message: bytes, at: int) -> tuple[bytes, bytes]:
    return message[:at], message[at:]
