"""The signals that were tried for finding artifacts, each a map over a batch of recorded predictions."""

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
from asced_core.detect.detection import read_bank, without_filters
from asced_core.detect.lasting import AROUND, FINE, WIDE, LastingChange, lasting_ratio
from asced_core.detect.regions import find_regions
from asced_core.detect.single_steps import BankResult, ScoreBank
from asced_core.maps import BoolMap

Maps = NDArray[np.float32]
SETTINGS = DetectionSettings(base_size=256)
REFERENCE = DetectionSettings(mode="reference", base_size=256)
RULE = 2.0  # of signals without a threshold of their own: so many times the image's root mean square
SURROUNDINGS = 4.0  # cells
DRAWS = 2


@dataclass(frozen=True)
class Found:
    """What a signal says of a batch: scores [B,H,W], the regions' masks [B,H,W], model calls for an image."""

    scores: Maps
    masks: BoolMap
    calls: int = 0


def bank_of(frames: Tensor, settings: DetectionSettings) -> BankResult:
    """The bank's result for frames [N,B,C,H,W]."""
    shape: Any = tuple(frames.shape[1:])
    bank = ScoreBank(settings, shape, frames.device)
    for frame in frames:
        bank.push(frame)
    return bank.result()


def by_bank(settings: DetectionSettings) -> Callable[[Tensor], Found]:
    """The detector itself."""

    def signal(frames: Tensor) -> Found:
        found = read_bank(bank_of(frames, settings), settings)
        return Found(np.stack([d.ratio for d in found]), np.stack([d.mask for d in found]))

    return signal


def lasting(frames: Tensor, scale: float = 3.0, **smoothing: Any) -> Maps:
    """How many times its threshold a cell's lasting change is, [B,H,W], with other Gaussians than robust's."""
    size: Any = tuple(frames.shape[-2:])
    change = LastingChange(size, SETTINGS.scale(*size), frames.device, **smoothing)
    for frame in frames:
        change.push(frame)
    return lasting_ratio(change.share(), scale).numpy()


def regions_of(ratio: Maps) -> BoolMap:
    return np.stack([find_regions(r > 0, r, SETTINGS)[0] for r in ratio])


def varied(**smoothing: Any) -> Callable[[Tensor], Found]:
    """Robust with other Gaussians."""

    def signal(frames: Tensor) -> Found:
        ratio = lasting(frames, **smoothing)
        return Found(ratio, regions_of(ratio))

    return signal


def two_scales(frames: Tensor) -> Found:
    """The larger one of small and of middling changes."""
    ratio = np.maximum(lasting(frames, wide=6 * FINE), lasting(frames, fine=AROUND, wide=WIDE))
    return Found(ratio, regions_of(ratio))


def ruled(scores: Maps) -> Found:
    """Regions above RULE times the root mean square of a signal that has no threshold."""
    ratio = scores / (RULE * np.sqrt((scores**2).mean((1, 2), keepdims=True)) + 1e-9)
    return Found(scores, np.stack([find_regions(r > 1, r, SETTINGS)[0] for r in ratio]))


def blur(maps: Maps, sigma: float) -> Maps:
    return np.stack([cv2.GaussianBlur(m, (0, 0), sigma, borderType=cv2.BORDER_REFLECT) for m in maps])


def net(frames: Tensor) -> Maps:
    """|x0(end) - x0(start)|, root mean square over channels, smoothed."""
    return blur((frames[-1] - frames[0]).square().mean(1).sqrt().numpy(), 0.5)


def ratio_to_wide(frames: Tensor) -> Found:
    change = net(frames)
    return ruled(change / (blur(change, 2 * SURROUNDINGS) + change.mean((1, 2), keepdims=True)))


def difference_of_gaussians(frames: Tensor) -> Found:
    change = net(frames)
    return ruled((change - blur(change, SURROUNDINGS)).clip(0))


def novelty(frames: Tensor) -> Found:
    """Net change over what stood there before: something new where nothing was."""
    middle = frames[(len(frames) - 1) // 2]
    change = blur((frames[-1] - middle).square().mean(1).sqrt().numpy(), 0.5)
    flat = middle.flatten(2)
    away = (middle - flat.median(2).values[..., None, None]).square().mean(1).numpy()
    stood = np.sqrt(blur(away, 3.0).clip(0))
    return ruled(change / (stood + np.sqrt(away.mean((1, 2), keepdims=True))))


def stall(frames: Tensor) -> Found:
    """Acceleration, then stall: the peak of a cell's change less its last change."""
    change = np.stack([blur((b - a).square().mean(1).sqrt().numpy(), 0.5) for a, b in itertools.pairwise(frames)])
    return ruled((change.max(0) - change[-1]).clip(0))


def hysteresis(frames: Tensor) -> Found:
    """Two thresholds: regions of the lower one that hold a cell of the higher one."""
    low, high = lasting(frames, 2.5), lasting(frames, 4.0)
    masks = []
    for weak, strong in zip(low, high, strict=True):
        labels = np.asarray(cv2.connectedComponents((weak > 0).astype(np.uint8), connectivity=4)[1])
        seeded = np.isin(labels, np.unique(labels[strong > 0])) & (weak > 0)
        masks.append(find_regions(seeded, weak, SETTINGS)[0])
    return Found(low, np.stack(masks))


def split(frames: Tensor) -> Found:
    """Step changes; a region that is too large is looked into again with a doubled threshold, in place of dropped."""
    ratio = bank_of(frames, REFERENCE).ratio.numpy()
    masks = []
    for image in ratio:
        mask, level = np.zeros(image.shape, bool), 1.0
        largest = SETTINGS.max_area * SETTINGS.scale(*image.shape) ** 2
        while (image > level).any() and level < 64:
            mask |= find_regions(image > level, image, SETTINGS)[0]
            everything = find_regions(image > level, image, without_filters(SETTINGS, image.size))[1]
            if all(region.area < largest for region in everything):
                break
            level *= 2
        masks.append(mask)
    return Found(ratio, np.stack(masks))


def verification(predict: Callable[[Tensor], Tensor], sigma: float, clean: Tensor) -> Found:
    """How far the prediction at T_c moves where it is re-noised and predicted again, over DRAWS draws.

    Args:
        predict: clean images [B,C,H,W] of states at T_c, with alpha 1.
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
    """Scores against mean and deviation of each cell over other runs [N,H,W] of the same model; no label is used."""
    z = (scores - normal.mean(0)) / (normal.std(0) + normal.std())
    return ruled(z.clip(0).astype(np.float32))


SIGNALS: dict[str, Callable[[Tensor], Found]] = {
    "reference": by_bank(REFERENCE),
    "reference, large regions split": split,
    "acceleration, then stall": stall,
    "net change": lambda frames: ruled(net(frames)),
    "net change / wide blur": ratio_to_wide,
    "net change, DoG": difference_of_gaussians,
    "novelty": novelty,
    "robust": by_bank(SETTINGS),
    "robust, surroundings left in": varied(wide=None),
    "robust, narrow surroundings": varied(wide=6 * FINE),
    "robust, two scales": two_scales,
    "robust, two thresholds": hysteresis,
    "robust, threshold 2.5": by_bank(replace(SETTINGS, mad_scale=2.5)),
    "robust, threshold 4": by_bank(replace(SETTINGS, mad_scale=4.0)),
}
