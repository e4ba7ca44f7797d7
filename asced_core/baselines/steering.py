"""The corrections that change the predictions of the window on their way to the sampler."""

from __future__ import annotations

from torch import Tensor

from ..settings import DetectionSettings
from .clipping import ScoreClipping
from .sargd import AdaptedSARGD, Detector, abnormal_regions

Steering = ScoreClipping | AdaptedSARGD


def make_steering(
    method: str, settings: DetectionSettings, images: Tensor, forbidden: Tensor | None, detector: Detector | None
) -> Steering:
    """``clip`` or ``sargd`` for predictions shaped as ``images`` [B,C,H,W]; without a detector SARGD takes ours."""
    if method == "clip":
        shape: tuple[int, int, int, int] = tuple(images.shape)  # type: ignore[assignment]
        return ScoreClipping(settings, shape, images.device, forbidden)
    return AdaptedSARGD(detector or abnormal_regions(settings), len(images), images.device, forbidden)
