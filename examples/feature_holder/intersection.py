"""Ids, and their intersection by `ecdh` between two parties (docs/wire-psi.md). Here: the client."""

import hashlib
import re
import secrets
import unicodedata

import numpy as np
import rbcl
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from line import Refused, require

ELEMENTS = 8192  # group elements a message
INVISIBLE = re.compile("[\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u2064\u2066-\u206f\ufeff]")


def canonical_id(cell, kind):
    text = unicodedata.normalize("NFC", INVISIBLE.sub("", cell)).strip()
    if kind == "email" and text:
        text = unicodedata.normalize("NFC", "".join(text.split()).lower())
        user, _, domain = text.partition("@")
        require(user and domain and "@" not in domain, "an id that is no e-mail address; mend or empty it")
    return text


def digests_of(cells, kind, contract_digest):
    """The row and the digest, 16 bytes, of each id. Blank cells are left out, of equal ids the later rows."""
    key = hashlib.sha256(b"vertical ids v1\0" + contract_digest + kind["name"].encode()).digest()
    first = {}
    for row, cell in enumerate(cells):
        if isinstance(cell, str) and (text := canonical_id(cell, kind["type"])):
            first.setdefault(hashlib.blake2b(text.encode(), digest_size=16, key=key).digest(), row)
    return np.array(list(first.values()), np.int64), list(first)


def label(secret, *parts):
    """A key of 32 bytes; each part is told from the next by its length."""
    coded = b"".join(len(part).to_bytes(4, "big") + part for part in parts)
    return hashlib.blake2b(coded, key=secret, digest_size=32).digest()


def to_group(message):
    """RFC 9380: expand_message_xmd by SHA-512, then ristretto255."""
    tag = b"HashToGroup-OPRFV1-\0-ristretto255-SHA512"
    suffix = tag + bytes([len(tag)])
    first = hashlib.sha512(bytes(128) + message + b"\0\x40\0" + suffix).digest()
    return rbcl.crypto_core_ristretto255_from_hash(hashlib.sha512(first + b"\1" + suffix).digest())


def evaluated(key, blinded):
    """Each element by our key. An encoding that is not canonical, or the identity, is refused."""
    elements = [blinded[at : at + 32] for at in range(0, len(blinded), 32)]
    require(all(element[31] < 128 for element in elements), "an invalid group element")
    try:
        return b"".join([rbcl.crypto_scalarmult_ristretto255(key, element) for element in elements])
    except RuntimeError:
        raise Refused("an invalid group element") from None


def intersect(line, run, own, theirs):
    """The places in `own` of the common ids, in the common order. own: digests; theirs: the hub's count."""
    run, names = label(run, b"bucket", bytes(4)), (line.hub.encode(), line.me.encode())
    line.send("count", len(own).to_bytes(8, "big"))
    require(int.from_bytes(line.receive("count", 8), "big") == theirs, "another count than was announced")
    key = rbcl.crypto_core_ristretto255_scalar_reduce(secrets.token_bytes(64))  # of this attempt only
    for start in range(0, theirs, ELEMENTS):
        blinded = line.receive("blinded", 32 * min(ELEMENTS, theirs - start))
        line.send("evaluated", evaluated(key, blinded))

    outputs = []  # F_key of our own ids: RFC 9497, the first 16 bytes
    for x in own:
        element = rbcl.crypto_scalarmult_ristretto255(key, to_group(x))
        outputs.append(hashlib.sha512(b"\0\x10" + x + b"\0\x20" + element + b"Finalize").digest()[:16])
    order = list(range(len(own)))
    secrets.SystemRandom().shuffle(order)
    told = np.frombuffer(b"".join([outputs[place] for place in order]), np.uint8).reshape(-1, 16)
    aes = Cipher(algorithms.AES(label(b"", b"result", run, *names)), modes.ECB()).encryptor()  # noqa: S305
    tags = np.frombuffer(aes.update(told.tobytes()), np.uint8).reshape(-1, 16) ^ told
    bits = 40 + max(len(own) - 1, 0).bit_length() + max(theirs - 1, 0).bit_length()
    line.send("tags", tags[:, : -(-bits // 8)].tobytes())

    answer = line.receive("common", -(-len(own) // 8) + 32)
    named = np.unpackbits(np.frombuffer(answer[:-32], np.uint8), bitorder="little")
    common = np.flatnonzero(named[: len(own)])
    require(not named[len(own) :].any(), "common ids that there cannot be")
    proof = hashlib.blake2b(
        told[common].tobytes(), key=label(b"", b"proof", run, *names), digest_size=32
    ).digest()
    require(secrets.compare_digest(proof, answer[-32:]), f"{line.hub} names ids that it does not hold")
    return np.array(order, np.int64)[common]
