"""ristretto255 eight elements at a time, for processors with AVX-512 IFMA: ten times libsodium's speed.

The formulas are those of RFC 9496 (sections 4.2 and 4.3) and, for points, of Hisil, Wong, Carter and Dawson
2008 ("Twisted Edwards curves revisited", a = -1). Scalars and coordinates never choose a branch or an
address: tables are read whole, digits are picked by masks. The tests hold it against libsodium.
"""

from typing import Final

import numpy as np

from psi.compiled import compiled
from psi.field8 import (
    LIMB,
    ONE,
    SQRT_M1,
    ZERO,
    Field,
    Lanes,
    Words,
    absolute,
    constant,
    equal,
    limbs,
    minus,
    negative,
    pick,
    plus,
    read,
    reduced,
    square_root,
    squared,
    times,
    to_words,
)
from psi.lanes import every, load, right, store, zeros

Point = tuple[Field, Field, Field, Field]
"""Extended coordinates: X, Y, Z, T with x = X/Z, y = Y/Z, XY = ZT."""

TABLE: Final = 64 * 8
"""Where in the working memory the eight multiples stand, after the 64 digits of eight scalars."""

WORK: Final = TABLE + 8 * 160


# RFC 9496 section 4.1
D: Final = limbs(37095705934669439343138083508754565189542113879843219016388785533085940283555)
TWICE_D: Final = limbs(16295367250680780974490674513165176452449235426866156013048779062215315747161)
SQRT_AD_MINUS_ONE: Final = limbs(
    25063068953384623474111414158702152701244531502492656460079210482610430750235
)
INVSQRT_A_MINUS_D: Final = limbs(
    54469307008909316920995813868745141605393597292927456921205312896311721017578
)
ONE_MINUS_D_SQ: Final = limbs(1159843021668779879193775521855586647937357759715417654439879720876111806838)
D_MINUS_ONE_SQ: Final = limbs(40440834346308536858101042469323190826248399146238708352240133220865137265952)


@compiled
def multiply(scalars: Words, elements: Words, products: Words) -> bool:
    """products [n, 4] = scalars [n, 4] times elements [n, 4], little-endian words; n a multiple of eight.

    Scalars are below 2^255. False if an encoding is not valid or a product is the identity.
    """
    work = np.empty(WORK, np.uint64)
    wrong = every(0)
    for row in range(0, len(elements), 8):
        valid, point = _decode(read(elements, row, 0, work))
        wrong = wrong | valid ^ every(-1) | _multiply(point, scalars, row, work, products)
    return _nowhere(wrong, work)


@compiled
def hash_and_multiply(scalars: Words, uniform: Words, products: Words) -> bool:
    """As `multiply`, of the elements that 64 uniform bytes, [n, 8] words, map to (RFC 9496 section 4.3.4)."""
    work = np.empty(WORK, np.uint64)
    wrong = every(0)
    for row in range(0, len(uniform), 8):
        one, two = _map(read(uniform, row, 0, work)), _map(read(uniform, row, 4, work))
        point = _extended(_add(one, _cached(two)))
        wrong = wrong | _multiply(point, scalars, row, work, products)
    return _nowhere(wrong, work)


@compiled
def _multiply(point: Point, scalars: Words, row: int, work: Words, products: Words) -> Lanes:
    """Write eight encoded products; all ones where one is the identity. Radix 16, signed digits."""
    _recode(scalars, row, work)
    step = _cached(point)
    _keep(step, work, TABLE)
    for i in range(1, 8):
        point = _extended(_add(point, step))
        _keep(_cached(point), work, TABLE + 160 * i)
    zero, one = constant(ZERO), constant(ONE)
    x, y, z, t = zero, one, one, zero
    for i in range(63, -1, -1):
        for _ in range(3):
            e, f, g, h = _double(x, y, z)
            x, y, z = times(e, f), times(g, h), times(f, g)
        total = _add(_extended(_double(x, y, z)), _look_up(load(work, 8 * i), work))
        x, y, z, t = _extended(total)
    words = to_words(_encode((x, y, z, t)))
    for i in range(4):
        store(work, 8 * i, words[i])
    for lane in range(8):
        for i in range(4):
            products[row + lane, i] = work[8 * i + lane]
    return zeros(words[0] | words[1] | words[2] | words[3])


@compiled
def _recode(scalars: Words, row: int, work: Words) -> None:
    """The digits of eight scalars, each from -8 to 8, the i-th of all lanes together: [64, 8]."""
    for lane in range(8):
        over = np.int64(0)
        for i in range(64):
            nibble = np.int64(scalars[row + lane, i >> 4] >> np.uint64(4 * (i & 15))) & 15
            digit = nibble + over
            over = (digit + 8) >> 4 if i < 63 else np.int64(0)
            work[8 * i + lane] = np.uint64(digit - (over << 4))


