"""The prime-order group ristretto255 (RFC 9496), in batches, on all cores.

The arithmetic is libsodium's, through `rbcl`; large batches run eight elements at a time where the processor
can (`psi.ristretto8`). Both are constant-time and release the GIL, so threads are enough. Elements and
scalars are 32 bytes; a batch is one `bytes`, 32 a row.
"""

import contextlib
import os
from collections.abc import Callable, Iterator
from functools import cache
from hashlib import sha512
from itertools import pairwise
from types import ModuleType
from typing import Final

import numpy as np
import rbcl
from numpy.typing import NDArray

from protos.rounds import LocalProtocolError, RemoteProtocolError
from psi import cores

SIZE: Final = 32
"""Bytes of an element, and of a scalar."""

WORTH_A_THREAD: Final = 32
"""Below so many multiplications, handing them to another thread costs more than it saves."""

WORTH_LOADING: Final = 4096
"""From so many on, code for eight at a time is loaded: 0.5 s, the first time after an install 7 s."""

# rbcl unpacks libsodium into a temporary file and leaves it there; once loaded it is of no use.
with contextlib.suppress(OSError, AttributeError):
    os.unlink(rbcl.rbcl._sodium._name)


def hash_to_group(inputs: list[bytes], tag: bytes) -> bytes:
    """[n * 32]: hash_to_ristretto255 of RFC 9380 appendix B, `tag` being its domain separation tag."""
    wide, to_group = _expanded(inputs, tag), rbcl.crypto_core_ristretto255_from_hash

    def part(rows: range) -> bytes:
        return b"".join([to_group(wide[2 * i : 2 * i + 2 * SIZE]) for i in rows])

    return b"".join(cores.spread(part, _parts(len(inputs))))


def hash_and_multiply(scalars: bytes, inputs: list[bytes], tag: bytes) -> bytes:
    """[n * 32]: `hash_to_group`, then each by its scalar, or all by one."""
    eight = _eight(len(inputs))
    if eight is None:
        return multiply(scalars, hash_to_group(inputs, tag), "this party")
    products = _by_eights(eight.hash_and_multiply, scalars, _expanded(inputs, tag), 2 * SIZE)
    if products is None:
        raise LocalProtocolError("an id hashes to the identity, which has probability 2^-252")
    return products


def multiply(scalars: bytes, elements: bytes, source: str) -> bytes:
    """[n * 32]: each element by its scalar, or all by one scalar where `scalars` is just 32 bytes.

    Raises RemoteProtocolError, naming `source`, for an encoding that is not canonical or off the group
    (RFC 9496 section 4.3.1), for the identity, and for a length that is not a multiple of 32.
    """
    count, rest = divmod(len(elements), SIZE)
    if rest:
        raise RemoteProtocolError(f"{source} sent {len(elements)} bytes as group elements of {SIZE} bytes")
    eight = _eight(count)
    if eight is None:
        products = _one_by_one(scalars, elements)
    else:
        products = _by_eights(eight.multiply, scalars, elements, SIZE)
    if products is None or _over(elements):
        raise RemoteProtocolError(f"{source} sent an invalid group element")
    return products


def multiply_base(scalars: bytes) -> bytes:
    """[n * 32]: the generator by each scalar."""
    by = rbcl.crypto_scalarmult_ristretto255_base
    return b"".join([by(scalars[i : i + SIZE]) for i in range(0, len(scalars), SIZE)])


def check(elements: bytes, source: str) -> None:
    """Raises RemoteProtocolError, naming `source`, unless all are canonical elements other than the identity.

    For elements that enter `add` or `subtract`, which take an invalid one for the identity without a word.
    """
    valid = rbcl.crypto_core_ristretto255_is_valid_point
    for i in range(0, len(elements), SIZE):
        if elements[i : i + SIZE] == bytes(SIZE) or not valid(elements[i : i + SIZE]):
            raise RemoteProtocolError(f"{source} sent an invalid group element")
    if _over(elements):
        raise RemoteProtocolError(f"{source} sent an invalid group element")


def add(ones: bytes, others: bytes) -> bytes:
    """[n * 32]: sums of valid elements, row by row."""
    return _each(rbcl.crypto_core_ristretto255_add, ones, others)


def subtract(ones: bytes, others: bytes) -> bytes:
    """[n * 32]: differences of valid elements, row by row."""
    return _each(rbcl.crypto_core_ristretto255_sub, ones, others)


def uniform(count: int, random: Callable[[int], bytes]) -> bytes:
    """[count * 32] uniform elements of which nobody knows a discrete logarithm."""
    wide = random(2 * SIZE * count)
    to_group = rbcl.crypto_core_ristretto255_from_hash
    return b"".join([to_group(wide[i : i + 2 * SIZE]) for i in range(0, len(wide), 2 * SIZE)])


def scalars(count: int, random: Callable[[int], bytes]) -> bytes:
    """[count * 32] uniform scalars, from 64 random bytes each so that reduction leaves no bias."""
    wide = random(2 * SIZE * count)
    reduce = rbcl.crypto_core_ristretto255_scalar_reduce
    return b"".join([reduce(wide[i : i + 2 * SIZE]) for i in range(0, len(wide), 2 * SIZE)])


