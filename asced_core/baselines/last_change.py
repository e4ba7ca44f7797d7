"""The regions of the last single change, for corrections that act at every step."""

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
    """Changes of the prediction itself, of which the last one can be looked at while the run goes on.

    Attributes:
        exceeded: bool [B,H,W], the cells whose last change exceeded ``limit``; None before the first one.
        limit: float32 [B], threshold of the last change, not below the mean of all changes so far.
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
        """The next value is compared with this one, float [B,C,H,W], in place of the one that came last."""
        self._last = value.float()

    def regions(self) -> Tensor:
        """The regions of the last change alone, bool [B,H,W] on its device; costs a copy to the CPU."""
        batch, _, height, width = self.shape
        if self.exceeded is None:
            return torch.zeros(batch, height, width, dtype=torch.bool, device=self.limit.device)
        raw = self.exceeded.cpu().numpy()
        found = [find_regions(one, one.astype(np.float32), self.settings)[0] > 0 for one in raw]
        return torch.from_numpy(np.stack(found)).to(self.limit.device)
