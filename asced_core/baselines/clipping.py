"""Score clipping: limits the change of a prediction to the threshold (Sec. 3.3)."""

from __future__ import annotations

import torch
from torch import Tensor

from ..detect.evidence import Shape
from ..settings import DetectionSettings
from .last_change import LastChange


class ScoreClipping:
    """Clamps the dynamics of the abnormal regions to their threshold, step by step.

    The next prediction is compared with the clamped one, so a jump must happen in small steps or not at all. The floor
    of the threshold is the mean of the dynamics so far: later steps are not known yet.

    Args:
        settings: threshold and region filters.
        shape: (B, C, H, W) of the predictions.
        device: device of the predictions.
        forbidden: bool [B,H,W] or [1,H,W]: cells that are never changed.

    Attributes:
        touched: bool [B]: the images that were changed.
    """

    def __init__(
        self,
        settings: DetectionSettings,
        shape: Shape,
        device: torch.device,
        forbidden: Tensor | None = None,
    ) -> None:
        self._changes = LastChange(settings, shape, device)
        self._forbidden = forbidden
        self._step = -1
        self._before: Tensor | None = None
        self._last: Tensor | None = None
        self.touched = torch.zeros(shape[0], dtype=torch.bool, device=device)

    def __call__(self, step: int, denoised: Tensor) -> Tensor:
        """The clamped prediction [B,C,H,W] for the sampler.

        Args:
            step: index of the step; a repeated step is clamped against the same earlier prediction.
            denoised: the model's prediction [B,C,H,W].
        """
        if step != self._step:
            self._before = self._last
            self._changes.push(denoised)
            self._regions = self._changes.regions()
            self._step = step
        if self._before is None:
            self._last = denoised
            return denoised
        where, limit = self._regions, self._changes.limit[:, None, None, None]
        if self._forbidden is not None:
            where = where & ~self._forbidden
        before = self._before.float()
        change = denoised.float() - before
        over = where[:, None] & (change.abs() > limit)
        clipped = before + torch.maximum(torch.minimum(change, limit), -limit)
        self._last = torch.where(over, clipped.to(denoised.dtype), denoised)
        self.touched |= over.flatten(1).any(1)
        self._changes.replace_last(self._last)
        return self._last
