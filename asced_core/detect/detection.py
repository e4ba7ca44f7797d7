"""From a detector's evidence to the artifact regions of each image; ``detect`` runs it on a list of frames."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..maps import BoolMap, finite_images
from ..settings import LASTING, LEARNED, DetectionSettings
from .certainty import Certainty
from .evidence import Detector, Evidence, Shape
from .lasting import LastingChange
from .learned import Learned, LearnedDetector
from .regions import LabelMap, Region, find_regions, grow_labels
from .single_steps import SingleSteps


@dataclass(frozen=True, eq=False)
class Detection:
    """What was detected in one image.

    Attributes:
        labels: uint16 [H,W], n in the n-th region, dilated by the settings' ``expand``; 0 elsewhere.
        ratio: float32 [H,W], change as a multiple of the threshold, up to 100; 0 below the threshold. No size filter
            is applied.
        regions: the regions that passed the filters, strongest first.
        thresholds: float32 [D], effective threshold of each difference, in the units of the mode's signal; empty in
            the modes ``strict``, ``robust`` and ``learned``.
        measurable: False if the predictions held NaN or infinity; then there are no regions.
        looked_at: False if the whole image was excluded.
        too_large: number of regions that were dropped because of ``max_area``.
    """

    labels: LabelMap
    ratio: NDArray[np.float32]
    regions: list[Region]
    thresholds: NDArray[np.float32]
    measurable: bool = True
    looked_at: bool = True
    too_large: int = 0

    @property
    def mask(self) -> BoolMap:
        """Mask of all regions, bool [H,W]."""
        return self.labels > 0

    @property
    def score(self) -> float:
        """Score of the strongest region, 0 if there is none."""
        return max((region.score for region in self.regions), default=0.0)

    @property
    def clean(self) -> bool:
        """True if something was looked at and nothing was there."""
        return self.measurable and self.looked_at and not self.regions and not self.too_large


def make_detector(
    settings: DetectionSettings,
    shape: Shape,
    device: torch.device,
    frames: int = 1,
    learned: Learned | None = None,
    asked: Collection[int] = (),
) -> Detector:
    """The detector for the settings' mode.

    Args:
        settings: mode, threshold, and scale of the sizes.
        shape: (B, C, H, W) of the predictions.
        device: device of the predictions.
        frames: number of consecutive batch entries that are frames of one video.
        learned: for mode ``learned``.
        asked: numbers of predictions after which the result is asked for; saves memory if they are known.

    Raises:
        ValueError: mode ``learned`` has no taught detector, or one for another number of channels.
    """
    if settings.mode == LEARNED:
        if learned is None:
            raise ValueError("Mode learned needs a taught detector: load one with Taught.load, and pass its learned.")
        return LearnedDetector(settings, shape, device, learned, asked)
    if settings.mode in LASTING:
        return LastingChange(settings, shape, device, frames, asked)
    return SingleSteps(settings, shape, device, frames)


def to_cpu(evidence: Evidence) -> tuple[NDArray[np.float32], NDArray[np.float32], BoolMap]:
    """Ratio [B,H,W], thresholds [B,D] and finite [B] on the CPU, in one copy from the device.

    The ratio of an image that is not finite is 0, and so are its thresholds.
    """
    ratio, thresholds, finite = evidence.ratio, evidence.thresholds, evidence.finite
    if finite is None:
        values, levels = _in_one_copy(ratio, thresholds)
        return values, levels, np.ones(len(values), bool)
    values, levels, measured = _in_one_copy(ratio, thresholds, finite.to(ratio))
    known = measured > 0
    if not known.all():
        values, levels = np.where(known[:, None, None], values, 0), np.where(known[:, None], levels, 0)
    return values, levels, known


def _in_one_copy(*parts: Tensor) -> list[NDArray[np.float32]]:
    """Float32 tensors of one device on the CPU; those that are there are not copied."""
    if all(part.device.type == "cpu" for part in parts):
        return [part.detach().numpy() for part in parts]
    packed = torch.cat([part.flatten() for part in parts]).detach().cpu()
    flat = packed.split([part.numel() for part in parts])
    return [one.view(part.shape).numpy() for one, part in zip(flat, parts, strict=True)]


def find_in(
    ratio: NDArray[np.float32],
    thresholds: NDArray[np.float32],
    settings: DetectionSettings,
    measurable: bool = True,
    looked_at: bool = True,
    certainty: Certainty | None = None,
) -> Detection:
    """The regions of one image.

    Args:
        ratio: [H,W], see Evidence.
        thresholds: [D], see Evidence.
        settings: region filters and ``expand``.
        measurable, looked_at: see Detection.
        certainty: see Evidence.
    """
    labels, regions, too_large = find_regions(ratio > 0, ratio, settings, certainty)
    grown = grow_labels(labels, round(settings.expand * settings.scale(*labels.shape)))
    return Detection(grown, ratio, regions, thresholds, measurable, looked_at, too_large)


def detect(
    frames: NDArray[np.uint8] | Tensor, settings: DetectionSettings | None = None, learned: Learned | None = None
) -> Detection:
    """Finds the artifact regions of one image from its predicted clean images over time.

    The frames are taken as the whole window. Settings that choose the window or the space (``start_percent``,
    ``end_percent``, ``space``, ``step_interval``, ``smooth_frames``) only apply to runs; see Trajectory.

    Args:
        frames: in sampling order; uint8 [N,H,W] or [N,H,W,C] (array or tensor), or float [N,C,H,W] with values in
            [-1, 1]. In mode ``paper``, floats are the weighted scores ``w(t) * s_t`` themselves.
        settings: see DetectionSettings.
        learned: for mode ``learned``.

    Raises:
        ValueError: there are fewer than two frames, the shape is not supported, or mode ``paper`` gets uint8 frames,
            whose noise levels are unknown.

    Example:
        >>> frames = np.zeros((3, 64, 64, 3), np.uint8)
        >>> bool(detect(frames, DetectionSettings(mode="reference")).mask.any())
        False
    """
    settings = settings or DetectionSettings()
    data = torch.as_tensor(frames)
    levels = data.dtype == torch.uint8
    if levels and data.ndim == 3:
        data = data[..., None]
    if data.ndim != 4 or len(data) < 2 or 0 in data.shape:
        raise ValueError(
            "frames must hold at least two images, as uint8 [N,H,W] or [N,H,W,C] or as float [N,C,H,W]; "
            f"got shape {tuple(torch.as_tensor(frames).shape)}."
        )
    if levels and settings.mode == "paper":
        raise ValueError("Mode paper needs weighted scores as float [N,C,H,W]; uint8 frames do not contain them.")
    if levels:
        data = data.movedim(-1, 1)
    _, channels, height, width = data.shape
    detector = make_detector(settings, (1, channels, height, width), data.device, learned=learned)
    for frame in data.split(1):
        if isinstance(detector, SingleSteps) and (levels or settings.mode == "paper"):
            detector.push_value(frame.contiguous().float())  # already in the units of the mode's signal
        else:
            detector.push(frame)
    finite = None if levels else finite_images(data).all()[None]
    evidence = detector.result()
    ratio, thresholds, known = to_cpu(replace(evidence, finite=finite))
    return find_in(ratio[0], thresholds[0], settings, bool(known[0]), certainty=evidence.certainty)
