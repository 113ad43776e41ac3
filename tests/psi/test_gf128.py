"""The field, against a bitwise reference and the test vectors of GCM."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from psi import gf128

MODULUS = 1 << 128 | 0x87
ELEMENTS = st.integers(0, (1 << 128) - 1)


def reference(a: int, b: int) -> int:
    product = 0
    for i in range(128):
        if b >> i & 1:
            product ^= a << i
    for i in range(254, 127, -1):
        if product >> i & 1:
            product ^= MODULUS << (i - 128)
    return product


def words(elements: list[int]) -> np.ndarray:
    joined = b"".join(element.to_bytes(16, "little") for element in elements)
    return np.frombuffer(joined, "<u8").reshape(-1, 2)


def integers(elements: np.ndarray) -> list[int]:
    return [int.from_bytes(row.tobytes(), "little") for row in elements]


def times(element: int, values: list[int]) -> list[int]:
    totals = np.zeros((len(values), 2), np.uint64)
    gf128.add_products(totals, words(values), gf128.table(words([element])[0]))
    return integers(totals)


@settings(deadline=None, max_examples=50)
@given(ELEMENTS, st.lists(ELEMENTS, max_size=4), st.lists(ELEMENTS, max_size=4))
def test_products_are_those_of_polynomials_and_are_added(
    element: int, values: list[int], to: list[int]
) -> None:
    count = min(len(values), len(to))
    totals = words(to[:count]).copy()
    gf128.add_products(totals, words(values[:count]), gf128.table(words([element])[0]))
    expected = [t ^ reference(element, v) for t, v in zip(to, values, strict=False)]
    assert integers(totals) == expected


@pytest.mark.parametrize("one", [1 << i for i in (0, 1, 63, 64, 126, 127)])
def test_the_edges_of_reduction(one: int) -> None:
    values = [1 << i for i in (0, 63, 64, 127)] + [(1 << 128) - 1]
    assert times(one, values) == [reference(one, value) for value in values]


def test_the_multiplications_of_gcm() -> None:
    """McGrew and Viega, "The Galois/Counter Mode of Operation", appendix B, test case 2: H, C, X_1; GHASH."""

    def reflected(text: str) -> int:  # GCM writes the coefficient of x^0 in the highest bit of the first byte
        return int(f"{int(text, 16):0128b}"[::-1], 2)

    h, c = reflected("66e94bd4ef8a2c3b884cfa59ca342b2e"), reflected("0388dace60b6a392f328c2b971b2fe78")
    x1 = reflected("5e2ec746917062882c85b0685353deb7")
    length = reflected("00000000000000000000000000000080")
    ghash = reflected("f38cbb1ad69223dcc3457ae5b6b0f885")
    assert times(h, [c, x1 ^ length]) == [x1, ghash]


@settings(deadline=None, max_examples=20)
@given(st.lists(st.tuples(ELEMENTS, ELEMENTS), min_size=1, max_size=128))
def test_combine_weighs_row_i_by_x_to_the_i(rows: list[tuple[int, int]]) -> None:
    made = gf128.combine(np.stack([words(list(row)) for row in rows]))
    for column in range(2):
        expected = 0
        for i, row in enumerate(rows):
            expected ^= reference(1 << i, row[column])
        assert integers(made)[column] == expected
