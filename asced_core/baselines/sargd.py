"""Adapted SARGD: a guide image that remembers the clean parts takes the place of the artifacts (Sec. 6.1, Alg. 2)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..settings import DetectionSettings
from .last_change import LastChange

FindCells = Callable[[Tensor], Tensor]  # predictions [B,C,H,W] -> bool [B,H,W]


def abnormal_regions(settings: DetectionSettings) -> FindCells:
    """ASCED's own detector for it: the regions whose change since the prediction before exceeds the threshold."""
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
        find: finds the artifacts of a prediction.
        images: number of them, B.
        device: where the predictions live.
        forbidden: bool [B,H,W] or [1,H,W]: cells that are never touched.

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
        """The prediction [B,C,H,W] that the sampler is to have in place of this one.

        Args:
            step: of the run; a step that comes twice is guided by the same mask and guide.
            denoised: what the model predicts.
        """
        if step != self._step:
            self._step, self._guide = step, denoised if self._next is None else self._next
            mask = self._find(denoised)
            self._mask = mask if self._forbidden is None else mask & ~self._forbidden
        assert self._guide is not None
        assert self._mask is not None
        # where, not arithmetic: outside of the mask not one bit may change
        guided = torch.where(self._mask[:, None], self._guide, denoised)
        self.touched |= self._mask.flatten(1).any(1)
        share = 1 - self._mask.float().mean((1, 2))[:, None, None, None]
        self._next = (share * guided.float() + (1 - share) * self._guide.float()).to(denoised.dtype)
        return guided
