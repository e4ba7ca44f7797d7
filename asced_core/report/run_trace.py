"""Thumbnails of a run: the change at every step, and some of the predictions (paper Fig. 1 and 4).

Memory is bounded: a longer run keeps only every n-th step.
"""

from __future__ import annotations

import math
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from ..detect.space import linear_rgb
from ..maps import in_parts

SIDE = 64  # cells; larger maps are averaged down
MAPS, FRAMES = 48, 12  # kept at most


def pool(maps: Tensor) -> Tensor:
    """Averages maps [B,C,H,W] down to at most 64 cells per side; smaller maps are returned unchanged."""
    height, width = maps.shape[-2:]
    scale = SIDE / max(height, width)
    if scale >= 1:
        return maps
    return F.adaptive_avg_pool2d(maps, (max(1, round(height * scale)), max(1, round(width * scale))))


def change(before: Tensor, after: Tensor, part: slice) -> Tensor:
    """Absolute change between predictions [B,C,H,W], averaged over the channels: thumbnails of a part, fp16 [b,h,w]."""
    return pool((after[part].float() - before[part].float()).abs_().mean(1, keepdim=True))[:, 0].half()


class Trace:
    """Receives every prediction of a run and keeps fp16 thumbnails on the device.

    Args:
        total_steps: sampling steps of the run.
        to_rgb: [3,C+1] matrix that maps a latent to RGB; its last column is the bias. If None, three channels are
            taken as RGB in [-1, 1], and no frames are kept for any other number of channels.
    """

    def __init__(self, total_steps: int, to_rgb: Tensor | None = None) -> None:
        self._colors = None if to_rgb is None else linear_rgb(to_rgb)
        self._map_stride = max(1, math.ceil((total_steps - 1) / MAPS))
        self._frame_stride = max(1, math.ceil(total_steps / FRAMES))
        self._last: Tensor | None = None
        self._last_step = -1
        self._maps: list[Tensor] = []
        self._frames: list[Tensor] = []
        self.map_steps: list[int] = []
        self.frame_steps: list[int] = []

    def push(self, step: int, denoised: Tensor) -> None:
        """Adds the prediction [B,C,H,W] of a step; a repeated step only replaces its prediction."""
        if step != self._last_step:
            if self._last is not None and (step - 1) % self._map_stride == 0:
                self._maps.append(in_parts(partial(change, self._last, denoised), denoised.shape))
                self.map_steps.append(step)
            if step % self._frame_stride == 0 and (frame := self.frame(denoised)) is not None:
                self._frames.append(frame)
                self.frame_steps.append(step)
        self._last, self._last_step = denoised, step

    def frame(self, denoised: Tensor) -> Tensor | None:
        """A prediction [B,C,H,W] as RGB thumbnails, fp16 [B,3,h,w], about -1 to 1; None if its colors are unknown."""
        if self._colors is None and denoised.shape[1] != 3:
            return None
        small = pool(denoised.float())
        return (small if self._colors is None else self._colors(small)).half()

    def maps(self) -> Tensor:
        """fp16 [B,steps,h,w], absolute change, averaged over the channels."""
        return self._stack(self._maps, (1, 1))

    def frames(self) -> Tensor:
        """Predicted clean images, fp16 [B,steps,3,h,w], about -1 to 1."""
        return self._stack(self._frames, (3, 1, 1))

    def _stack(self, pictures: list[Tensor], empty: tuple[int, ...]) -> Tensor:
        if pictures:
            return torch.stack(pictures, dim=1)
        batch = 0 if self._last is None else len(self._last)
        return torch.zeros(batch, 0, *empty, dtype=torch.float16)
