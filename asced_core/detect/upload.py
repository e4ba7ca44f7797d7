"""From the CPU to the device of a run, without waiting for it."""

from __future__ import annotations

from typing import Any, TypeVar

import torch
from torch import Tensor, nn

BLOCKING = ("mps", "privateuseone")  # where torch or a driver may read the source after its memory was freed
T = TypeVar("T", bound=Tensor | nn.Module)


def upload(value: T, device: torch.device) -> T:
    """The value on the device. An ordinary copy waits until all that the device was given before is done."""
    moved: Any = value.to(device, non_blocking=device.type not in BLOCKING)
    return moved
