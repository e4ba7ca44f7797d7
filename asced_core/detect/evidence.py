"""The interface of all detectors, and their result."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from ..noise import NoiseLevel
from ..settings import DetectionSettings
from .certainty import Certainty

Shape = tuple[int, int, int, int]  # B images, C channels, H x W cells
MAX_RATIO = 100.0  # upper end of the scale: a threshold of zero would give infinity


@dataclass(frozen=True)
class Evidence:
    """A detector's result, still on the device.

    Attributes:
        ratio: float32 [B,H,W], change as a multiple of the threshold, 1 to 100; 0 below the threshold. The nonzero
            cells are the raw mask.
        thresholds: float32 [B,D], effective threshold of each of the D differences, in the units of the mode's signal;
            D is 0 for detectors without per-step thresholds.
        finite: bool [B], False for images whose predictions held NaN or infinity, which no detector can measure; None
            if nobody checked. The Watcher sets it.
        certainty: how likely a mark is right, by its score; None if that is unknown.
    """

    ratio: Tensor
    thresholds: Tensor
    finite: Tensor | None = None
    certainty: Certainty | None = None


class Detector(Protocol):
    """Consumes one prediction per step, in sampling order; memory does not grow with the number of steps.

    Attributes:
        settings: region filters.
        ready: True once ``result`` can be called.
    """

    settings: DetectionSettings

    @property
    def ready(self) -> bool: ...

    def push(self, denoised: Tensor, x: Tensor | None = None, level: NoiseLevel | None = None) -> None:
        """Adds the prediction of the next step.

        Args:
            denoised: predicted clean image [B,C,H,W], any float dtype.
            x: the model's input state, same shape; required by mode ``paper``.
            level: noise level of ``x``; required by mode ``paper``.
        """
        ...

    def result(self) -> Evidence:
        """The evidence so far, without a device sync.

        Raises:
            ValueError: there are too few predictions.
        """
        ...

    def so_far(self, image: int) -> Tensor | None:
        """The cells of one image above the threshold, bool [H,W], for a preview at every step; without a device sync.

        None if that would cost too much.

        Raises:
            ValueError: there are too few predictions.
        """
        ...


def no_thresholds(ratio: Tensor, certainty: Certainty | None = None) -> Evidence:
    """The evidence of a detector without per-step thresholds."""
    return Evidence(ratio, torch.zeros(len(ratio), 0, device=ratio.device), certainty=certainty)
