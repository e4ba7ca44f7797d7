"""Masks from another detector, such as a trained network, in place of the score dynamics."""

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

FindMasks = Callable[[Tensor], BoolMap]  # predictions [N,C,H,W] -> bool [N,H',W'], any size


class GivenMasks:
    """Runs the other detector once, on the last prediction.

    Regions of any size and width are kept, and all scores are 1: the other detector returns positions, not strengths.

    Args:
        settings: provide the scale of the sizes.
        shape: (B, C, H, W) of the predictions.
        find: the other detector.
    """

    def __init__(self, settings: DetectionSettings, shape: Shape, find: FindMasks) -> None:
        self.settings, self.shape = without_filters(settings, shape[2] * shape[3]), shape
        self._find = find
        self._last: Tensor | None = None

    @property
    def ready(self) -> bool:
        """True after one prediction."""
        return self._last is not None

    def push(self, denoised: Tensor, x: Tensor | None = None, level: NoiseLevel | None = None) -> None:
        """Adds the prediction of the next step; see Detector. The state and its noise level are not used."""
        self._last = denoised

    def result(self) -> Evidence:
        """The other detector's masks for the last prediction.

        Raises:
            ValueError: there is no prediction.
        """
        if self._last is None:
            raise ValueError("Detection needs at least one prediction.")
        return no_thresholds(mask_cells(self._find, self._last).float())

    def so_far(self, image: int) -> None:
        """None: the other detector does not run at every step."""


def mask_cells(find: FindMasks, images: Tensor) -> Tensor:
    """The cells of predictions [B,C,H,W] that contain any part of a detected mask, bool [B,H,W] on their device."""
    height, width = images.shape[-2:]
    cells = np.stack([touched_cells(mask, height, width) for mask in find(images)])
    return torch.from_numpy(cells).to(images.device)


def without_filters(settings: DetectionSettings, cells: int) -> DetectionSettings:
    """Settings that keep regions of any size and width on a map with this many cells."""
    return replace(settings, min_area=0, max_area=2.0 * BASE_SIZE**2 * cells, min_width=0)
