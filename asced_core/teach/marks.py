"""Where a fault goes, and where it can be seen."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from ..detect.smoothing import GaussianSmoother

AXES = (0.04, 0.17)  # half axes of a fault, as a share of the image's side
MARGIN = 0.13  # of the image's side: no fault is centered closer to the edge
SMALLEST = 1.0  # half axis in cells
SEEN = 0.2  # a change counts from this many standard deviations on
CHANGED = 1.3  # sides of a fault, relative to 1, that its change is averaged over


def ellipse(size: tuple[int, int], rng: np.random.Generator) -> Tensor:
    """A random ellipse, bool [H,W]; it holds one cell or more."""
    height, width = size
    side = math.sqrt(height * width)
    row, column = (rng.uniform(MARGIN, 1 - MARGIN) * n for n in size)
    a, b = (max(SMALLEST, share * side) for share in rng.uniform(*AXES, 2))
    angle = rng.uniform(0, math.pi)
    y, x = np.mgrid[:height, :width]
    y, x = y + 0.5 - row, x + 0.5 - column
    along, across = x * math.cos(angle) + y * math.sin(angle), y * math.cos(angle) - x * math.sin(angle)
    inside = (along / a) ** 2 + (across / b) ** 2 <= 1
    inside[min(int(row), height - 1), min(int(column), width - 1)] = True
    return torch.from_numpy(inside)


def visible(change: Tensor, unit: Tensor) -> Tensor:
    """Where a change can be seen, bool [...,H,W].

    Args:
        change: [...,C,H,W].
        unit: standard deviation of each channel [C].
    """
    size = (change.shape[-2], change.shape[-1])
    amount = (change.abs() / unit[:, None, None]).mean(-3)
    smooth = GaussianSmoother(size, max(0.0, math.sqrt(size[0] * size[1]) / 64), None, change.device)
    return smooth(amount.reshape(-1, 1, *size)).view(amount.shape) > SEEN
