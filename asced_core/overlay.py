"""Pictures with the artifact regions drawn in, and contact sheets. RGB uint8 throughout."""

from __future__ import annotations

import math
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from .regions import Region

Picture = NDArray[np.uint8]

OUTLINE = (255, 64, 0)  # vermilion: apart from skin, sky and leaves, and for most colour-blind eyes
MIN_SIDE = 256  # smaller pictures are enlarged first, or their outlines would hide them


def enlarge(picture: Picture, side: int) -> Picture:
    """Whole-number nearest-neighbour copy whose shorter side is at least ``side``, [H,W,3]."""
    factor = max(1, math.ceil(side / min(picture.shape[:2])))
    return picture.repeat(factor, axis=0).repeat(factor, axis=1)


def draw_overlay(
    picture: Picture,
    mask: NDArray[np.bool_],
    regions: Sequence[Region] = (),
    signal_size: tuple[int, int] | None = None,
    opacity: float = 0.45,
    colour: tuple[int, int, int] = OUTLINE,
) -> Picture:
    """The picture with its artifact regions tinted, outlined and labelled with their scores.

    Args:
        picture: uint8 [H,W,3].
        mask: bool of the same height and width.
        regions: for the labels; their boxes are in cells of the signal.
        signal_size: height and width of the signal that the boxes refer to.
        opacity: of the tint, 0 to 1.
        colour: of tint and outline, RGB.

    Raises:
        ValueError: mask and picture differ in size.
    """
    if mask.shape != picture.shape[:2]:
        raise ValueError(f"The mask is {mask.shape} and the picture {picture.shape[:2]}; both need one size.")
    canvas = enlarge(picture, MIN_SIDE).copy()
    height, width = canvas.shape[:2]
    big = cv2.resize(mask.astype(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST)
    inside = big > 0
    tint = np.array(colour, np.float32)
    canvas[inside] = (canvas[inside] * (1 - opacity) + tint * opacity).astype(np.uint8)
    contours, _ = cv2.findContours(big, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(canvas, contours, -1, colour, max(1, height // 256))
    if signal_size is not None:
        for region in regions:
            left, top = region.box[0] * width // signal_size[1], region.box[1] * height // signal_size[0]
            _label(canvas, f"{region.score:.1f}", left, top)
    return canvas


def _label(canvas: Picture, text: str, left: int, top: int) -> None:
    size = canvas.shape[0] / 480
    thickness = max(1, round(size * 1.5))
    (width, height), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, size, thickness)
    left = min(max(0, left), canvas.shape[1] - width - 2)
    base = top - 3 if top - 3 - height > 0 else top + height + 3
    cv2.putText(canvas, text, (left, base), cv2.FONT_HERSHEY_SIMPLEX, size, (0, 0, 0), thickness + 2, cv2.LINE_AA)
    cv2.putText(canvas, text, (left, base), cv2.FONT_HERSHEY_SIMPLEX, size, (255, 255, 255), thickness, cv2.LINE_AA)


GAP = 4  # white pixels between the pictures of a sheet


def contact_sheet(pictures: Sequence[Picture], columns: int | None = None, gap: int = GAP) -> Picture:
    """Pictures of one size side by side on white, in rows.

    Raises:
        ValueError: there is none, or their sizes differ.
    """
    if not pictures or len({p.shape for p in pictures}) != 1:
        raise ValueError("A contact sheet needs at least one picture, and all of one size.")
    columns = columns or math.ceil(math.sqrt(len(pictures)))
    rows = math.ceil(len(pictures) / columns)
    height, width = pictures[0].shape[:2]
    sheet = np.full((rows * (height + gap) - gap, columns * (width + gap) - gap, 3), 255, np.uint8)
    for i, picture in enumerate(pictures):
        top, left = i // columns * (height + gap), i % columns * (width + gap)
        sheet[top : top + height, left : left + width] = picture
    return sheet


def split_sheet(sheet: Picture, count: int, gap: int = GAP) -> list[Picture]:
    """The pictures of a contact sheet that was made with its usual number of columns."""
    columns = math.ceil(math.sqrt(count))
    rows = math.ceil(count / columns)
    height, width = (sheet.shape[0] + gap) // rows, (sheet.shape[1] + gap) // columns
    corners = [(i // columns * height, i % columns * width) for i in range(count)]
    return [sheet[top : top + height - gap, left : left + width - gap] for top, left in corners]
