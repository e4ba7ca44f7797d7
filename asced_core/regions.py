"""A boolean map -> artifact regions: connected components, filters of size and width, dilation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from .settings import DetectionSettings

BoolMap = NDArray[np.bool_]


@dataclass(frozen=True)
class Region:
    """One artifact region, in cells of the signal.

    Attributes:
        box: left, top, right, bottom; the right and bottom edges are exclusive.
        area: number of cells.
        score: mean over the region of how many times the threshold was exceeded, 1 to 100.
    """

    box: tuple[int, int, int, int]
    area: int
    score: float


def find_regions(raw: BoolMap, ratio: NDArray[np.float32], settings: DetectionSettings) -> tuple[BoolMap, list[Region]]:
    """Keeps the components of a raw mask that have the size and width of an artifact.

    4-connected components; ``min_area < area < max_area``, both strict; a full ``min_width`` square must lie
    inside the component and the image. All sizes are multiplied by the settings' scale.

    Args:
        raw: bool [H,W].
        ratio: float32 [H,W], the scores to average; see BankResult.
        settings: sizes.

    Returns:
        The mask of the kept regions, not expanded, and the regions, strongest first.
    """
    f = settings.scale(*raw.shape)
    found = cv2.connectedComponentsWithStats(raw.astype(np.uint8), connectivity=4)
    labels, stats = np.asarray(found[1]), np.asarray(found[2])
    area = stats[:, cv2.CC_STAT_AREA]
    keep = (area > settings.min_area * f * f) & (area < settings.max_area * f * f)
    width = round(settings.min_width * f)
    if width > 1:
        # A square of set cells is connected: eroding the whole mask once finds the wide components.
        square = np.ones((width, width), np.uint8)
        eroded = cv2.erode(raw.astype(np.uint8), square, borderType=cv2.BORDER_CONSTANT, borderValue=0)
        wide = np.zeros(len(stats), bool)
        wide[np.unique(labels[eroded > 0])] = True
        keep &= wide
    keep[0] = False  # the background
    regions = [_region(labels, stats, ratio, int(label)) for label in np.flatnonzero(keep)]
    return keep[labels], sorted(regions, key=lambda region: -region.score)


def _region(labels: NDArray[Any], stats: NDArray[Any], ratio: NDArray[np.float32], label: int) -> Region:
    left, top, width, height, area = (int(v) for v in stats[label])
    window = np.s_[top : top + height, left : left + width]
    inside = labels[window] == label
    return Region((left, top, left + width, top + height), area, float(ratio[window][inside].mean()))


def feather(mask: BoolMap, width: float) -> NDArray[np.float32]:
    """Weights float32 [H,W] that rise from 0 outside of a bool mask to 1 within ``width`` pixels inside of it."""
    if width <= 0:
        return mask.astype(np.float32)
    depth = cv2.distanceTransform(np.pad(mask, 1, mode="edge").astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    return np.clip(depth[1:-1, 1:-1] / (width + 1), 0, 1).astype(np.float32)


def dilate(mask: BoolMap, cells: int) -> BoolMap:
    """Grows a bool [H,W] mask by a square of ``2 * cells + 1``."""
    if cells <= 0 or not mask.any():
        return mask
    return cv2.dilate(mask.astype(np.uint8), np.ones((2 * cells + 1, 2 * cells + 1), np.uint8)).astype(bool)


def touched_cells(mask: BoolMap, height: int, width: int) -> BoolMap:
    """The cells of a grid [height,width] over the same picture that hold any part of a bool [H,W] mask.

    Exact for any two sizes: a cell covers ``[i H / height, (i + 1) H / height)``.
    """
    if mask.shape == (height, width):
        return mask
    counts = cv2.integral(mask.astype(np.uint8))  # [H+1,W+1]
    (top, bottom), (left, right) = (_cover(n, cells) for n, cells in zip(mask.shape, (height, width), strict=True))
    inside = counts[bottom][:, right] - counts[top][:, right] - counts[bottom][:, left] + counts[top][:, left]
    return inside > 0


def _cover(length: int, cells: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """First and last plus one pixel of each of so many cells along an axis."""
    cell = np.arange(cells)
    return cell * length // cells, -(-(cell + 1) * length // cells)


def resize_mask(mask: BoolMap, height: int, width: int) -> BoolMap:
    """A bool [H,W] mask at another size: no part of it is lost where it shrinks, no cell is blurred where it grows."""
    if mask.shape == (height, width):
        return mask
    if height <= mask.shape[0] and width <= mask.shape[1]:
        return touched_cells(mask, height, width)
    return cv2.resize(mask.astype(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST_EXACT).astype(bool)
