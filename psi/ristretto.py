"""The prime-order group ristretto255 (RFC 9496), in batches, on all cores.

The arithmetic is libsodium's, constant-time, through `rbcl`; its calls release the GIL, so threads are
enough. Elements and scalars are 32 bytes; a batch is one `bytes`, 32 a row.
"""

import contextlib
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from hashlib import sha512
from typing import Final

import rbcl

from protos.rounds import RemoteProtocolError

SIZE: Final = 32
"""Bytes of an element, and of a scalar."""

WORTH_A_THREAD: Final = 32
"""Below so many multiplications, handing them to another thread costs more than it saves."""

# rbcl unpacks libsodium into a temporary file and leaves it there; once loaded it is of no use.
with contextlib.suppress(OSError, AttributeError):
    os.unlink(rbcl.rbcl._sodium._name)


def hash_to_group(inputs: list[bytes], tag: bytes) -> bytes:
    """[n * 32]: hash_to_ristretto255 of RFC 9380 appendix B, `tag` being its domain separation tag."""
    suffix = tag + bytes([len(tag)])

    def work(start: int, stop: int) -> bytes:
        return b"".join(
            [rbcl.crypto_core_ristretto255_from_hash(_expand(item, suffix)) for item in inputs[start:stop]]
        )

    return _on_all_cores(work, len(inputs))


def multiply(scalars: bytes, elements: bytes, source: str) -> bytes:
    """[n * 32]: each element by its scalar, or all by one scalar where `scalars` is just 32 bytes.

    Raises RemoteProtocolError, naming `source`, for an encoding that is not canonical or off the group
    (RFC 9496 section 4.3.1), for the identity, and for a length that is not a multiple of 32.
    """
    count, rest = divmod(len(elements), SIZE)
    if rest:
        raise RemoteProtocolError(f"{source} sent {len(elements)} bytes as group elements of {SIZE} bytes")
    single = scalars if len(scalars) == SIZE else None

    def work(start: int, stop: int) -> bytes:
        by = rbcl.crypto_scalarmult_ristretto255
        rows = range(start * SIZE, stop * SIZE, SIZE)
        if single is not None:
            return b"".join([by(single, elements[i : i + SIZE]) for i in rows])
        return b"".join([by(scalars[i : i + SIZE], elements[i : i + SIZE]) for i in rows])

    try:
        return _on_all_cores(work, count)
    except RuntimeError:  # libsodium answers -1: what came in does not decode, or the product is the identity
        raise RemoteProtocolError(f"{source} sent an invalid group element") from None


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


def _expand(message: bytes, suffix: bytes) -> bytes:
    """expand_message_xmd with SHA-512, 64 bytes (RFC 9380 section 5.3.1); suffix: the tag and its length."""
    first = sha512(bytes(128) + message + b"\0\x40\0" + suffix).digest()
    return sha512(first + b"\1" + suffix).digest()


def _on_all_cores(work: Callable[[int, int], bytes], count: int) -> bytes:
    threads = min(_cores(), count // WORTH_A_THREAD)
    if threads < 2:
        return work(0, count)
    bounds = [count * i // threads for i in range(threads + 1)]
    return b"".join(_pool().map(work, bounds[:-1], bounds[1:]))


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(_cores(), thread_name_prefix="ristretto")


@cache
def _cores() -> int:
    """Cores that this process may use, which containers make fewer than there are."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
