"""Eight at a time gives what libsodium gives, and what the RFC says."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import rbcl
from hypothesis import given, settings
from hypothesis import strategies as st

from protos.rounds import RemoteProtocolError
from psi import lanes, ristretto

if not lanes.supported():
    pytest.skip("needs AVX-512 IFMA", allow_module_level=True)

from psi import ristretto8

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "rfc9496.json").read_text())
GENERATOR = bytes.fromhex(VECTORS["multiples"][0])
ORDER = 2**252 + 27742317777372353535851937790883648493
PRIME = 2**255 - 19


@pytest.fixture(params=["one by one", "eight at a time"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Either way of computing, whatever the size of the batch."""
    eight = ristretto8 if request.param == "eight at a time" else None
    monkeypatch.setattr(ristretto, "_eight", lambda count: eight if count else None)
    return request.param


def words(rows: bytes, size: int = 32) -> np.ndarray:
    return np.frombuffer(rows, "<u8").reshape(-1, size // 8).copy()


def scalar(number: int) -> bytes:
    return number.to_bytes(32, "little")


def test_the_self_test_passes() -> None:
    ristretto._load_eight.cache_clear()
    assert ristretto._load_eight() is ristretto8


def test_small_multiples_of_the_generator(way: str) -> None:
    each = b"".join(scalar(i) for i in range(1, 16))
    assert ristretto.multiply(each, GENERATOR * 15, "us").hex() == "".join(VECTORS["multiples"])


def test_the_map_from_uniform_bytes_is_the_rfcs() -> None:
    uniform, elements = (
        b"".join(bytes.fromhex(v) for v in column) for column in zip(*VECTORS["from_uniform"], strict=True)
    )
    count = len(elements) // 32
    rows = np.arange(-(-count // 8) * 8) % count
    products = np.empty((len(rows), 4), np.uint64)
    assert ristretto8.hash_and_multiply(words(scalar(1))[rows * 0], words(uniform, 64)[rows], products)
    assert products[:count].tobytes() == elements


@pytest.mark.parametrize("encoding", ["00" * 32, *VECTORS["invalid"]])
@pytest.mark.parametrize("place", [0, 5, 7, 8, 20])
def test_invalid_encodings_are_refused(way: str, encoding: str, place: int) -> None:
    batch = GENERATOR * place + bytes.fromhex(encoding) + GENERATOR * (20 - place)
    with pytest.raises(RemoteProtocolError, match="mallory sent an invalid group element"):
        ristretto.multiply(scalar(7), batch, "mallory")


@pytest.mark.parametrize("number", [0, ORDER])
def test_a_product_that_is_the_identity_is_refused(way: str, number: int) -> None:
    with pytest.raises(RemoteProtocolError, match="invalid"):
        ristretto.multiply(scalar(1) * 8 + scalar(number), GENERATOR * 9, "mallory")


EDGES = [
    1,
    2,
    7,
    8,
    9,
    15,
    16,
    8 * (16**63 - 1) // 15 % ORDER,
    int("7" * 62, 16),
    int("8" * 62, 16),
    ORDER - 1,
]


@settings(deadline=None, max_examples=30)
@given(st.lists(st.one_of(st.sampled_from(EDGES), st.integers(1, ORDER - 1)), min_size=8, max_size=40))
def test_products_are_libsodiums(numbers: list[int]) -> None:
    elements = ristretto.hash_to_group([b"%d" % number for number in numbers], b"tag")
    scalars = b"".join(map(scalar, numbers))
    assert ristretto._by_eights(ristretto8.multiply, scalars, elements, 32) == ristretto._one_by_one(
        scalars, elements
    )


@settings(deadline=None, max_examples=30)
@given(
    st.lists(
        st.one_of(
            st.binary(min_size=64, max_size=64),
            # Field elements at their edges, unreduced ones and a top bit that counts for nothing among them.
            st.sampled_from([0, 1, PRIME - 1, PRIME, PRIME + 18, 2**255 - 1, 2**255, 2**256 - 1]).map(
                lambda t: t.to_bytes(32, "little") + bytes(range(32))
            ),
        ),
        min_size=8,
        max_size=24,
    )
)
def test_hashes_are_libsodiums(inputs: list[bytes]) -> None:
    elements = b"".join(map(rbcl.crypto_core_ristretto255_from_hash, inputs))
    wanted = ristretto._one_by_one(scalar(11), elements)
    assert ristretto._by_eights(ristretto8.hash_and_multiply, scalar(11), b"".join(inputs), 64) == wanted


@settings(deadline=None, max_examples=60)
@given(st.one_of(st.binary(min_size=32, max_size=32), st.integers(0, 2**256 - 1).map(scalar)))
def test_what_is_no_element_to_libsodium_is_none_here(encoding: bytes) -> None:
    """Half of the even numbers below p are elements: both ways agree on which."""
    even = bytes([encoding[0] & 0xFE]) + encoding[1:31] + bytes([encoding[31] & 0x7F])
    for tried in (encoding, even):
        made = ristretto._by_eights(ristretto8.multiply, scalar(5), GENERATOR * 8 + tried, 32)
        over = tried[31] > 0x7F  # which this libsodium overlooks: `ristretto.multiply` does not
        assert (made and made[-32:]) == (None if over else ristretto._one_by_one(scalar(5), tried))


def test_many_random_products_over_all_cores() -> None:
    scalars = ristretto.scalars(5003, os.urandom)
    inputs = [b"%d" % i for i in range(5003)]
    made = ristretto.hash_and_multiply(scalars, inputs, b"tag")
    assert made == ristretto._one_by_one(scalars, ristretto.hash_to_group(inputs, b"tag"))
    back = ristretto.multiply(ristretto.inverses(scalars), made, "us")
    assert back == ristretto.hash_to_group(inputs, b"tag")


def test_a_processor_that_errs_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(scalars: np.ndarray, inputs: np.ndarray, products: np.ndarray) -> bool:
        products[:] = 1
        return True

    monkeypatch.setattr(ristretto8, "multiply", wrong)
    ristretto._load_eight.cache_clear()
    assert ristretto._load_eight() is None
    ristretto._load_eight.cache_clear()


def test_a_processor_without_the_instructions_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lanes, "supported", lambda: False)
    ristretto._load_eight.cache_clear()
    assert ristretto._eight(10**6) is None
    ristretto._load_eight.cache_clear()
