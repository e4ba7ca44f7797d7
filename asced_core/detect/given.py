"""The masks of another detector, such as a trained one, in place of the dynamics."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from ..maps import BoolMap, touched_cells
from ..noise import NoiseLevel
from ..settings import BASE_SIZE, DetectionSettings
from .evidence import Evidence, Shape, no_thresholds

FindMasks = Callable[[Tensor], BoolMap]  # predictions [N,C,H,W] -> bool [N,H',W'], at any size


class GivenMasks:
    """Asks the other detector once, about the last prediction.

    No region is too small, too large or too thin, and all scores are 1: the other detector says where, not how much.

    Args:
        settings: the scale of the sizes.
        shape: (B, C, H, W) of the predictions.
        find: the other detector.
    """

    costly = True

    def __init__(self, settings: DetectionSettings, shape: Shape, find: FindMasks) -> None:
        self.settings, self.shape = without_filters(settings, shape[2] * shape[3]), shape
        self._find = find
        self._last: Tensor | None = None

    @property
    def ready(self) -> bool:
        """True from the first prediction on."""
        return self._last is not None

    def push(self, denoised: Tensor, x: Tensor | None = None, level: NoiseLevel | None = None) -> None:
        """Takes the prediction of the next step, see Detector; state and noise level are not needed."""
        self._last = denoised

    def result(self) -> Evidence:
        """The masks that the other detector finds in the last prediction.

        Raises:
            ValueError: no prediction came.
        """
        if self._last is None:
            raise ValueError("A detector needs at least one prediction to look at.")
        return no_thresholds(mask_cells(self._find, self._last).float())


def mask_cells(find: FindMasks, images: Tensor) -> Tensor:
    """The cells of predictions [B,C,H,W] that hold any part of a mask found in them, bool [B,H,W] on their device."""
    height, width = images.shape[-2:]
    cells = np.stack([touched_cells(mask, height, width) for mask in find(images)])
    return torch.from_numpy(cells).to(images.device)


def without_filters(settings: DetectionSettings, cells: int) -> DetectionSettings:
    """Settings by which no region of that many cells is too small, too large or too thin."""
    return replace(settings, min_area=0, max_area=2.0 * BASE_SIZE**2 * cells, min_width=0)
