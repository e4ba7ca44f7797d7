"""Where a fault goes, and where it can be seen."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from ..detect.smoothing import GaussianSmoother

AXES = (0.04, 0.17)  # half axes of a fault, as a share of the image's side
MARGIN = 0.1  # of the image's side: no fault is centered closer to the edge
SMALLEST = 1.0  # half axis in cells
SEEN = 0.2  # a change counts from this many standard deviations on
TINY = 1e-6


def contrast(clean: Tensor) -> Tensor:
    """How much there is to see around each cell of clean images [B,C,H,W], float32 [B,H,W], 0 or more."""
    size = (clean.shape[2], clean.shape[3])
    side = math.sqrt(size[0] * size[1])
    wide, near = (GaussianSmoother(size, share * side, None, clean.device) for share in (AXES[1], sum(AXES) / 2))
    clean = clean.float()
    return near((clean - wide(clean)).square().mean(1, keepdim=True))[:, 0].clamp(min=0).sqrt()


def ellipse(seen: Tensor, rng: np.random.Generator) -> Tensor:
    """A random ellipse, bool [H,W]; it holds one cell or more.

    Args:
        seen: how much there is to see around each cell [H,W]; the more, the likelier a fault is there.
        rng: draws place, size and angle.
    """
    height, width = seen.shape
    side = math.sqrt(height * width)
    chances = seen.double().cpu().numpy()
    chances += chances.mean() + TINY  # half of the faults anywhere
    top, left = (int(MARGIN * n) for n in (height, width))
    inner = chances[top : height - top, left : width - left]
    place = rng.choice(inner.size, p=(inner / inner.sum()).ravel())
    row, column = top + place // inner.shape[1] + rng.random(), left + place % inner.shape[1] + rng.random()
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
