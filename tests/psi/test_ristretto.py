"""The group, against the vectors of RFC 9496."""

import json
import os
from pathlib import Path

import pytest
import rbcl

from protos.rounds import RemoteProtocolError
from psi import ristretto

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "rfc9496.json").read_text())
MULTIPLES = VECTORS["multiples"]
IDENTITY = "00" * 32
ORDER = 2**252 + 27742317777372353535851937790883648493


def scalar(number: int) -> bytes:
    return number.to_bytes(32, "little")


def test_small_multiples_of_the_generator() -> None:
    generator = bytes.fromhex(MULTIPLES[0])
    each = b"".join(scalar(i) for i in range(1, 16))
    assert ristretto.multiply(each, generator * 15, "us").hex() == "".join(MULTIPLES)
    assert ristretto.multiply(scalar(3), bytes.fromhex(MULTIPLES[0] + MULTIPLES[4]), "us").hex() == (
        MULTIPLES[2] + MULTIPLES[14]
    )


@pytest.mark.parametrize(("uniform", "element"), VECTORS["from_uniform"])
def test_the_library_maps_uniform_bytes_as_the_rfc_does(uniform: str, element: str) -> None:
    assert rbcl.crypto_core_ristretto255_from_hash(bytes.fromhex(uniform)).hex() == element


OVER = MULTIPLES[0][:-2] + "f6"  # the generator, with the highest bit set
assert MULTIPLES[0].endswith("76")


@pytest.mark.parametrize("encoding", [IDENTITY, OVER, *VECTORS["invalid"]])
def test_invalid_encodings_are_refused(encoding: str) -> None:
    valid = bytes.fromhex(MULTIPLES[0])
    for batch in (bytes.fromhex(encoding), valid * 99 + bytes.fromhex(encoding) + valid * 50):
        with pytest.raises(RemoteProtocolError, match="mallory sent an invalid group element"):
            ristretto.multiply(scalar(7), batch, "mallory")


@pytest.mark.parametrize("size", [31, 33, 65])
def test_wrong_lengths_are_refused(size: int) -> None:
    with pytest.raises(RemoteProtocolError, match=f"mallory sent {size} bytes"):
        ristretto.multiply(scalar(7), bytes(size), "mallory")


def test_a_batch_over_all_cores_is_the_batch_one_by_one() -> None:
    inputs = [b"%d" % i for i in range(300)]
    elements = ristretto.hash_to_group(inputs, b"tag")
    assert elements == b"".join(ristretto.hash_to_group([one], b"tag") for one in inputs)
    scalars = ristretto.scalars(300, os.urandom)
    together = ristretto.multiply(scalars, elements, "us")
    alone = [ristretto.multiply(scalars[i : i + 32], elements[i : i + 32], "us") for i in range(0, 9600, 32)]
    assert together == b"".join(alone)
    assert elements != ristretto.hash_to_group(inputs, b"other tag")


def test_inverses_undo_multiplication() -> None:
    elements = ristretto.hash_to_group([b"%d" % i for i in range(70)], b"tag")
    scalars = ristretto.scalars(70, os.urandom)
    hidden = ristretto.multiply(scalars, elements, "us")
    assert hidden != elements
    assert ristretto.multiply(ristretto.inverses(scalars), hidden, "us") == elements
    assert ristretto.inverses(b"") == b""


def test_scalars_are_reduced_from_64_bytes() -> None:
    wide = (ORDER * 12345 + 678).to_bytes(64, "little")
    assert ristretto.scalars(1, lambda size: wide[:size]) == scalar(678)
