"""Codecs by themselves: what they lose, that they are unbiased, their bytes, and bodies that they refuse."""

import math
import struct
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch import Tensor

from splitnn.codecs import BF16, DENSE, FP32, INT8, Codec, Kept, RandTopk

finite = st.floats(width=32, allow_nan=False, allow_infinity=False)
moderate = st.floats(-(2.0**100), 2.0**100, width=32)
shapes = st.tuples(st.integers(1, 6), st.integers(1, 20))


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def body(codec: Codec[Any], item: Tensor | Kept, noise: torch.Generator | None = None) -> bytes:
    return b"".join(codec.write(item, noise))


def through(codec: Codec[Tensor], tensor: Tensor, noise: torch.Generator | None = None) -> Tensor:
    written = body(codec, tensor, noise)
    assert len(written) == codec.size(tensor.shape)
    return codec.read(memoryview(written), tensor.shape)


@settings(deadline=None, max_examples=60)
@given(shape=shapes, data=st.data())
def test_bf16_rounds_as_the_processor_does(shape: tuple[int, int], data: st.DataObject) -> None:
    tensor = torch.from_numpy(data.draw(arrays("float32", shape, elements=moderate)))
    assert through(BF16, tensor).numpy().tobytes() == tensor.bfloat16().float().numpy().tobytes()
    again = through(BF16, through(BF16, tensor))
    assert torch.equal(again, through(BF16, tensor)), "what is a bf16 already is not changed"


@settings(deadline=None, max_examples=60)
@given(shape=shapes, seed=st.none() | st.integers(0, 99), data=st.data())
def test_int8_is_within_one_scale_and_half_without_draws(
    shape: tuple[int, int], seed: int | None, data: st.DataObject
) -> None:
    tensor = torch.from_numpy(data.draw(arrays("float32", shape, elements=moderate)))
    back = through(INT8, tensor, None if seed is None else seeded(seed)).double()
    scale = (tensor.double().abs().amax(1, keepdim=True) / 127).clamp_min(2.0**-126)
    most = 0.5 if seed is None else 1.0
    assert ((back - tensor.double()).abs() <= scale * (most + 1e-4)).all()
    assert torch.equal(back[tensor == 0], tensor[tensor == 0].double()), "zero stays zero"


def test_int8_keeps_whole_multiples_of_its_scale() -> None:
    tensor = torch.arange(-127.0, 128.0).repeat(3, 1) * torch.tensor([[1.0], [2.0**-20], [2.0**90]])
    assert torch.equal(through(INT8, tensor, seeded(0)), tensor)


def test_int8_is_unbiased() -> None:
    """The mean of n roundings is within 5 standard errors of the number; to the nearest it is not."""
    row = torch.cat((torch.linspace(-1, 1, 60), torch.tensor([0.3 / 127, 1 - 0.3 / 127])))
    many = row.repeat(40_000, 1)
    errors = (through(INT8, many, seeded(3)).double() - many.double()) * 127
    tolerance = 5 * 0.5 / math.sqrt(len(many))
    assert errors.mean(0).abs().max() < tolerance
    assert ((through(INT8, many) - many) * 127).mean(0).abs().max() > 10 * tolerance


