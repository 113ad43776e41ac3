"""The field GF(2^128): polynomials over GF(2) modulo x^128 + x^7 + x^2 + x + 1.

An element is two little-endian words: bit i of word j is the coefficient of x^(64 j + i). It is the field of
GCM (NIST SP 800-38D), which writes the bits of each byte in the other order.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from psi.compiled import compiled

BITS: Final = 128

Words = NDArray[np.uint64]


def times_x(values: Words) -> Words:
    """x * v for each of [n, 2]."""
    low, high = values[:, 0], values[:, 1]
    made = np.empty_like(values)
    made[:, 0] = (low << np.uint64(1)) ^ (high >> np.uint64(63)) * np.uint64(0x87)
    made[:, 1] = (high << np.uint64(1)) | (low >> np.uint64(63))
    return made


def combine(rows: Words) -> Words:
    """The sum over i of x^i * rows[i], [k, n, 2] -> [n, 2], by Horner's rule."""
    total: Words = np.zeros_like(rows[0])
    for row in rows[::-1]:
        total = times_x(total) ^ row
    return total


def table(element: Words) -> Words:
    """[16, 256, 2]: `element` [2] times byte b at place k, b * x^(8 k). 64 KiB, secret if the element is."""
    products = np.zeros((BITS // 8, 256, 2), np.uint64)
    power = element[None]
    for place in products:
        for bit in range(8):
            half = 1 << bit
            place[half : 2 * half] = place[:half] ^ power
            power = times_x(power)
    return products


@compiled
def add_products(totals: Words, values: Words, products: Words) -> None:
    """totals[i] += element * values[i], both [n, 2], by the `table` of the element."""
    for i in range(len(values)):
        low, high = totals[i, 0], totals[i, 1]
        for word in range(2):
            rest = values[i, word]
            for place in range(8 * word, 8 * word + 8):
                byte = rest & np.uint64(0xFF)
                low ^= products[place, byte, 0]
                high ^= products[place, byte, 1]
                rest >>= np.uint64(8)
        totals[i, 0], totals[i, 1] = low, high
