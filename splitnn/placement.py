"""Where and in which precision a party's models compute; what crosses the cut is float32 in main memory."""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

from splitnn.local import Local


class Placement:
    """`with computing()` between `inward` and `outward`. On the CPU in float32 all three do nothing."""

    def __init__(self, local: Local) -> None:
        self.device = torch.device(local.device)
        self.bf16 = local.precision == "bf16"

    def inward(self, tensor: Tensor) -> Tensor:
        return tensor.to(self.device)

    def computing(self) -> AbstractContextManager[object]:
        return torch.autocast(self.device.type, torch.bfloat16) if self.bf16 else nullcontext()

    def outward(self, tensor: Tensor) -> Tensor:
        return tensor.to("cpu", torch.float32)
