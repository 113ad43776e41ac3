"""Tensors on the wire: a small header and raw little-endian bytes. Nothing in it is executed or trusted.

offset  size  field
0       2     magic b"VT"
2       1     version, 1
3       1     codec: 0 is raw
4       1     dtype: 1 is float32
5       1     number of dimensions, n
6       2     zero
8       8     step: the number of this exchange in the training, from 1
16      4 n   shape
16+4n   ...   the elements, row by row
"""

import math
import struct
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from protos.rounds import RemoteProtocolError
from splitnn.errors import TrainingError

MAGIC = b"VT"
VERSION = 1
RAW = 0
FLOAT32 = 1

_HEAD = struct.Struct("<2sBBBBHQ")


def _header(shape: Sequence[int], step: int) -> bytes:
    head = _HEAD.pack(MAGIC, VERSION, RAW, FLOAT32, len(shape), 0, step)
    return head + struct.pack(f"<{len(shape)}I", *shape)


def encoded_size(shape: Sequence[int]) -> int:
    """Bytes of a float32 tensor of this shape on the wire, exactly."""
    return _HEAD.size + 4 * len(shape) + 4 * math.prod(shape)


def encode(tensor: Tensor, step: int) -> bytes:
    """A float32 tensor as bytes. Raises TrainingError for NaN or infinity: what diverged stays at home."""
    if tensor.dtype != torch.float32:
        raise TypeError(f"only float32 is sent, not {tensor.dtype}")
    if not _finite(tensor):
        raise TrainingError(f"the model diverged before exchange {step}: lower the learning rate")
    array = np.ascontiguousarray(tensor.detach().numpy(), dtype="<f4")
    return b"".join((_header(tensor.shape, step), array.data))


def decode(payload: bytes, what: str, shape: Sequence[int], step: int) -> Tensor:
    """The tensor in a peer's message, which must have exactly this shape and step.

    what: names message and sender in the error. Raises RemoteProtocolError for anything else than a finite
    float32 tensor of that shape and step. The result owns its memory, aligned as torch aligns it: a GEMM
    may sum in another order on unaligned memory, and the last bit would differ from the reference.
    """
    if len(payload) != encoded_size(shape):
        raise RemoteProtocolError(f"{what} has {len(payload)} bytes instead of {encoded_size(shape)}")
    expected = _header(shape, step)
    if payload[: len(expected)] != expected:
        raise RemoteProtocolError(f"{what} has another header than {tuple(shape)} float32, exchange {step}")
    tensor = torch.empty(tuple(shape), dtype=torch.float32)
    tensor.numpy()[...] = np.frombuffer(payload, "<f4", offset=len(expected)).reshape(tuple(shape))
    if not _finite(tensor):
        raise RemoteProtocolError(f"{what} holds NaN or infinity")
    return tensor


def _finite(tensor: Tensor) -> bool:
    # NaN and infinity always reach a sum, and a sum is several times faster; only a sum that overflows on
    # finite elements needs the full look.
    return math.isfinite(tensor.sum().item()) or bool(torch.isfinite(tensor).all())
