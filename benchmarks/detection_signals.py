"""The candidate signals for finding artifacts; each maps a batch of recorded predictions to scores and masks."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from asced_core import DetectionSettings
from asced_core.detect.detection import find_in, make_detector, to_cpu
from asced_core.detect.evidence import Evidence
from asced_core.detect.given import without_filters
from asced_core.detect.lasting import AROUND, CHANGE, FINE, STRICT, WIDE, LastingChange
from asced_core.detect.regions import find_regions
from asced_core.detect.single_steps import SingleSteps, to_uint8_levels
from asced_core.maps import BoolMap
from asced_core.settings import LASTING

Maps = NDArray[np.float32]
SETTINGS = DetectionSettings(base_size=256)
REFERENCE = DetectionSettings(mode="reference", base_size=256)
RULE = 2.0  # threshold of signals that have none: this multiple of the image's root mean square
SURROUNDINGS = 4.0  # cells
DRAWS = 2  # of the verification


@dataclass(frozen=True)
class Found:
    """A signal's result for a batch: uncut scores and masks of the regions [B,H,W], extra model calls per image."""

    scores: Maps
    masks: BoolMap
    calls: int = 0


def evidence_in(frames: Tensor, settings: DetectionSettings) -> Evidence:
    """What the settings' detector finds in frames [N,B,C,H,W]."""
    shape: Any = tuple(frames.shape[1:])
    detector = make_detector(settings, shape, frames.device)
    for frame in frames:
        detector.push(frame)
    return detector.result()


def by_detector(settings: DetectionSettings) -> Callable[[Tensor], Found]:
    """ASCED's detector with the given settings."""

    def signal(frames: Tensor) -> Found:
        ratio, thresholds, _ = to_cpu(evidence_in(frames, settings))
        found = [find_in(r, t, settings) for r, t in zip(ratio, thresholds, strict=True)]
        return Found(uncut(frames, settings), np.stack([d.mask for d in found]))

    return signal


def uncut(frames: Tensor, settings: DetectionSettings) -> Maps:
    """How many times its threshold a cell's change is, [B,H,W], also where that is less than once.

    Args:
        frames: predictions [N,B,C,H,W]; for mode ``paper`` what it watches, the weighted scores.
        settings: name the mode and the threshold.
    """
    if settings.mode in LASTING:
        return lasting(frames, settings.mad_scale * (STRICT if settings.mode == "strict" else 1))
    shape: Any = tuple(frames.shape[1:])
    detector = _Uncut(settings, shape)
    for frame in frames:
        detector.push_value(to_uint8_levels(frame) if settings.mode == "reference" else frame)
    return detector.most.numpy()


class _Uncut(SingleSteps):
    """Single steps that keep the largest change as a multiple of its threshold, whether it exceeds it or not."""

    def __init__(self, settings: DetectionSettings, shape: Any) -> None:
        super().__init__(settings, shape, torch.device("cpu"))
        self.most = torch.zeros(shape[0], *shape[2:])

    def _compare(self, strongest: Tensor, threshold: Tensor) -> None:
        self.most = torch.maximum(self.most, strongest / threshold.clamp(min=1e-6))
        super()._compare(strongest, threshold)


def lasting(frames: Tensor, scale: float = 3.0, **smoothing: Any) -> Maps:
    """How many times its threshold a cell's lasting change is, [B,H,W]; with other Gaussians than mode ``robust``."""
    shape: Any = tuple(frames.shape[1:])
    detector = LastingChange(SETTINGS, shape, frames.device, **smoothing)
    for frame in frames:
        detector.push(frame)
    share: Maps = detector.share().numpy()
    return share / (scale * CHANGE)


def mask_of(raw: BoolMap, ratio: Maps, settings: DetectionSettings = SETTINGS) -> BoolMap:
    """The cells of a raw mask [H,W] that belong to regions of plausible size and width."""
    return find_regions(raw, ratio, settings)[0] > 0


def regions_of(ratio: Maps) -> BoolMap:
    """Masks of the regions above 1 in maps [B,H,W]."""
    return np.stack([mask_of(r > 1, r) for r in ratio])


def varied(**smoothing: Any) -> Callable[[Tensor], Found]:
    """Mode ``robust`` with other Gaussians."""

    def signal(frames: Tensor) -> Found:
        ratio = lasting(frames, **smoothing)
        return Found(ratio, regions_of(ratio))

    return signal


def two_scales(frames: Tensor) -> Found:
    """The larger of the changes at a small and at a medium scale."""
    ratio = np.maximum(lasting(frames, wide=6 * FINE), lasting(frames, fine=AROUND, wide=WIDE))
    return Found(ratio, regions_of(ratio))


def ruled(scores: Maps) -> Found:
    """Regions above RULE times the root mean square, for a signal without a threshold."""
    ratio = scores / (RULE * np.sqrt((scores**2).mean((1, 2), keepdims=True)) + 1e-9)
    return Found(scores, np.stack([mask_of(r > 1, r) for r in ratio]))


