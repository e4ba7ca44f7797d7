"""What every detector is asked for, and what it answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from ..noise import NoiseLevel
from ..settings import DetectionSettings

Shape = tuple[int, int, int, int]  # B images, C channels, H x W cells
MAX_RATIO = 100.0  # ends the scale where a threshold of zero would give infinity


@dataclass(frozen=True)
class Evidence:
    """What a detector found, still on the device.

    Attributes:
        ratio: float32 [B,H,W], 0 to 100; how many times its threshold a cell exceeded, 0 where it did not. Its support
            is the raw mask.
        thresholds: float32 [B,D]; threshold in force for each of the D differences, in the units of the mode's signal.
            D is 0 for detectors that have no threshold of single steps.
    """

    ratio: Tensor
    thresholds: Tensor


class Detector(Protocol):
    """Takes one prediction a step, in the order of sampling; a run of any length costs a few maps.

    Attributes:
        settings: the filters of its regions.
        ready: True as soon as ``result`` has something to say.
        costly: True if ``result`` costs too much to be asked for at every step.
    """

    settings: DetectionSettings
    costly: bool

    @property
    def ready(self) -> bool: ...

    def push(self, denoised: Tensor, x: Tensor | None = None, level: NoiseLevel | None = None) -> None:
        """Takes the prediction of the next step.

        Args:
            denoised: predicted clean image [B,C,H,W], any float dtype.
            x: state that it was predicted from, same shape; needed by mode ``paper``.
            level: noise level of ``x``; needed by mode ``paper``.
        """
        ...

    def result(self) -> Evidence:
        """What was found so far, without a device sync.

        Raises:
            ValueError: too few predictions came.
        """
        ...


def no_thresholds(ratio: Tensor) -> Evidence:
    """The evidence of a detector that has no threshold of single steps."""
    return Evidence(ratio, torch.zeros(len(ratio), 0, device=ratio.device))
