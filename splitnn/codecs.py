"""How the numbers of the cut layer are written on the wire: fewer bytes for less precision.

`fp32` is exact. `bf16` rounds to the nearest. `int8` rounds at random so that the mean is right, against a
scale for each row (Alistarh et al. 2017, "QSGD", section 3.1, with the largest magnitude as the norm).
`randtopk` keeps a few numbers of each row (Zheng, Chen, Lyu and Yao 2023, "Reducing Communication for Split
Learning by Randomized Top-k Sparsification", IJCAI, doi 10.24963/ijcai.2023/519).

All but randtopk write any [b, d]. Where no `noise` is given (evaluation), int8 rounds to the nearest and
randtopk keeps the largest: the same row always has the same score.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, TypeAlias, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Shape: TypeAlias = Sequence[int]
Buffer: TypeAlias = memoryview | bytes
SMALLEST_SCALE = np.finfo(np.float32).tiny
LARGEST_SCALE = np.float32(2.0**120)
"""127 times this is finite, with room for rounding."""


@dataclass(frozen=True)
class Kept:
    """What is left of float32 [b, width]: `values` [b, k] of these `columns` (int64 [b, k], ascending)."""

    values: Tensor
    columns: Tensor
    width: int

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.values), self.width

    @property
    def dtype(self) -> torch.dtype:
        return self.values.dtype

    def dense(self) -> Tensor:
        """float32 [b, width], zero where nothing was kept; in the graph of `values`."""
        return torch.zeros(self.shape).scatter(1, self.columns, self.values)


@dataclass(frozen=True)
class Share:
    """One feature holder's part of a secure sum (`splitnn.secure_sum`): unsigned words [b, width]."""

    words: NDArray[Any]

    @property
    def shape(self) -> tuple[int, ...]:
        return self.words.shape

    @property
    def dtype(self) -> torch.dtype:
        """Of what the sum stands for."""
        return torch.float32


T = TypeVar("T", Tensor, Kept, Share)


class Codec(Protocol[T]):
    """Writes a T, whose `shape` is [b, d], as a body of `size(shape)` bytes, and reads it back.

    number: in the header of the message. draws: whether `write` uses noise.
    Both raise ValueError, which says what is wrong: `write` for what is not finite or too large, `read` for
    bytes that `write` does not produce.
    """

    @property
    def number(self) -> int: ...
    @property
    def draws(self) -> bool: ...
    def size(self, shape: Shape) -> int: ...
    def write(self, item: T, noise: torch.Generator | None) -> tuple[Buffer, ...]: ...
    def read(self, body: memoryview, shape: Shape) -> T: ...


@dataclass(frozen=True)
class Float32:
    """Four bytes a number, exact."""

    number: ClassVar[int] = 0
    draws: ClassVar[bool] = False

    def size(self, shape: Shape) -> int:
        return 4 * math.prod(shape)

    def write(self, item: Tensor, noise: torch.Generator | None) -> tuple[Buffer, ...]:
        return (np.ascontiguousarray(finite(item.detach()).numpy(), "<f4").data,)

    def read(self, body: memoryview, shape: Shape) -> Tensor:
        tensor = torch.empty(tuple(shape))
        tensor.numpy()[...] = np.frombuffer(body, "<f4").reshape(tuple(shape))
        return finite(tensor)


@dataclass(frozen=True)
class BFloat16:
    """Two bytes a number: the upper half of a float32, rounded to the nearest, ties to even."""

    number: ClassVar[int] = 1
    draws: ClassVar[bool] = False

    def size(self, shape: Shape) -> int:
        return 2 * math.prod(shape)

    def write(self, item: Tensor, noise: torch.Generator | None) -> tuple[Buffer, ...]:
        rounded = item.detach().to(torch.bfloat16).contiguous()
        return (finite(rounded).view(torch.int16).numpy().astype("<i2", copy=False).data,)

    def read(self, body: memoryview, shape: Shape) -> Tensor:
        upper = np.frombuffer(body, "<u2").reshape(tuple(shape)).astype(np.uint32)
        return finite(torch.from_numpy((upper << 16).view(np.float32)))


