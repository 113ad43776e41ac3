"""The wire format of tensors."""

import math
import struct

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from protos.rounds import RemoteProtocolError
from splitnn.tensors import decode, encode, encoded_size

finite = st.floats(width=32, allow_nan=False, allow_infinity=False)
shapes = st.lists(st.integers(0, 5), min_size=1, max_size=3).map(tuple)


@settings(deadline=None, max_examples=60)
@given(shape=shapes, step=st.integers(0, 2**64 - 1), data=st.data())
def test_what_is_encoded_comes_back_bit_for_bit(
    shape: tuple[int, ...], step: int, data: st.DataObject
) -> None:
    tensor = torch.from_numpy(data.draw(arrays("float32", shape, elements=finite)))
    payload = encode(tensor, step)
    assert len(payload) == encoded_size(shape)
    back = decode(payload, "it", shape, step)
    assert back.numpy().tobytes() == tensor.numpy().tobytes()


def test_the_format_is_fixed() -> None:
    payload = encode(torch.tensor([[1.0, -2.0, 0.5]]), 258)
    assert payload.hex() == "5654010001020000020100000000000001000000030000000000803f000000c00000003f"


def test_a_strided_tensor_is_sent_row_by_row() -> None:
    tensor = torch.arange(12.0).reshape(3, 4)
    assert encode(tensor[:, 1:3], 1) == encode(tensor[:, 1:3].clone(), 1)


def test_the_result_may_be_written_to_and_is_aligned() -> None:
    tensor = decode(encode(torch.ones(3, 5), 1), "it", (3, 5), 1)
    tensor.add_(1)
    assert tensor.data_ptr() % 64 == 0


def test_finite_elements_with_an_overflowing_sum_pass() -> None:
    largest = torch.full((4,), torch.finfo(torch.float32).max)
    assert torch.equal(decode(encode(largest, 1), "it", (4,), 1), largest)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_tensor_that_is_not_finite_is_refused(value: float) -> None:
    payload = encode(torch.zeros(2, 3), 1)[:-4] + struct.pack("<f", value)
    with pytest.raises(RemoteProtocolError, match=r"activation from 'x' holds NaN or infinity"):
        decode(payload, "activation from 'x'", (2, 3), 1)


@settings(deadline=None, max_examples=200)
@given(payload=st.binary(max_size=64), position=st.integers(0, 23), byte=st.integers(0, 255))
def test_any_other_bytes_raise_one_error(payload: bytes, position: int, byte: int) -> None:
    good = encode(torch.ones(2, 3), 7)
    changed = good[:position] + bytes([byte]) + good[position + 1 :]
    for bad in (payload, payload + good, good[: len(payload) % len(good)], changed):
        if bad != good:
            with pytest.raises(RemoteProtocolError):
                decode(bad, "it", (2, 3), 7)


def test_another_dtype_is_not_sent() -> None:
    with pytest.raises(TypeError, match="float32"):
        encode(torch.zeros(2, dtype=torch.float64), 1)
