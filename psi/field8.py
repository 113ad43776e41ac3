"""The field modulo 2^255 - 19, eight elements at a time (`psi.lanes`): five lanes of 51-bit limbs.

Every function gives limbs below 2^51 + 2^15 and takes such. No number chooses a branch or an address.
`psi.ristretto8` compiles these functions into its own; numba's cache of it does not notice a change here.
"""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from psi.compiled import compiled
from psi.lanes import every, left, load, product, right, square, zeros

Words = NDArray[np.uint64]
Lanes = Any
Field = tuple[Lanes, Lanes, Lanes, Lanes, Lanes]

LIMB: Final = (1 << 51) - 1


def limbs(number: int) -> tuple[int, ...]:
    return tuple(number >> 51 * i & LIMB for i in range(5))


ZERO, ONE = limbs(0), limbs(1)
SQRT_M1: Final = limbs(19681161376707505956807079304988542015446066515923890162744021073123829784752)


@compiled
def times(a: Field, b: Field) -> Field:
    return _folded(product(a, b))


@compiled
def squared(a: Field) -> Field:
    return _folded(square(a))


@compiled
def _squares(a: Field, times: int) -> Field:
    for _ in range(times):
        a = squared(a)
    return a


@compiled
def _folded(c: tuple[Lanes, ...]) -> Field:
    """Columns 5 to 9 come back times 19: no sum reaches 2^61 (19 times 14 numbers below 2^52, and 13)."""
    return carry((
        c[0] + _nineteen(c[5]), c[1] + _nineteen(c[6]), c[2] + _nineteen(c[7]), c[3] + _nineteen(c[8]),
        c[4] + _nineteen(c[9]),
    ))  # fmt: skip


@compiled
def carry(a: Field) -> Field:
    """Limbs below 2^61 to limbs below 2^51 + 2^15."""
    limb = every(LIMB)
    return (
        (a[0] & limb) + _nineteen(right(a[4], 51)), (a[1] & limb) + right(a[0], 51),
        (a[2] & limb) + right(a[1], 51), (a[3] & limb) + right(a[2], 51), (a[4] & limb) + right(a[3], 51),
    )  # fmt: skip


@compiled
def _nineteen(a: Lanes) -> Lanes:
    return left(a, 4) + left(a, 1) + a


@compiled
def plus(a: Field, b: Field) -> Field:
    return carry((a[0] + b[0], a[1] + b[1], a[2] + b[2], a[3] + b[3], a[4] + b[4]))


@compiled
def minus(a: Field, b: Field) -> Field:
    """a + 2p - b, so that no limb is negative."""
    p, q = every((1 << 52) - 38), every((1 << 52) - 2)
    return carry((a[0] + p - b[0], a[1] + q - b[1], a[2] + q - b[2], a[3] + q - b[3], a[4] + q - b[4]))


@compiled
def reduced(a: Field) -> Field:
    """The one representation below p."""
    a, limb = carry(carry(a)), every(LIMB)
    over = right(a[1] + right(a[0] + every(19), 51), 51)
    over = right(a[4] + right(a[3] + right(a[2] + over, 51), 51), 51)  # one, from p on
    a0 = a[0] + _nineteen(over)
    a1 = a[1] + right(a0, 51)
    a2 = a[2] + right(a1, 51)
    a3 = a[3] + right(a2, 51)
    a4 = a[4] + right(a3, 51)
    return a0 & limb, a1 & limb, a2 & limb, a3 & limb, a4 & limb


@compiled
def negative(a: Field) -> Lanes:
    return every(0) - (reduced(a)[0] & every(1))


@compiled
def absolute(a: Field) -> Field:
    return pick(negative(a), minus(constant(ZERO), a), a)


@compiled
def equal(a: Field, b: Field) -> Lanes:
    rest = reduced(minus(a, b))
    return zeros(rest[0] | rest[1] | rest[2] | rest[3] | rest[4])


@compiled
def pick(mask: Lanes, a: Field, b: Field) -> Field:
    """a where the mask is all ones, b where it is zero."""
    return (
        b[0] ^ (mask & (a[0] ^ b[0])), b[1] ^ (mask & (a[1] ^ b[1])), b[2] ^ (mask & (a[2] ^ b[2])),
        b[3] ^ (mask & (a[3] ^ b[3])), b[4] ^ (mask & (a[4] ^ b[4])),
    )  # fmt: skip


@compiled
def square_root(u: Field, v: Field) -> tuple[Lanes, Field]:
    """SQRT_RATIO_M1 of RFC 9496 section 4.2: (is u/v a square, its root or that of i u/v, nonnegative)."""
    v3 = times(squared(v), v)
    w = times(u, times(squared(v3), v))  # u v^7; next, its powers 2^k - 1
    w2 = times(squared(w), w)
    w4 = times(_squares(w2, 2), w2)
    w5 = times(squared(w4), w)
    w10 = times(_squares(w5, 5), w5)
    w20 = times(_squares(w10, 10), w10)
    w25 = times(_squares(w20, 5), w5)
    w50 = times(_squares(w25, 25), w25)
    w100 = times(_squares(w50, 50), w50)
    w200 = times(_squares(w100, 100), w100)
    w250 = times(_squares(w200, 50), w50)
    root = times(times(u, v3), times(_squares(w250, 2), w))  # (p - 5) / 8 = 2^252 - 3
    check, i = times(v, squared(root)), constant(SQRT_M1)
    minus_u = minus(constant(ZERO), u)
    correct, flipped, flipped_i = equal(check, u), equal(check, minus_u), equal(check, times(minus_u, i))
    return correct | flipped, absolute(pick(flipped | flipped_i, times(i, root), root))


@compiled
def constant(a: tuple[int, ...]) -> Field:
    return every(a[0]), every(a[1]), every(a[2]), every(a[3]), every(a[4])


@compiled
def read(rows: Words, row: int, column: int, work: Words) -> Field:
    """Four words of each of eight rows as limbs, the last of 52 bits."""
    for lane in range(8):
        for i in range(4):
            work[8 * i + lane] = rows[row + lane, column + i]
    a, b, c, d = load(work, 0), load(work, 8), load(work, 16), load(work, 24)
    limb = every(LIMB)
    return (
        a & limb, (right(a, 51) | left(b, 13)) & limb, (right(b, 38) | left(c, 26)) & limb,
        (right(c, 25) | left(d, 39)) & limb, right(d, 12),
    )  # fmt: skip


@compiled
def to_words(a: Field) -> tuple[Lanes, Lanes, Lanes, Lanes]:
    """Of reduced limbs."""
    return (
        a[0] | left(a[1], 51), right(a[1], 13) | left(a[2], 38), right(a[2], 26) | left(a[3], 25),
        right(a[3], 39) | left(a[4], 12),
    )  # fmt: skip
