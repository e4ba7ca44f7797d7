"""A boolean map -> labeled artifact regions: connected components, size and width filters, dilation."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from ..maps import BoolMap, dilate, resize_mask
from ..settings import DetectionSettings
from .certainty import Certainty

LabelMap = NDArray[np.uint16]  # [H,W]: n in the n-th region, 0 elsewhere
MOST_REGIONS = int(np.iinfo(np.uint16).max)


@dataclass(frozen=True)
class Region:
    """One artifact region, in cells of the signal.

    Attributes:
        box: left, top, right, bottom; the right and bottom edges are exclusive.
        area: number of cells.
        score: change as a multiple of the threshold, averaged over the region, 1 to 100.
        confidence: how likely the mark is right, 0 to 1, see Certainty; None if that is unknown.
    """

    box: tuple[int, int, int, int]
    area: int
    score: float
    confidence: float | None = None


def find_regions(
    raw: BoolMap, ratio: NDArray[np.float32], settings: DetectionSettings, certainty: Certainty | None = None
) -> tuple[LabelMap, list[Region], int]:
    """Keeps the components of a raw mask that pass the size and width filters.

    Components are 4-connected. A component is kept if ``min_area < area < max_area`` and a full ``min_width`` square
    fits inside it. All sizes are multiplied by the settings' scale.

    Args:
        raw: bool [H,W].
        ratio: float32 [H,W], averaged for the scores; see Evidence.
        settings: size filters.
        certainty: gives the regions' confidence; None leaves it unknown.

    Returns:
        Labels, uint16 [H,W]: n in the n-th region, counted from 1, 0 elsewhere, not dilated. The regions, strongest
        first. And how many components were dropped only because they are not smaller than ``max_area``.
    """
    f = settings.scale(*raw.shape)
    cells = np.ascontiguousarray(raw).view(np.uint8)
    found = cv2.connectedComponentsWithStats(cells, connectivity=4)
    components, stats = np.asarray(found[1], np.int32), np.asarray(found[2], np.int32)
    area = stats[:, cv2.CC_STAT_AREA]
    keep = area > settings.min_area * f * f
    width = round(settings.min_width * f)
    if width > 1:
        # A square of set cells is connected, so eroding the whole mask once finds the wide components.
        square = np.ones((width, width), np.uint8)
        eroded = cv2.erode(cells, square, borderType=cv2.BORDER_CONSTANT, borderValue=0)
        wide = np.zeros(len(stats), bool)
        wide[components[eroded > 0]] = True
        keep &= wide
    keep[0] = False  # the background
    small = area < settings.max_area * f * f
    too_large = int((keep & ~small).sum())
    keep &= small
    kept = np.flatnonzero(keep)
    scores = _mean_of_each(components, raw, ratio, len(stats))[kept]
    order = np.argsort(-scores, kind="stable")[:MOST_REGIONS]
    kept, scores = kept[order], scores[order]
    label_of = np.zeros(len(stats), np.uint16)
    label_of[kept] = np.arange(1, len(kept) + 1)
    return label_of.take(components), _regions(stats[kept], scores, certainty), too_large


def _mean_of_each(
    components: NDArray[np.int32], raw: BoolMap, values: NDArray[np.float32], count: int
) -> NDArray[np.float64]:
    """Mean of the values over each component; that of the background is 0."""
    marked = np.flatnonzero(raw)
    of = components.ravel()[marked]
    return np.bincount(of, values.ravel()[marked], count) / np.maximum(np.bincount(of, minlength=count), 1)


def _regions(stats: NDArray[np.int32], scores: NDArray[np.float64], certainty: Certainty | None) -> list[Region]:
    shares = [None] * len(scores) if certainty is None else certainty.of_all(scores).round(3).tolist()
    return [
        Region((left, top, left + width, top + height), area, score, share)
        for (left, top, width, height, area), score, share in zip(stats.tolist(), scores.tolist(), shares, strict=True)
    ]


def grow_labels(labels: LabelMap, cells: int) -> LabelMap:
    """Dilates every region by a square of ``2 * cells + 1``; a new cell joins the nearest region."""
    if cells <= 0 or not labels.any():
        return labels
    inside = labels > 0
    _, nearest = cv2.distanceTransformWithLabels(
        (~inside).astype(np.uint8), cv2.DIST_C, cv2.DIST_MASK_3, labelType=cv2.DIST_LABEL_PIXEL
    )
    label_of = np.zeros(int(nearest.max()) + 1, np.uint16)
    label_of[nearest[inside]] = labels[inside]
    return np.where(dilate(inside, cells), label_of[nearest], np.uint16(0))


def resize_labels(labels: LabelMap, height: int, width: int) -> LabelMap:
    """Labels [H,W] at another size: downscaling loses no region, upscaling blurs no cell."""
    out = np.zeros((height, width), np.uint16)
    for label in np.unique(labels[labels > 0])[::-1]:  # strongest last, so that it wins a cell that two regions touch
        out[resize_mask(labels == label, height, width)] = label
    return out