@dataclass(frozen=True)
class Int8:
    """A byte a number and four a row: float32 scales [b], then int8 [b, d] in -127..127.

    A number is its byte times the row's scale, which is the row's largest magnitude / 127. Unbiased to
    within 2^-16 of a scale: the draws that round have 16 bits.
    """

    number: ClassVar[int] = 2
    draws: ClassVar[bool] = True

    def size(self, shape: Shape) -> int:
        return 4 * shape[0] + math.prod(shape)

    def write(self, item: Tensor, noise: torch.Generator | None) -> tuple[Buffer, ...]:
        values = item.detach().contiguous()
        # A row of zeros gets the smallest scale too: no case of its own, and no division by zero.
        scale = (values.abs().amax(1, keepdim=True) / 127).clamp_min(float(SMALLEST_SCALE))
        if not bool((scale <= float(LARGEST_SCALE)).all()):
            raise ValueError("holds NaN, infinity, or a number too large for int8")
        scaled = values / scale
        if noise is None:
            scaled += 0.5
        else:
            words = torch.empty(-(-scaled.numel() // 4), dtype=torch.int64)
            words.random_(-(2**63), None, generator=noise)
            draws = words.view(torch.int16)[: scaled.numel()].view_as(scaled)
            scaled.add_(draws, alpha=2.0**-16).add_(0.5 + 2.0**-17)  # + uniform in (0, 1)
        # The largest may come out as 127 and a last bit, and the next whole number is not an int8.
        coded = scaled.floor_().clamp_(-127, 127).to(torch.int8)
        return scale.numpy().astype("<f4", copy=False).data, coded.numpy().data

    def read(self, body: memoryview, shape: Shape) -> Tensor:
        rows = shape[0]
        scale = np.frombuffer(body, "<f4", rows).astype(np.float32)
        coded = np.frombuffer(body, np.int8, offset=4 * rows).reshape(tuple(shape))
        if not ((scale >= SMALLEST_SCALE) & (scale <= LARGEST_SCALE)).all():
            raise ValueError("has a row whose scale is no possible one")
        if (coded == -128).any():
            raise ValueError("has a byte that is not in -127..127")
        return torch.from_numpy(coded.astype(np.float32)) * torch.from_numpy(scale).unsqueeze(1)


@dataclass(frozen=True)
class RandTopk:
    """`keep` numbers a row: their columns, a bitmap of ceil(d / 8) bytes a row, then float32 [b, keep].

    The first column is a byte's highest bit. A bit a column, not an index each: none can be out of
    range or come twice, and at 32 wide it is shorter as soon as more than 4 are kept. The gradient is that
    of the kept values, so columns cross only once.
    """

    keep: int
    explore: float

    number: ClassVar[int] = 3
    draws: ClassVar[bool] = True

    def size(self, shape: Shape) -> int:
        rows, width = shape
        return rows * (-(-width // 8) + 4 * self.keep)

    def choose(self, tensor: Tensor, noise: torch.Generator | None) -> Kept:
        """`keep` columns of each row without replacement, the values in the graph of `tensor` [b, d].

        Each draw takes one of the `keep` largest magnitudes with weight (1 - explore) / keep, another with
        weight explore / (d - keep); without noise, the largest. Raises ValueError for NaN or infinity.
        """
        rows, width = tensor.shape
        columns = _largest(finite(tensor.detach()).abs(), self.keep)
        if noise is not None and self.explore and self.keep < width:
            # Drawing without replacement by weight is a race of exponential clocks: the first `keep` to ring,
            # each at rate weight (Efraimidis and Spirakis 2006). 1 - u is never 0, so no clock is infinite.
            clocks = (
                torch.rand(rows, width, generator=noise).neg_().log1p_()
            )  # negative: the largest is first
            faster = (1 - self.explore) / self.keep / (self.explore / (width - self.keep))
            clocks.scatter_(1, columns, clocks.gather(1, columns) / faster)
            columns = _largest(clocks, self.keep)
        return Kept(tensor.gather(1, columns), columns, width)

    def write(self, item: Kept, noise: torch.Generator | None) -> tuple[Buffer, ...]:
        mask = torch.zeros(item.shape, dtype=torch.bool).scatter_(1, item.columns, True)
        values = np.ascontiguousarray(finite(item.values.detach()).numpy(), "<f4")
        return np.packbits(mask.numpy(), 1).data, values.data

    def read(self, body: memoryview, shape: Shape) -> Kept:
        rows, width = shape
        across = -(-width // 8)
        mask = np.unpackbits(np.frombuffer(body, np.uint8, rows * across).reshape(rows, across), 1)
        if mask[:, width:].any() or (mask.sum(1) != self.keep).any():
            raise ValueError(f"does not mark {self.keep} of {width} columns in every row")
        values = torch.empty(rows, self.keep)
        values.numpy()[...] = np.frombuffer(body, "<f4", offset=rows * across).reshape(rows, self.keep)
        return Kept(finite(values), _columns(mask.view(np.bool_)[:, :width]), width)


FP32, BF16, INT8 = Float32(), BFloat16(), Int8()
DENSE: dict[str, Codec[Tensor]] = {"fp32": FP32, "bf16": BF16, "int8": INT8}
"""The codecs that write every number of a tensor."""


def finite(tensor: Tensor) -> Tensor:
    """The tensor itself. Raises ValueError where it is not finite."""
    # NaN and infinity always reach a sum, and a sum is several times faster; only a sum that overflows on
    # finite elements needs the full look.
    if not math.isfinite(tensor.sum().item()) and not bool(torch.isfinite(tensor).all()):
        raise ValueError("holds NaN or infinity")
    return tensor


def _largest(tensor: Tensor, count: int) -> Tensor:
    """The columns [b, count] of the largest of each row, as in `Kept`; of equal ones, the first."""
    values = tensor.numpy()
    least = np.partition(values, values.shape[1] - count, 1)[:, -count, None]
    largest = values >= least
    if np.count_nonzero(largest) > count * len(values):
        tied = np.flatnonzero(largest.sum(1) > count)
        above, equal = values[tied] > least[tied], values[tied] == least[tied]
        largest[tied] = above | (equal & (equal.cumsum(1) <= count - above.sum(1, keepdims=True)))
    return _columns(largest)


def _columns(mask: NDArray[np.bool_]) -> Tensor:
    """Where each row is true; all rows are so equally often. mask: [b, d]."""
    rows, width = mask.shape
    columns = np.flatnonzero(mask).astype(np.int64, copy=False).reshape(rows, -1)
    columns -= np.arange(0, rows * width, width)[:, None]
    return torch.from_numpy(columns)
