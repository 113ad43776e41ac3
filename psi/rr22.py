"""The engine `rr22`: an oblivious PRF from vector OLE and an oblivious key-value store. UNAUDITED.

Raghuraman and Rindal 2022, "Blazing fast PSI from improved OKVS and subfield VOLE" (CCS), secure against
parties that follow the protocol. `docs/psi.md` ("The engine rr22") has the steps, which the comments below
number, and the argument.
"""

from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from protos.rounds import Progress, Rounds, Send
from psi import gf128, kdf, okvs, vole
from psi.interface import Setting
from psi.sizes import receive

SALT: Final = 16
"""Bytes of r, the key under which ids become the values of the store."""

CHUNK: Final = 1 << 16
"""Elements of a large message that are handed on at a time: 1 MiB."""

Bytes = NDArray[np.uint8]
Words = NDArray[np.uint64]


class Rr22:
    """The engine. Some 21 bytes an id of the receiver, and half a megabyte, whatever the sender's count."""

    def receiver(self, setting: Setting, senders: Sequence[str], digests: Bytes) -> Rounds[dict[str, Bytes]]:
        """F under each sender's key, [n, 16] each. All get the same store, each under a mask of its own."""
        count = len(digests)
        if not count:
            return {sender: np.empty((0, 16), np.uint8) for sender in senders}
        total = okvs.slots(count)
        # 4. The store P decodes each x to H_B(x, r). It waits for nothing; meanwhile the senders open.
        salt = setting.random(SALT)
        seed, store = okvs.encode(digests, _values(digests, salt), setting.random)
        steps = 1 + 2 * len(senders)
        yield Progress("psi", count // steps, count)
        # 1, 2. The vector OLE, as far as the senders wait for us.
        oles = {}
        for sender in senders:
            oles[sender] = vole.Receiver(total, _label(setting, setting.me, sender), setting.random)
            opening = yield from receive(sender, "vole opening", vole.OPENING)
            yield Send(sender, "vole reply", oles[sender].reply(opening, sender))
        # 5. P + A, for each sender's A.
        for i, sender in enumerate(senders):
            masked = _chunks(salt + seed, oles[sender].factors() ^ store)
            yield Send(sender, "masked store", masked)
            yield Progress("psi", count * (2 + i) // steps, count)
        # 3, 7. C, and F(x) = H_O(decode(C, x)).
        outputs = {}
        for i, sender in enumerate(senders):
            trees = yield from receive(sender, "vole trees", vole.trees_size(total))
            decoded = okvs.decode(seed, oles.pop(sender).share(trees), count, digests)
            outputs[sender] = _hashed(decoded, setting, setting.me, sender)
            yield Progress("psi", count * (2 + len(senders) + i) // steps, count)
        return outputs

    def sender(self, setting: Setting, receiver: str, count: int, digests: Bytes) -> Rounds[Bytes]:
        """F of our own digests, [n, 16] -> [n, 16], under a fresh key: delta and K."""
        if not count:  # nobody else can compute F: any secret function will do
            return kdf.permute(setting.random(kdf.KEY), digests)
        total, work = okvs.slots(count), count + len(digests)
        # 1. to 3. The vector OLE.
        ole = vole.Sender(total, _label(setting, receiver, setting.me), setting.random)
        yield Send(receiver, "vole opening", ole.opening)
        keys = ole.share()
        yield Progress("psi", count // 2, work)
        reply = yield from receive(receiver, "vole reply", vole.reply_size(total))
        yield Send(receiver, "vole trees", ole.trees(reply, receiver))
        # 6. K = B + delta * (P + A).
        message = yield from receive(receiver, "masked store", SALT + okvs.SEED + 16 * total)
        salt, seed = message[:SALT], message[SALT : SALT + okvs.SEED]
        masked = np.frombuffer(message, "<u8", offset=SALT + okvs.SEED).reshape(-1, 2)
        products = gf128.table(ole.delta)
        gf128.add_products(keys, masked, products)
        del message, masked
        yield Progress("psi", count, work)
        # 7. F(y) = H_O(decode(K, y) - delta * H_B(y, r)).
        decoded = okvs.decode(seed, keys, count, digests)
        gf128.add_products(decoded, _values(digests, salt), products)
        yield Progress("psi", work, work)
        return _hashed(decoded, setting, receiver, setting.me)

    def traffic(self, count: int, own: int) -> int:
        """Whatever `own` is: the sender's ids cost it no message."""
        if not count:
            return 0
        total = okvs.slots(count)
        fixed = vole.OPENING + vole.reply_size(total) + vole.trees_size(total)
        return fixed + SALT + okvs.SEED + 16 * total

    def unread(self, at_most: int) -> int:
        """All that the receiver sends to a sender; that sends it less."""
        total = okvs.slots(max(at_most, 1))
        return vole.reply_size(total) + SALT + okvs.SEED + 16 * total


def _label(setting: Setting, receiver: str, sender: str) -> bytes:
    return kdf.key(b"", "rr22", setting.run, receiver, sender)


def _values(digests: Bytes, salt: bytes) -> Words:
    """H_B(x, r) = AES_r(x) + x, [n, 2]."""
    return kdf.derive(digests, salt, 16).view("<u8")


def _hashed(decoded: Words, setting: Setting, receiver: str, sender: str) -> Bytes:
    """H_O, [n, 2] -> [n, 16]: correlation robust."""
    label_key = kdf.key(b"", "rr22 output", setting.run, receiver, sender)
    return kdf.derive(decoded.view(np.uint8), label_key, 16)


def _chunks(head: bytes, elements: Words) -> Iterator[bytes]:
    yield head
    for start in range(0, len(elements), CHUNK):
        yield elements[start : start + CHUNK].astype("<u8", copy=False).tobytes()
