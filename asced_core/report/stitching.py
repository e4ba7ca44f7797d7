"""The runs of a tiled loop as one report: each tile is located in the final image by its content."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from ..detect.regions import MOST_REGIONS, Region, resize_labels
from ..maps import Picture
from .outcome import plural
from .report import ImageReport, Report, without_trace

TOLERANCE = 12.0  # RMS difference, of 255 levels, up to which a tile matches; other tiles are far above it
INNER = 0.125  # share of a tile's side; this border is ignored, because tiled loops blend it
COVERED = 0.5  # share of a tile; if newer tiles cover more than this, the tile is dropped


@dataclass(frozen=True, eq=False)
class Tile:
    """One image of one run of the loop.

    Attributes:
        picture: the decoded image, RGB uint8 [h,w,3].
        report: the report of its run.
        place: its index in that report.
    """

    picture: Picture
    report: Report
    place: int


def stitch(whole: Picture, newest_first: Iterable[Tile]) -> Report:
    """One report, in pixels of the final image, of all tiles located in it.

    Args:
        whole: the final image, RGB uint8 [H,W,3].
        newest_first: the tiles; if two cover the same place, the newer one counts.

    Raises:
        ValueError: no tile was located.
    """
    height, width = whole.shape[:2]
    labels, ratio = np.zeros((height, width), np.int64), np.zeros((height, width), np.float16)
    taken, seen = np.zeros((height, width), bool), 0
    used: list[Tile] = []
    regions: list[Region] = []
    for tile in newest_first:
        seen += 1
        corner = _find(whole, tile.picture)
        if corner is None:
            continue
        here = np.s_[corner[0] : corner[0] + tile.picture.shape[0], corner[1] : corner[1] + tile.picture.shape[1]]
        if taken[here].mean() > COVERED:
            continue
        taken[here] = True
        _put(tile, labels[here], ratio[here], len(regions))
        regions += _moved(tile, corner)
        used.append(tile)
    if not used:
        raise ValueError(
            f"None of the {seen} tiles of this RUN is part of this IMAGE: connect the final image, before any scaling, "
            "and the VAE that decoded the tiles."
        )
    order = sorted(range(len(regions)), key=lambda n: -regions[n].score)[:MOST_REGIONS]
    label_of = np.zeros(len(regions) + 1, np.uint16)
    label_of[[n + 1 for n in order]] = np.arange(1, len(order) + 1)
    score = regions[order[0]].score if regions else 0.0
    images = [tile.report.images[tile.place] for tile in used]
    first = next((tile.report for tile in used if tile.report.decision is not None), used[0].report)
    runs = list({id(tile.report): tile.report for tile in used}.values())
    unseen = sum(not image.looked_at for image in images)
    notes = [f"Stitched from {plural(len(used), 'tile')}."]
    if unseen:
        notes.insert(0, f"Not watched: {unseen} of {plural(len(used), 'tile')}.")
    facts = replace(
        first.run,
        image_size=(height, width),
        frames=1,
        model_calls=sum(r.run.model_calls for r in runs),
        extra_model_calls=sum(r.run.extra_model_calls for r in runs),
        seconds_model=sum(r.run.seconds_model for r in runs),
        seconds_asced=sum(r.run.seconds_asced for r in runs),
    )
    return replace(
        first,
        images=(
            ImageReport(
                0,
                score,
                tuple(regions[n] for n in order),
                corrected=any(image.corrected for image in images),
                measurable=all(image.measurable for image in images),
                looked_at=not unseen or bool(regions),
                too_large=sum(image.too_large for image in images),
            ),
        ),
        # nothing found, but not everywhere looked at: that is no clean image
        decision=first.decision if regions or not unseen else None,
        labels=label_of[labels][None],
        ratios=ratio[None],
        **without_trace(1),
        predictions=None,
        run=facts,
        notes=tuple(notes),
    )


def _find(whole: Picture, tile: Picture) -> tuple[int, int] | None:
    """Top and left of a tile in the image; None if it is not there."""
    height, width = tile.shape[:2]
    if height > whole.shape[0] or width > whole.shape[1]:
        return None
    top, left = int(height * INNER), int(width * INNER)
    inner = tile[top : height - top, left : width - left]
    # only positions at which the whole tile fits into the image
    field = whole[top : whole.shape[0] - top, left : whole.shape[1] - left]
    error = cv2.matchTemplate(field, inner, cv2.TM_SQDIFF)
    best = np.unravel_index(int(error.argmin()), error.shape)
    rms = float(np.sqrt(max(0.0, float(error[best])) / inner.size))
    return (int(best[0]), int(best[1])) if rms <= TOLERANCE else None


def _put(tile: Tile, labels: NDArray[np.int64], ratio: NDArray[np.float16], before: int) -> None:
    """Writes a tile's regions, numbered from ``before + 1``, where no newer tile has a region."""
    height, width = labels.shape
    own = resize_labels(tile.report.labels[tile.place], height, width).astype(np.int64)
    free = (labels == 0) & (own > 0)
    labels[free] = own[free] + before
    scaled = cv2.resize(
        tile.report.ratios[tile.place].astype(np.float32), (width, height), interpolation=cv2.INTER_NEAREST_EXACT
    )
    np.maximum(ratio, scaled.astype(np.float16), out=ratio)


def _moved(tile: Tile, corner: tuple[int, int]) -> list[Region]:
    """The tile's regions in pixels of the final image."""
    cells, size = tile.report.labels.shape[1:], tile.picture.shape[:2]
    down, across = size[0] / cells[0], size[1] / cells[1]
    moved = []
    for region in tile.report.images[tile.place].regions:
        left, right = (round(corner[1] + edge * across) for edge in region.box[::2])
        top, bottom = (round(corner[0] + edge * down) for edge in region.box[1::2])
        moved.append(Region((left, top, right, bottom), round(region.area * down * across), region.score))
    return moved
