"""Adapted SARGD: a guide image, accumulated from clean parts, replaces the artifacts (Sec. 6.1, Alg. 2)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..settings import DetectionSettings
from .last_change import LastChange

FindCells = Callable[[Tensor], Tensor]  # predictions [B,C,H,W] -> bool [B,H,W]


def abnormal_regions(settings: DetectionSettings) -> FindCells:
    """A detector for SARGD from ASCED: the regions whose change since the last prediction exceeds the threshold."""
    changes: LastChange | None = None

    def find(denoised: Tensor) -> Tensor:
        nonlocal changes
        if changes is None:
            batch, channels, height, width = denoised.shape
            changes = LastChange(settings, (batch, channels, height, width), denoised.device)
        changes.push(denoised)
        return changes.regions()

    return find


class AdaptedSARGD:
    """``x0 <- M G + (1 - M) x0``, ``r <- 1 - mean M``, ``G <- r x0 + (1 - r) G`` at every step from T_d to T_c.

    Args:
        find: detects the artifacts of predictions.
        images: number of images, B.
        device: device of the predictions.
        forbidden: bool [B,H,W] or [1,H,W]: cells that are never changed.

    Attributes:
        touched: bool [B]: the images that were changed.
    """

    def __init__(self, find: FindCells, images: int, device: torch.device, forbidden: Tensor | None = None) -> None:
        self._find, self._forbidden = find, forbidden
        self._guide: Tensor | None = None
        self._next: Tensor | None = None
        self._mask: Tensor | None = None
        self._step = -1
        self.touched = torch.zeros(images, dtype=torch.bool, device=device)

    def __call__(self, step: int, denoised: Tensor) -> Tensor:
        """The guided prediction [B,C,H,W] for the sampler.

        Args:
            step: index of the step; a repeated step uses the same mask and guide.
            denoised: the model's prediction [B,C,H,W].
        """
        if step != self._step:
            self._step, self._guide = step, denoised if self._next is None else self._next
            mask = self._find(denoised)
            self._mask = mask if self._forbidden is None else mask & ~self._forbidden
        assert self._guide is not None
        assert self._mask is not None
        # where, not arithmetic: outside the mask the prediction must stay bit-for-bit identical
        guided = torch.where(self._mask[:, None], self._guide, denoised)
        self.touched |= self._mask.flatten(1).any(1)
        share = 1 - self._mask.float().mean((1, 2))[:, None, None, None]
        self._next = (share * guided.float() + (1 - share) * self._guide.float()).to(denoised.dtype)
        return guided
