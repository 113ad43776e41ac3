"""Tensors on the wire: a small header and little-endian bytes. Nothing in it is executed or trusted.

offset  size  field
0       2     magic b"VT"
2       1     version, 1
3       1     codec: 0 is fp32, 1 bf16, 2 int8, 3 randtopk (`splitnn.codecs`), 4 share (`splitnn.secure_sum`)
4       1     dtype of the decoded tensor: 1 is float32
5       1     number of dimensions, n
6       2     zero
8       8     step: the number of this exchange in the training, from 1
16      4 n   shape
16+4n   ...   the body, as the codec writes it; for fp32 the elements, row by row
"""

import struct
from collections.abc import Sequence

import torch
from torch import Tensor

from protos.rounds import RemoteProtocolError
from splitnn.codecs import FP32, Codec, Kept, Share, T

MAGIC = b"VT"
VERSION = 1
FLOAT32 = 1

_HEAD = struct.Struct("<2sBBBBHQ")


def _header(codec: int, shape: Sequence[int], step: int) -> bytes:
    head = _HEAD.pack(MAGIC, VERSION, codec, FLOAT32, len(shape), 0, step)
    return head + struct.pack(f"<{len(shape)}I", *shape)


def encoded_size(shape: Sequence[int], codec: Codec[Tensor] | Codec[Kept] | Codec[Share] = FP32) -> int:
    """Bytes of a tensor of this shape on the wire, exactly."""
    return _HEAD.size + 4 * len(shape) + codec.size(shape)


def encode(
    item: T,
    step: int,
    codec: Codec[T] = FP32,  # type: ignore[assignment]  # mypy checks the default for every T
    noise: torch.Generator | None = None,
) -> bytes:
    """A float32 tensor as bytes. Raises ValueError for NaN, infinity, and what the codec cannot hold."""
    if item.dtype != torch.float32:
        raise TypeError(f"only float32 is sent, not {item.dtype}")
    return b"".join((_header(codec.number, item.shape, step), *codec.write(item, noise)))


def decode(
    payload: bytes,
    what: str,
    shape: Sequence[int],
    step: int,
    codec: Codec[T] = FP32,  # type: ignore[assignment]
) -> T:
    """The tensor in a peer's message, which must have exactly this shape, step and codec.

    what: names message and sender in the error. Raises RemoteProtocolError for anything else than a finite
    float32 tensor of that shape and step. The result owns its memory, aligned as torch aligns it: a GEMM
    may sum in another order on unaligned memory, and the last bit would differ from the reference.
    """
    size = encoded_size(shape, codec)
    if len(payload) != size:
        raise RemoteProtocolError(f"{what} has {len(payload)} bytes instead of {size}")
    expected = _header(codec.number, shape, step)
    if payload[: len(expected)] != expected:
        raise RemoteProtocolError(
            f"{what} has another header than {tuple(shape)} float32, codec {codec.number}, exchange {step}"
        )
    try:
        return codec.read(memoryview(payload)[len(expected) :], shape)
    except ValueError as error:
        raise RemoteProtocolError(f"{what} {error}") from error
