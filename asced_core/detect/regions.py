"""A boolean map -> artifact regions: connected components, filters of size and width."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ..maps import BoolMap
from ..settings import DetectionSettings


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