def blur(maps: Maps, sigma: float) -> Maps:
    return np.stack([cv2.GaussianBlur(m, (0, 0), sigma, borderType=cv2.BORDER_REFLECT) for m in maps])


def net(frames: Tensor) -> Maps:
    """|x0(end) - x0(start)|, smoothed root mean square over the channels."""
    return blur((frames[-1] - frames[0]).square().mean(1).sqrt().numpy(), 0.5)


def ratio_to_wide(frames: Tensor) -> Found:
    change = net(frames)
    return ruled(change / (blur(change, 2 * SURROUNDINGS) + change.mean((1, 2), keepdims=True)))


def difference_of_gaussians(frames: Tensor) -> Found:
    change = net(frames)
    return ruled((change - blur(change, SURROUNDINGS)).clip(0))


def novelty(frames: Tensor) -> Found:
    """Net change relative to the earlier content: high where something new appears on empty ground."""
    middle = frames[(len(frames) - 1) // 2]
    change = blur((frames[-1] - middle).square().mean(1).sqrt().numpy(), 0.5)
    flat = middle.flatten(2)
    away = (middle - flat.median(2).values[..., None, None]).square().mean(1).numpy()
    before = np.sqrt(blur(away, 3.0).clip(0))
    return ruled(change / (before + np.sqrt(away.mean((1, 2), keepdims=True))))


def stall(frames: Tensor) -> Found:
    """Acceleration, then stall: the peak of a cell's change minus its last change."""
    change = np.stack([blur((b - a).square().mean(1).sqrt().numpy(), 0.5) for a, b in itertools.pairwise(frames)])
    return ruled((change.max(0) - change[-1]).clip(0))


def hysteresis(frames: Tensor) -> Found:
    """Two thresholds: regions above the lower one that contain a cell above the higher one."""
    low, high = lasting(frames, 2.5), lasting(frames, 4.0)
    masks = []
    for weak, strong in zip(low, high, strict=True):
        labels = np.asarray(cv2.connectedComponents((weak > 1).astype(np.uint8), connectivity=4)[1])
        seeded = np.isin(labels, np.unique(labels[strong > 1])) & (weak > 1)
        masks.append(mask_of(seeded, weak))
    return Found(low, np.stack(masks))


def split(frames: Tensor) -> Found:
    """Step changes; a region that is too large is searched again at twice the threshold instead of being dropped."""
    ratio = evidence_in(frames, REFERENCE).ratio.numpy()
    masks = []
    for image in ratio:
        mask, level = np.zeros(image.shape, bool), 1.0
        largest = SETTINGS.max_area * SETTINGS.scale(*image.shape) ** 2
        while (image > level).any() and level < 64:
            mask |= mask_of(image > level, image)
            everything = find_regions(image > level, image, without_filters(SETTINGS, image.size))[1]
            if all(region.area < largest for region in everything):
                break
            level *= 2
        masks.append(mask)
    return Found(uncut(frames, REFERENCE), np.stack(masks))


def verification(predict: Callable[[Tensor], Tensor], sigma: float, clean: Tensor) -> Found:
    """How far the prediction at T_c moves when it is re-noised and predicted again, over DRAWS draws.

    Args:
        predict: predicts clean images [B,C,H,W] from states at T_c, with alpha 1.
        sigma: noise level at T_c.
        clean: the prediction at T_c.
    """
    generator = torch.Generator().manual_seed(0)
    total = torch.zeros_like(clean[:, 0])
    for _ in range(DRAWS):
        total += (
            (predict(clean + sigma * torch.randn(clean.shape, generator=generator)) - clean).square().mean(1).sqrt()
        )
    return replace(ruled(blur(total.numpy(), 0.5)), calls=DRAWS)


def calibrated(scores: Maps, normal: Maps) -> Found:
    """Scores relative to each cell's mean and deviation over other runs [N,H,W] of the model; uses no labels."""
    z = (scores - normal.mean(0)) / (normal.std(0) + normal.std())
    return ruled(z.clip(0).astype(np.float32))


SIGNALS: dict[str, Callable[[Tensor], Found]] = {
    "reference": by_detector(REFERENCE),
    "reference, large regions split": split,
    "acceleration, then stall": stall,
    "net change": lambda frames: ruled(net(frames)),
    "net change / wide blur": ratio_to_wide,
    "net change, DoG": difference_of_gaussians,
    "novelty": novelty,
    "robust": by_detector(SETTINGS),
    "robust, surroundings left in": varied(wide=None),
    "robust, narrow surroundings": varied(wide=6 * FINE),
    "robust, two scales": two_scales,
    "robust, two thresholds": hysteresis,
    "robust, threshold 2.5": by_detector(replace(SETTINGS, mad_scale=2.5)),
    "robust, threshold 4": by_detector(replace(SETTINGS, mad_scale=4.0)),
}