@settings(deadline=None, max_examples=60)
@given(
    shape=shapes,
    explore=st.sampled_from([0.0, 0.2, 0.9]),
    seed=st.none() | st.integers(0, 99),
    data=st.data(),
)
def test_randtopk_keeps_so_many_of_each_row_unchanged(
    shape: tuple[int, int], explore: float, seed: int | None, data: st.DataObject
) -> None:
    """Ties and zeros included."""
    values = st.sampled_from([0.0, -0.0, 1.0, -1.0]) | finite
    tensor = torch.from_numpy(data.draw(arrays("float32", shape, elements=values)))
    codec = RandTopk(data.draw(st.integers(1, shape[1])), explore)
    kept = codec.choose(tensor, None if seed is None else seeded(seed))
    assert (kept.columns.diff() > 0).all()
    assert torch.equal(kept.values, tensor.gather(1, kept.columns))
    if seed is None or explore == 0:
        least = kept.values.abs().amin(1)
        assert torch.equal(least, tensor.abs().sort(1, descending=True)[0][:, codec.keep - 1])
    written = body(codec, kept)
    assert len(written) == codec.size(shape) == shape[0] * (-(-shape[1] // 8) + 4 * codec.keep)
    back = codec.read(memoryview(written), shape)
    assert torch.equal(back.columns, kept.columns)
    assert back.values.numpy().tobytes() == kept.values.numpy().tobytes()
    if codec.keep == shape[1]:
        assert back.dense().numpy().tobytes() == tensor.numpy().tobytes()


def test_of_equal_magnitudes_the_first_are_kept() -> None:
    kept = RandTopk(2, 0.1).choose(torch.tensor([[1.0, -1.0, 1.0, 1.0], [0.0, 1.0, -2.0, 1.0]]), None)
    assert kept.columns.tolist() == [[0, 1], [1, 2]]


@pytest.mark.parametrize(("keep", "explore"), [(1, 0.1), (2, 0.3), (3, 0.6)])
def test_randtopk_draws_sets_as_often_as_the_definition_says(keep: int, explore: float) -> None:
    """Against the probabilities of drawing one by one without replacement, by the definition's weights."""
    tensor = torch.tensor([[5.0, -0.1, 0.2, -4.0, 3.0]])
    top = set(tensor[0].abs().topk(keep)[1].tolist())
    weights = [(1 - explore) / keep if i in top else explore / (5 - keep) for i in range(5)]
    expected: dict[frozenset[int], float] = {}

    def draw(chosen: tuple[int, ...], probability: float) -> None:
        if len(chosen) == keep:
            key = frozenset(chosen)
            expected[key] = expected.get(key, 0.0) + probability
            return
        left = [i for i in range(5) if i not in chosen]
        total = sum(weights[i] for i in left)
        for i in left:
            draw((*chosen, i), probability * weights[i] / total)

    draw((), 1.0)
    n = 60_000
    kept = RandTopk(keep, explore).choose(tensor.repeat(n, 1), seeded(11))
    found = {frozenset(row): 0 for row in expected}
    for row, count in zip(*np.unique(kept.columns.numpy(), axis=0, return_counts=True), strict=True):
        found[frozenset(row.tolist())] = int(count)
    for chosen, probability in expected.items():
        error = math.sqrt(probability * (1 - probability) / n)
        assert abs(found[chosen] / n - probability) < 5 * error + 1e-9, chosen


def test_the_gradient_of_what_is_not_kept_is_zero() -> None:
    tensor = torch.tensor([[3.0, 1.0, -2.0]], requires_grad=True)
    kept = RandTopk(2, 0.0).choose(tensor, None)
    kept.dense().backward(torch.tensor([[10.0, 20.0, 30.0]]))
    assert tensor.grad is not None
    assert tensor.grad.tolist() == [[10.0, 0.0, 30.0]]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_not_written(value: float) -> None:
    tensor = torch.tensor([[1.0, value], [0.0, 0.0]])
    for codec in DENSE.values():
        with pytest.raises(ValueError, match="holds NaN"):
            codec.write(tensor, None)
    with pytest.raises(ValueError, match="holds NaN"):
        RandTopk(1, 0.1).choose(tensor, None)


def test_what_is_too_large_for_a_codec_is_not_written() -> None:
    largest = torch.full((1, 2), torch.finfo(torch.float32).max)
    assert torch.equal(through(FP32, largest), largest)
    with pytest.raises(ValueError, match="holds NaN or infinity"):
        BF16.write(largest, None)
    with pytest.raises(ValueError, match="too large for int8"):
        INT8.write(largest, None)
    assert torch.isfinite(through(INT8, largest / 4)).all()


@pytest.mark.parametrize(
    "scale", [math.nan, math.inf, -math.inf, -1.0, 0.0, 1e-40, 2.0**121, struct.unpack("<f", b"\xff" * 4)[0]]
)
def test_a_scale_that_cannot_be_is_refused(scale: float) -> None:
    written = bytearray(body(INT8, torch.ones(2, 3)))
    written[4:8] = struct.pack("<f", scale)
    with pytest.raises(ValueError, match="whose scale"):
        INT8.read(memoryview(written), (2, 3))


def test_the_byte_that_int8_never_writes_is_refused() -> None:
    written = bytearray(body(INT8, torch.ones(2, 3)))
    written[-2] = 0x80
    with pytest.raises(ValueError, match=r"not in -127\.\.127"):
        INT8.read(memoryview(written), (2, 3))


@pytest.mark.parametrize("first", [0b0000_0000, 0b1000_0000, 0b1110_0000, 0b1000_0001, 0b1111_1111])
def test_a_bitmap_of_too_few_too_many_or_no_columns_at_all_is_refused(first: int) -> None:
    """In a bitmap no column comes twice; beyond the width is a bit that must be clear."""
    codec = RandTopk(2, 0.1)
    written = bytearray(body(codec, codec.choose(torch.tensor([[1.0, 2.0, 3.0], [3.0, 2.0, 1.0]]), None)))
    assert written[:2] == bytes([0b0110_0000, 0b1100_0000])
    written[0] = first
    with pytest.raises(ValueError, match="does not mark 2 of 3 columns in every row"):
        codec.read(memoryview(written), (2, 3))


@pytest.mark.parametrize("codec", [FP32, BF16, RandTopk(2, 0.1)])
def test_a_body_that_is_not_finite_is_refused(codec: Any) -> None:
    tensor = torch.ones(2, 3)
    written = bytearray(body(codec, codec.choose(tensor, None) if isinstance(codec, RandTopk) else tensor))
    written[-2:] = b"\x80\x7f"  # the upper half of infinity
    with pytest.raises(ValueError, match="holds NaN or infinity"):
        codec.read(memoryview(written), (2, 3))


@pytest.mark.parametrize("codec", [*DENSE.values()])
def test_a_strided_tensor_is_written_row_by_row(codec: Codec[Tensor]) -> None:
    tensor = torch.randn(4, 6, generator=seeded(0))
    for strided in (tensor[:, 1:4], tensor.T):
        assert body(codec, strided, seeded(1)) == body(codec, strided.clone().contiguous(), seeded(1))


def test_the_bodies_are_fixed() -> None:
    tensor = torch.tensor([[1.0, -2.0, 0.5], [0.0, 0.0, 0.0]])
    assert body(BF16, tensor).hex() == "803f00c0003f000000000000"
    assert body(INT8, tensor).hex() == "0402813c" + "00008000" + "408120" + "000000"
    assert body(RandTopk(1, 0.1), RandTopk(1, 0.1).choose(tensor, None)).hex() == "4080000000c000000000"
