"""The regions of the most recent change, for corrections that act at every step."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from ..detect.evidence import Shape
from ..detect.regions import find_regions
from ..detect.single_steps import PLAIN, SingleSteps
from ..settings import DetectionSettings


class LastChange(SingleSteps):
    """Single-step changes of the prediction; the most recent one is available during the run.

    Attributes:
        exceeded: bool [B,H,W], the cells whose last change exceeded ``limit``; None before the first change.
        limit: float32 [B], threshold of the last change, at least the mean of all changes so far.
    """

    def __init__(self, settings: DetectionSettings, shape: Shape, device: torch.device) -> None:
        super().__init__(replace(settings, mode="robust"), shape, device, rule=PLAIN)
        self.exceeded: Tensor | None = None
        self.limit = torch.zeros(shape[0], device=device)

    def _compare(self, strongest: Tensor, threshold: Tensor) -> None:
        super()._compare(strongest, threshold)
        self.limit = torch.maximum(threshold.flatten(), self._floor())
        self.exceeded = strongest > self.limit[:, None, None]

    def replace_last(self, value: Tensor) -> None:
        """Replaces the last value: the next one is compared with this one, float [B,C,H,W]."""
        self._last = value.float()

    def regions(self) -> Tensor:
        """The regions of the last change, bool [B,H,W] on its device; costs one copy to the CPU."""
        batch, _, height, width = self.shape
        if self.exceeded is None:
            return torch.zeros(batch, height, width, dtype=torch.bool, device=self.limit.device)
        raw = self.exceeded.cpu().numpy()
        found = [find_regions(one, one.astype(np.float32), self.settings)[0] > 0 for one in raw]
        return torch.from_numpy(np.stack(found)).to(self.limit.device)