@compiled
def _look_up(digit: Lanes, work: Words) -> Point:
    """The multiple that each lane's digit asks for, having read all eight."""
    sign = every(0) - right(digit, 63)
    size = (digit ^ sign) - sign
    zero, one = constant(ZERO), constant(ONE)
    total, difference, z, t = one, one, one, zero
    for i in range(8):
        here, at = zeros(size ^ every(i + 1)), TABLE + 160 * i
        total, difference = pick(here, _kept(work, at), total), pick(here, _kept(work, at + 40), difference)
        z, t = pick(here, _kept(work, at + 80), z), pick(here, _kept(work, at + 120), t)
    return (
        pick(sign, difference, total), pick(sign, total, difference), z, pick(sign, minus(zero, t), t)
    )  # fmt: skip


@compiled
def _decode(s: Field) -> tuple[Lanes, Point]:
    """RFC 9496 section 4.3.1: (is it valid, the point). `s`: all 256 bits as read."""
    least = reduced(s)
    odd = (least[0] & every(1)) | (s[0] ^ least[0]) | (s[1] ^ least[1]) | (s[2] ^ least[2])
    odd = odd | (s[3] ^ least[3]) | (s[4] ^ least[4])
    one = constant(ONE)
    ss = squared(least)
    u1, u2 = minus(one, ss), plus(one, ss)
    u2_square = squared(u2)
    v = minus(minus(constant(ZERO), times(constant(D), squared(u1))), u2_square)
    was_square, root = square_root(one, times(v, u2_square))
    x_part = times(root, u2)
    y_part = times(times(root, x_part), v)
    x = absolute(times(plus(least, least), x_part))
    y = times(u1, y_part)
    t = times(x, y)
    wrong = negative(t) | equal(y, constant(ZERO)) | (zeros(odd) ^ every(-1))
    return was_square & (wrong ^ every(-1)), (x, y, one, t)


@compiled
def _encode(point: Point) -> Field:
    """RFC 9496 section 4.3.2."""
    x, y, z, t = point
    u1, u2 = times(plus(z, y), minus(z, y)), times(x, y)
    _, root = square_root(constant(ONE), times(u1, squared(u2)))
    part1, part2 = times(root, u1), times(root, u2)
    z_inverse = times(times(part1, part2), t)
    i = constant(SQRT_M1)
    rotate = negative(times(t, z_inverse))
    part = pick(rotate, times(part1, constant(INVSQRT_A_MINUS_D)), part2)
    rotated_x, rotated_y = pick(rotate, times(y, i), x), pick(rotate, times(x, i), y)
    flip = negative(times(rotated_x, z_inverse))
    rotated_y = pick(flip, minus(constant(ZERO), rotated_y), rotated_y)
    return reduced(absolute(times(part, minus(z, rotated_y))))


@compiled
def _map(s: Field) -> Point:
    """RFC 9496 section 4.3.4, MAP, of the low 255 bits."""
    t = (s[0], s[1], s[2], s[3], s[4] & every(LIMB))
    one, d = constant(ONE), constant(D)
    r = times(constant(SQRT_M1), squared(t))
    u = times(plus(r, one), constant(ONE_MINUS_D_SQ))
    v = times(minus(minus(constant(ZERO), one), times(r, d)), plus(r, d))
    was_square, root = square_root(u, v)
    other = minus(constant(ZERO), absolute(times(root, t)))
    root = pick(was_square, root, other)
    c = pick(was_square, minus(constant(ZERO), one), r)
    n = minus(times(times(c, minus(r, one)), constant(D_MINUS_ONE_SQ)), v)
    ss = squared(root)
    w0, w1 = times(plus(root, root), v), times(n, constant(SQRT_AD_MINUS_ONE))
    return _extended((w0, plus(one, ss), w1, minus(one, ss)))


@compiled
def _double(x: Field, y: Field, z: Field) -> Point:
    """(E, F, G, H) of the double, whose products `_extended` takes to coordinates."""
    xx, yy, zz = squared(x), squared(y), squared(z)
    h, g = plus(xx, yy), minus(xx, yy)
    return minus(h, squared(plus(x, y))), plus(plus(zz, zz), g), g, h


@compiled
def _add(p: Point, q: Point) -> Point:
    """(E, F, G, H) of p + q, where q is `_cached`."""
    x, y, z, t = p
    a, b = times(minus(y, x), q[1]), times(plus(y, x), q[0])
    c, zz = times(t, q[3]), times(z, q[2])
    d = plus(zz, zz)
    return minus(b, a), minus(d, c), plus(d, c), plus(b, a)


@compiled
def _extended(p: Point) -> Point:
    e, f, g, h = p
    return times(e, f), times(g, h), times(f, g), times(e, h)


@compiled
def _cached(p: Point) -> Point:
    x, y, z, t = p
    return plus(y, x), minus(y, x), z, times(t, constant(TWICE_D))


@compiled
def _keep(p: Point, work: Words, at: int) -> None:
    for i, a in enumerate(p):
        for j, limb in enumerate(a):
            store(work, at + 40 * i + 8 * j, limb)


@compiled
def _kept(work: Words, at: int) -> Field:
    return load(work, at), load(work, at + 8), load(work, at + 16), load(work, at + 24), load(work, at + 32)


@compiled
def _nowhere(mask: Lanes, work: Words) -> bool:
    store(work, 0, mask)
    return not work[:8].any()
