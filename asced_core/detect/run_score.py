"""How decided a run is, read early: the coarse sharpness of its predicted clean image.

Where the model has not decided what to draw, its prediction is the mean of what it could draw, which is blurred. So
among runs of one prompt, the one with the sharper prediction is further on, and better on average
(docs/benchmarks/picking.md). Nothing of it needs labels, photographs or calibration.
"""

from __future__ import annotations

import math

import torch.nn.functional as F
from torch import Tensor

READ_AT = 0.28  # share of the steps after which it is read
POOLED = 2  # cells per side that are averaged first, so that grain does not count as sharpness


def coarse_sharpness(denoised: Tensor) -> Tensor:
    """Root mean square of the differences between neighboring cells, float32 [B], on the device of ``denoised``.

    Args:
        denoised: predicted clean images [B,C,H,W], averaged over 2x2 cells first.
    """
    coarse = F.avg_pool2d(denoised.float(), POOLED) if min(denoised.shape[-2:]) >= 2 * POOLED else denoised.float()
    down, across = coarse.diff(dim=-2).square(), coarse.diff(dim=-1).square()
    count = max(1, down[0].numel() + across[0].numel())
    return ((down.flatten(1).sum(1) + across.flatten(1).sum(1)) / count).sqrt()


class RunScore:
    """Reads the score of one run once, at a given share of its steps.

    Args:
        steps: sampling steps of the run.
        read_at: share of the steps after which it is read, 0 to 1.

    Attributes:
        step: the step it is read at, counted from 0.
        sharpness: float32 [N] on the device, one per image or frame; None until then.
    """

    def __init__(self, steps: int, read_at: float = READ_AT) -> None:
        self.step = step_at(steps, read_at)
        self.sharpness: Tensor | None = None

    def observe(self, step: int, images: Tensor) -> None:
        """Takes the prediction [N,C,H,W] of a step; a repeated step replaces it. Does not wait for the device."""
        if step == self.step:
            self.sharpness = coarse_sharpness(images)

    def items(self, frames: int = 1) -> list[float]:
        """The sharpness of each image, or of each video as the mean of its frames; NaN before it is read. One sync."""
        if self.sharpness is None:
            return []
        values: list[float] = self.sharpness.view(-1, frames).mean(1).tolist()
        return values


def step_at(steps: int, share: float) -> int:
    """The last of the first ``share`` of the steps, counted from 0; at least one step is before it ends."""
    return min(max(math.ceil(share * steps - 1e-9) - 1, 0), max(steps - 1, 0))