def inverses(batch: bytes) -> bytes:
    """[n * 32] inverses of n nonzero scalars, with one inversion in all (Montgomery's trick)."""
    product = rbcl.crypto_core_ristretto255_scalar_mul
    each = [batch[i : i + SIZE] for i in range(0, len(batch), SIZE)]
    prefixes = list(_products(each))
    if not prefixes:
        return b""
    inverted = [b""] * len(each)
    rest: bytes = rbcl.crypto_core_ristretto255_scalar_invert(prefixes[-1])
    for i in range(len(each) - 1, 0, -1):
        inverted[i] = product(rest, prefixes[i - 1])
        rest = product(rest, each[i])
    inverted[0] = rest
    return b"".join(inverted)


def _each(operation: Callable[[bytes, bytes], bytes], ones: bytes, others: bytes) -> bytes:
    rows = range(0, len(ones), SIZE)
    return b"".join([operation(ones[i : i + SIZE], others[i : i + SIZE]) for i in rows])


def _products(each: list[bytes]) -> Iterator[bytes]:
    so_far = (1).to_bytes(SIZE, "little")
    for scalar in each:
        so_far = rbcl.crypto_core_ristretto255_scalar_mul(so_far, scalar)
        yield so_far


def _expanded(inputs: list[bytes], tag: bytes) -> bytes:
    suffix = tag + bytes([len(tag)])
    return b"".join([_expand(item, suffix) for item in inputs])


def _expand(message: bytes, suffix: bytes) -> bytes:
    """expand_message_xmd with SHA-512, 64 bytes (RFC 9380 section 5.3.1); suffix: the tag and its length."""
    first = sha512(bytes(128) + message + b"\0\x40\0" + suffix).digest()
    return sha512(first + b"\1" + suffix).digest()


def _over(elements: bytes) -> bool:
    """Has any its highest bit set? libsodium 1.0.18 overlooks that, so one element had two encodings."""
    return max(elements[SIZE - 1 :: SIZE], default=0) > 0x7F


def _one_by_one(scalars: bytes, elements: bytes) -> bytes | None:
    """By libsodium, which answers -1 where an element does not decode, or where a product is the identity."""
    by, single = rbcl.crypto_scalarmult_ristretto255, scalars if len(scalars) == SIZE else None

    def part(rows: range) -> bytes:
        if single is not None:
            return b"".join([by(single, elements[i : i + SIZE]) for i in rows])
        return b"".join([by(scalars[i : i + SIZE], elements[i : i + SIZE]) for i in rows])

    try:
        return b"".join(cores.spread(part, _parts(len(elements) // SIZE)))
    except RuntimeError:
        return None


def _by_eights(work: Callable[..., bool], scalars: bytes, inputs: bytes, size: int) -> bytes | None:
    """`psi.ristretto8` takes words, and eight rows at a time: the last row fills up."""
    count = len(inputs) // size
    rows = np.minimum(np.arange(-(-count // 8) * 8), count - 1)
    given, each = _words(inputs, size)[rows], _words(scalars, SIZE)
    each = each[rows] if len(each) > 1 else np.repeat(each, len(rows), axis=0)
    products = np.empty((len(rows), SIZE // 8), np.uint64)

    def part(eights: range) -> bool:
        here = slice(eights.start // 4, eights.stop // 4)
        return work(each[here], given[here], products[here])

    fine = all(cores.spread(part, _parts(len(rows) // 8)))
    return products[:count].astype("<u8", copy=False).tobytes() if fine else None


def _words(rows: bytes, size: int) -> NDArray[np.uint64]:
    return np.frombuffer(rows, "<u8").astype(np.uint64, copy=False).reshape(-1, size // 8)


def _parts(count: int) -> list[range]:
    """Where each of `count` rows of 32 bytes begins: one range a core, if worth it."""
    parts = max(min(cores.available(), count // WORTH_A_THREAD), 1)
    bounds = [SIZE * (count * i // parts) for i in range(parts + 1)]
    return [range(start, stop, SIZE) for start, stop in pairwise(bounds)]


def _eight(count: int) -> ModuleType | None:
    """`psi.ristretto8` where it can run, and so many are worth it or it is loaded already."""
    loaded = _load_eight.cache_info().currsize > 0
    return _load_eight() if count >= (8 if loaded else WORTH_LOADING) else None


@cache
def _load_eight() -> ModuleType | None:
    """None where the processor lacks the instructions, or where first products differ from libsodium's."""
    from psi import lanes

    if not lanes.supported():
        return None
    from psi import ristretto8

    inputs, tag = [b"%d" % i for i in range(16)], b"psi.ristretto8"
    scalar, elements = sha512(tag).digest()[:31] + b"\0", hash_to_group(inputs, tag)
    right = _one_by_one(scalar, elements)
    products = _by_eights(ristretto8.multiply, scalar, elements, SIZE)
    hashed = _by_eights(ristretto8.hash_and_multiply, scalar, _expanded(inputs, tag), 2 * SIZE)
    return ristretto8 if right == products == hashed else None
